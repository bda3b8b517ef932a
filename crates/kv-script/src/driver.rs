//! Where the rows of a step come from.

use kv_core::{CacheError, KvCache};

use crate::Input;

/// Feeds a cache: a model, or rows that are already known.
pub trait Driver {
    /// What the driver knows of an open sequence.
    type Sequence;

    /// What can go wrong.
    type Error: From<CacheError>;

    /// Opens an empty sequence.
    ///
    /// # Errors
    /// Whatever [`KvCache::open`] refuses.
    fn open(&mut self, cache: &mut dyn KvCache) -> Result<Self::Sequence, Self::Error>;

    /// Opens a sequence that starts with the committed tokens of another.
    ///
    /// # Errors
    /// Whatever [`KvCache::fork`] refuses.
    fn fork(&mut self, cache: &mut dyn KvCache, parent: &Self::Sequence) -> Result<Self::Sequence, Self::Error>;

    /// Takes the last tokens of a sequence back. There are at least as many.
    ///
    /// # Errors
    /// Whatever [`KvCache::truncate`] refuses.
    fn take_back(&mut self, cache: &mut dyn KvCache, sequence: &mut Self::Sequence, tokens: usize) -> Result<(), Self::Error>;

    /// Says that the prompt is complete.
    ///
    /// # Errors
    /// Whatever [`KvCache::prompt_end`] refuses.
    fn prompt_end(&mut self, cache: &mut dyn KvCache, sequence: &mut Self::Sequence) -> Result<(), Self::Error>;

    /// Closes a sequence.
    ///
    /// # Errors
    /// Whatever [`KvCache::close`] refuses.
    fn close(&mut self, cache: &mut dyn KvCache, sequence: &mut Self::Sequence) -> Result<(), Self::Error>;

    /// Tokens that a sequence has been fed.
    fn len(&self, sequence: &Self::Sequence) -> usize;

    /// Feeds every sequence its input in one step. Answers for each the token that follows, if the driver knows it.
    ///
    /// # Errors
    /// The cache's or the driver's own; no sequence is changed.
    fn feed(&mut self, cache: &mut dyn KvCache, inputs: &mut [(&mut Self::Sequence, &Input)]) -> Result<Vec<Option<u32>>, Self::Error>;
}
