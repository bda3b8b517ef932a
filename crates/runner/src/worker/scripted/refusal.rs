//! Why a script could not be run.

use kv_core::CacheError;
use kv_model::ModelError;
use kv_report::Status;
use kv_script::ScriptError;

use crate::recording::ReplayError;

/// Why a script ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The strategy cannot do what the script asks for.
    Unsupported(String),
    /// The sequence takes no more tokens: the cache is full, or reaches no further.
    Full(String),
    /// It failed.
    Failed(String),
}

impl Refusal {
    pub(super) fn status(&self) -> Status {
        match self {
            Refusal::Unsupported(_) => Status::Unsupported,
            Refusal::Full(_) | Refusal::Failed(_) => Status::Failed,
        }
    }

    pub(super) fn reason(&self) -> &str {
        match self {
            Refusal::Unsupported(reason) | Refusal::Full(reason) | Refusal::Failed(reason) => reason,
        }
    }
}

/// An error that may be a cache's.
pub(super) trait MayBeCaches: std::fmt::Display {
    /// The cache's error, if it is one.
    fn of_cache(&self) -> Option<&CacheError>;

    /// Whether the sequence takes no more tokens.
    fn is_full(&self) -> bool {
        matches!(self.of_cache(), Some(CacheError::Full { .. }))
    }
}

impl MayBeCaches for ModelError {
    fn of_cache(&self) -> Option<&CacheError> {
        if let ModelError::Cache(error) = self { Some(error) } else { None }
    }

    fn is_full(&self) -> bool {
        matches!(self, ModelError::Reach { .. } | ModelError::Cache(CacheError::Full { .. }))
    }
}

impl MayBeCaches for ReplayError {
    fn of_cache(&self) -> Option<&CacheError> {
        match self {
            ReplayError::Cache(error) => Some(error),
            ReplayError::Model(error) => error.of_cache(),
            _ => None,
        }
    }
}

impl MayBeCaches for CacheError {
    fn of_cache(&self) -> Option<&CacheError> {
        Some(self)
    }
}

impl<E: MayBeCaches> From<ScriptError<E>> for Refusal {
    fn from(error: ScriptError<E>) -> Refusal {
        match &error {
            ScriptError::Driver(driver) if matches!(driver.of_cache(), Some(CacheError::Unsupported { .. })) => {
                Refusal::Unsupported(error.to_string())
            }
            ScriptError::Driver(driver) if driver.is_full() => Refusal::Full(error.to_string()),
            _ => Refusal::Failed(error.to_string()),
        }
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Refusal {
        Refusal::Failed(reason)
    }
}
