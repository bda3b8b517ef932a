//! What can go wrong while a model is loaded or run.

use kv_core::{CacheError, GeometryError};

use crate::excerpt::excerpt;

/// A model that cannot be loaded. The message names the key, tensor or file; of a long text that it echoes it shows
/// the start and the end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file is not what it should be, or ends too early.
    #[error("not a readable {format} file: {}", excerpt(reason))]
    File {
        /// The format expected.
        format: &'static str,
        /// Where it stops making sense.
        reason: String,
    },
    /// A metadata key is missing, has the wrong type, or an impossible value.
    #[error("key `{}` {}", excerpt(key), excerpt(reason))]
    Key {
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor is missing, or is not what the model needs.
    #[error("tensor `{}` {}", excerpt(name), excerpt(reason))]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder lacks files of the weights, or does not say which they are.
    #[error("{}", excerpt(reason))]
    Files {
        /// Which, and what would be right.
        reason: String,
    },
    /// A file cannot be read to its end.
    #[error("cannot read {}", excerpt(what))]
    Read {
        /// The tensor, or the part of the file.
        what: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The system has no memory for the matrices.
    #[error("no memory for the {bytes} bytes of the matrices")]
    Memory {
        /// Bytes of all matrices.
        bytes: usize,
        /// What the system says.
        source: std::io::Error,
    },
    /// The hyperparameters contradict each other.
    #[error("impossible hyperparameters")]
    Geometry(#[from] GeometryError),
    /// The model came without a tokenizer, so that text cannot be turned into ids or back.
    #[error("the model came without a tokenizer")]
    NoTokenizer,
    /// The vocabulary or the merges are unusable.
    #[error("unusable tokenizer: {}", excerpt(reason))]
    Tokenizer {
        /// Why.
        reason: String,
    },
}

impl LoadError {
    pub(crate) fn key(key: impl Into<String>, reason: impl Into<String>) -> LoadError {
        LoadError::Key { key: key.into(), reason: reason.into() }
    }

    pub(crate) fn tensor(name: impl Into<String>, reason: impl Into<String>) -> LoadError {
        LoadError::Tensor { name: name.into(), reason: reason.into() }
    }

    pub(crate) fn read(what: impl Into<String>, source: std::io::Error) -> LoadError {
        LoadError::Read { what: what.into(), source }
    }

    pub(crate) fn files(reason: impl Into<String>) -> LoadError {
        LoadError::Files { reason: reason.into() }
    }
}

/// A step that cannot be run. The sequences are as they were before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The cache refused.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A token id the model does not have.
    #[error("token {token} is not in a vocabulary of {vocabulary}")]
    Token {
        /// The id.
        token: u32,
        /// Ids there are.
        vocabulary: usize,
    },
    /// More positions than a sequence may have with this cache.
    #[error("{needed} positions needed, and with this cache a sequence may have {reach}: the model's context is {context}")]
    Reach {
        /// Positions after the step.
        needed: usize,
        /// Positions that a sequence may have ([`KvCache::reach`](kv_core::KvCache::reach)).
        reach: usize,
        /// Positions the model was made for.
        context: usize,
    },
    /// Logits from which no token can be chosen.
    #[error(
        "after token {tokens} of the sequence, {count} of {vocabulary} logits are NaN or infinite: the weights hold such values, the \
         activations exceed the range of f32, or keys or values exceed that of the cache's format (f16 ends at 65504)"
    )]
    NotFinite {
        /// Tokens of the sequence after the step.
        tokens: usize,
        /// Logits that are not finite.
        count: usize,
        /// Logits there are.
        vocabulary: usize,
    },
    /// An embedding of another width than the model's.
    #[error("an embedding has {values} values, and the model's have {hidden}")]
    Embedding {
        /// Values of the embedding.
        values: usize,
        /// Values the model's embeddings have.
        hidden: usize,
    },
    /// A step without tokens.
    #[error("a step needs at least one token")]
    NoTokens,
}
