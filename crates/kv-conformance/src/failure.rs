//! How a check ends.

use kv_core::{CacheError, ConfigError};

/// A check passed, or says why it did not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The strategy does what the check asks.
    Passed,
    /// The check does not apply to this instance, for this reason.
    Skipped(String),
    /// The check applies, and could not be run here, for this reason.
    NotRun(String),
}

/// What a check answers.
pub type Outcome = Result<Verdict, Failure>;

/// A broken promise, and where to look for it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{what}\n  mend: {mend}")]
pub struct Failure {
    /// What was expected and what came, with numbers.
    pub what: String,
    /// What is usually wrong then.
    pub mend: String,
    /// Whether the cache said that it is full, which ends a check and need not be wrong.
    pub(crate) full: bool,
}

impl Failure {
    /// A failure.
    pub fn new(what: impl Into<String>, mend: impl Into<String>) -> Failure {
        Failure { what: what.into(), mend: mend.into(), full: false }
    }

    /// The same, with when it happened in front.
    pub(crate) fn when(self, when: &str) -> Failure {
        Failure { what: format!("{when}: {}", self.what), ..self }
    }
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Failure {
        let what = format!("the cache refused a legal call: {error}");
        let full = matches!(error, CacheError::Full { .. });
        Failure { full, ..Failure::new(what, "a refusal must have one of the reasons its method documents") }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::new(format!("the cache could not be built: {error}"), "give the suite a config that fits keys of 64 and values of 32")
    }
}

/// Fails unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $mend:expr, $($what:tt)+) => {
        // Bound, because a comparison with NaN must count as failed and `!(a <= b)` reads as a mistake.
        let holds: bool = $condition;
        if !holds {
            return Err($crate::Failure::new(format!($($what)+), $mend));
        }
    };
}

pub(crate) use ensure;
