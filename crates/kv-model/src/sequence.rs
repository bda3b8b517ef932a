//! A sequence as the driver of a model sees it: its id in the cache and what it was fed.

use kv_core::{CacheError, KvCache, SeqId};

use crate::{Fed, Fresh};

/// The history of an open sequence. A strategy that recomputes needs the earlier inputs again.
#[derive(Debug)]
pub struct Sequence {
    id: SeqId,
    history: Vec<Fed>,
}

impl Sequence {
    /// Opens an empty sequence.
    ///
    /// # Errors
    /// Whatever [`KvCache::open`] refuses.
    pub fn open(cache: &mut dyn KvCache) -> Result<Sequence, CacheError> {
        Ok(Sequence { id: cache.open()?, history: vec![] })
    }

    /// Opens a sequence that continues this one's tokens on its own.
    ///
    /// # Errors
    /// Whatever [`KvCache::fork`] refuses.
    pub fn fork(&self, cache: &mut dyn KvCache) -> Result<Sequence, CacheError> {
        Ok(Sequence { id: cache.fork(self.id)?, history: self.history.clone() })
    }

    /// Cuts the sequence to its first `len` tokens.
    ///
    /// # Errors
    /// Whatever [`KvCache::truncate`] refuses.
    pub fn truncate(&mut self, cache: &mut dyn KvCache, len: usize) -> Result<(), CacheError> {
        cache.truncate(self.id, len)?;
        self.history.truncate(len);
        Ok(())
    }

    /// Its id in the cache.
    pub fn id(&self) -> SeqId {
        self.id
    }

    /// What each position was fed so far.
    pub fn history(&self) -> &[Fed] {
        &self.history
    }

    /// Closes the sequence.
    ///
    /// # Errors
    /// Whatever [`KvCache::close`] refuses.
    pub fn close(&mut self, cache: &mut dyn KvCache) -> Result<(), CacheError> {
        cache.close(self.id)
    }

    /// Notes positions whose rows were appended to the cache: by a step of the decoder, or from a recording of one.
    pub fn extend(&mut self, fresh: Fresh<'_>) {
        self.history.extend(fresh.iter());
    }
}
