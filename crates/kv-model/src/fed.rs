//! What a sequence is fed: tokens, or embeddings of something that has no token.

use std::sync::Arc;

/// What a step adds to a sequence; at least one position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fresh<'a> {
    /// Ids of the model's vocabulary.
    Tokens(&'a [u32]),
    /// Rows that take the place of the tokens' embeddings, as those of an image do; `hidden` values each.
    Embeddings(&'a [Arc<[f32]>]),
}

impl Fresh<'_> {
    /// Positions added.
    pub fn len(&self) -> usize {
        match self {
            Fresh::Tokens(tokens) => tokens.len(),
            Fresh::Embeddings(rows) => rows.len(),
        }
    }

    /// What each position is fed.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Fed> {
        let (tokens, rows): (&[u32], &[Arc<[f32]>]) = match self {
            Fresh::Tokens(tokens) => (tokens, &[]),
            Fresh::Embeddings(rows) => (&[], rows),
        };
        tokens.iter().copied().map(Fed::Token).chain(rows.iter().cloned().map(Fed::Embedding))
    }

    /// Whether nothing is added.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What one position was fed.
#[derive(Debug, Clone, PartialEq)]
pub enum Fed {
    /// A token.
    Token(u32),
    /// An embedding, of `hidden` values.
    Embedding(Arc<[f32]>),
}
