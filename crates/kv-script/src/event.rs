//! What can happen to the sequences of a cache.

use std::fmt;
use std::sync::Arc;

/// The name of a sequence in a script.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// A name.
    pub fn new(name: &str) -> Name {
        Name(name.into())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An event of a script.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Opens an empty sequence.
    Open {
        /// A new name.
        sequence: Name,
    },
    /// Opens a sequence that starts with the committed tokens of another.
    Fork {
        /// An open sequence.
        parent: Name,
        /// A new name.
        sequence: Name,
    },
    /// Feeds every sequence its input, all in one step.
    Append {
        /// Open sequences, each at most once.
        inputs: Vec<(Name, Input)>,
    },
    /// Feeds every sequence the token that follows its last step, all in one step: decoding.
    Step {
        /// Open sequences that have been fed, each at most once.
        sequences: Vec<Name>,
    },
    /// Takes the last tokens of a sequence back. What follows them is unknown then, until more is appended.
    Truncate {
        /// An open sequence.
        sequence: Name,
        /// How many tokens are taken back.
        tokens: usize,
    },
    /// Says that the prompt of a sequence is complete.
    PromptEnd {
        /// An open sequence.
        sequence: Name,
    },
    /// Closes a sequence.
    Close {
        /// An open sequence. Its name is free afterwards.
        sequence: Name,
    },
}

/// What a sequence is fed.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Tokens of the model's vocabulary; at least one.
    Tokens(Vec<u32>),
    /// Embeddings of what has no token, as an image's, one for each position; at least one. All have the model's hidden width.
    Embeddings(Vec<Arc<[f32]>>),
}

impl Input {
    /// Tokens fed.
    pub fn len(&self) -> usize {
        match self {
            Input::Tokens(tokens) => tokens.len(),
            Input::Embeddings(rows) => rows.len(),
        }
    }

    /// Whether nothing is fed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
