//! Errors of a cache, of its config and of the registry.

use crate::{GeometryError, SeqId};

/// A refused operation. The cache is as it was before the call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The tokens of a step do not fit.
    #[error("cache is full: {needed} more tokens needed, {free} free")]
    Full {
        /// Tokens the step would add.
        needed: usize,
        /// Tokens that would still fit.
        free: usize,
    },
    /// A layer was read before anything was written to it.
    #[error("layer {layer} of {seq} is empty: append keys and values before attending")]
    Empty {
        /// The sequence.
        seq: SeqId,
        /// The layer.
        layer: usize,
    },
    /// The sequence has been closed, or was never opened.
    #[error("{seq} is not open")]
    Closed {
        /// The sequence.
        seq: SeqId,
    },
    /// The strategy does not support the operation.
    #[error("`{strategy}` does not support {operation}: {reason}")]
    Unsupported {
        /// The strategy's id.
        strategy: &'static str,
        /// The operation.
        operation: &'static str,
        /// Why not.
        reason: String,
    },
    /// A step must continue where the sequence ends.
    #[error("{seq} has seen {seen} tokens, so a step must start at position {seen}, not {start}")]
    Misplaced {
        /// The sequence.
        seq: SeqId,
        /// Tokens committed so far.
        seen: usize,
        /// The position at which the refused step would start.
        start: usize,
    },
    /// `append`, `attend` or `commit` without a `begin`.
    #[error("{seq} is not in a step: call `begin` first")]
    NoStep {
        /// The sequence.
        seq: SeqId,
    },
    /// Layers must be appended in order, each once per step, and all before `commit`.
    #[error("{seq} expects layer {expected} next, not {layer}")]
    LayerOrder {
        /// The sequence.
        seq: SeqId,
        /// The expected layer, or the number of layers if all were appended.
        expected: usize,
        /// The layer that was passed, or the number of layers for a `commit` that came too early.
        layer: usize,
    },
    /// The rows do not have the geometry's shape.
    #[error("{what} have shape {actual:?}, expected {expected:?}")]
    Shape {
        /// Which rows.
        what: &'static str,
        /// The actual shape, `[tokens, heads, dim]`.
        actual: [usize; 3],
        /// The expected shape, `[tokens, heads, dim]`.
        expected: [usize; 3],
    },
    /// A sequence cannot be truncated to more tokens than it has seen.
    #[error("{seq} has seen {seen} tokens and cannot be truncated to {len}")]
    TruncateBeyondEnd {
        /// The sequence.
        seq: SeqId,
        /// Tokens committed so far.
        seen: usize,
        /// The length asked for.
        len: usize,
    },
}

/// A config from which no strategy can be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The table does not fit the config's type: an unknown key, a wrong type, a missing value.
    #[error("{message}")]
    Parse {
        /// The parser's message, with the name of the key and what would be right.
        message: String,
    },
    /// A value is invalid.
    #[error("`{key}` is {value}: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value, as written.
        value: String,
        /// What would be right.
        reason: String,
    },
    /// The geometry is invalid.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
}

impl ConfigError {
    /// A [`ConfigError::Value`].
    pub fn value(key: &'static str, value: impl ToString, reason: impl ToString) -> ConfigError {
        ConfigError::Value { key, value: value.to_string(), reason: reason.to_string() }
    }
}

/// A strategy that cannot be registered or found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No strategy has this id.
    #[error("unknown strategy `{id}`; known strategies: {}", known.join(", "))]
    Unknown {
        /// The requested id.
        id: String,
        /// The known ids.
        known: Vec<&'static str>,
    },
}
