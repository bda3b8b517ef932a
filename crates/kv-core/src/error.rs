//! What can go wrong between a decoder and a cache, and while a cache is configured.

use crate::{GeometryError, SeqId};

/// A refused operation. Whatever it says, the cache is as it was before the call.
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
    /// Something was to be read before anything was written.
    #[error("layer {layer} of {seq} is empty: append keys and values before attending")]
    Empty {
        /// The sequence.
        seq: SeqId,
        /// The layer.
        layer: usize,
    },
    /// The sequence was closed or never opened.
    #[error("{seq} is not open")]
    Closed {
        /// The sequence.
        seq: SeqId,
    },
    /// The strategy cannot do this.
    #[error("`{strategy}` does not support {operation}: {reason}")]
    Unsupported {
        /// The strategy's id.
        strategy: &'static str,
        /// What was asked for.
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
        /// Where the refused step would start.
        start: usize,
    },
    /// `append`, `attend` or `commit` without a `begin`.
    #[error("{seq} is not in a step: call `begin` first")]
    NoStep {
        /// The sequence.
        seq: SeqId,
    },
    /// Layers must be appended in order, each once a step, and all before `commit`.
    #[error("{seq} expects layer {expected} next, not {layer}")]
    LayerOrder {
        /// The sequence.
        seq: SeqId,
        /// The layer that is due; the number of layers if all were appended.
        expected: usize,
        /// The layer that came; the number of layers for a `commit` that came too early.
        layer: usize,
    },
    /// The rows handed over do not have the geometry's shape.
    #[error("{what} have shape {actual:?}, expected {expected:?}")]
    Shape {
        /// Which rows.
        what: &'static str,
        /// `[tokens, heads, dim]` as they came.
        actual: [usize; 3],
        /// `[tokens, heads, dim]` as they should be.
        expected: [usize; 3],
    },
    /// A sequence cannot be cut to a length it does not have.
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

/// A config no strategy can be built from.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The table does not fit the config's type: an unknown key, a wrong type, a missing value.
    #[error("{message}")]
    Parse {
        /// What the parser says, the key's name and what would be right included.
        message: String,
    },
    /// A value is impossible.
    #[error("`{key}` is {value}: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value, as written.
        value: String,
        /// What would be right.
        reason: String,
    },
    /// The geometry is impossible.
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
    #[error("unknown strategy `{id}`; known are {}", known.join(", "))]
    Unknown {
        /// The id asked for.
        id: String,
        /// The ids there are.
        known: Vec<&'static str>,
    },
}
