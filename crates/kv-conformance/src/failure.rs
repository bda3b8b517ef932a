//! How a check ends.

use kv_core::{CacheError, ConfigError};

/// The check passed, or the reason why it did not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The strategy does what the check requires.
    Passed,
    /// The check does not apply to this instance, for this reason.
    Skipped(String),
    /// The check applies, and could not be run here, for this reason.
    NotRun(String),
}

/// The result of a check.
pub type Outcome = Result<Verdict, Failure>;

/// What went wrong, and where to look for the cause.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{what}\n  hint: {mend}")]
pub struct Failure {
    /// The expected and the actual result, with numbers.
    pub what: String,
    /// The usual cause or fix.
    pub mend: String,
    /// Whether the cache reported that it is full, which ends a check and may be correct.
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
        Failure { full, ..Failure::new(what, "return only the errors that the method documents") }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::new(
            format!("the cache could not be built: {error}"),
            "give the suite a config that accepts a key_dim of 64 and a value_dim of 32",
        )
    }
}

/// Fails unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $mend:expr, $($what:tt)+) => {
        // Bound to a name because a comparison with NaN must count as failed, and `!(a <= b)` looks like a mistake.
        let holds: bool = $condition;
        if !holds {
            return Err($crate::Failure::new(format!($($what)+), $mend));
        }
    };
}

pub(crate) use ensure;
