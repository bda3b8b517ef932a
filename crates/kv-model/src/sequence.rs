//! A sequence as the driver of a model sees it: its id in the cache and the tokens it has fed.

use kv_core::{CacheError, KvCache, SeqId};

/// The history of an open sequence. A strategy that recomputes needs the earlier tokens again.
#[derive(Debug)]
pub struct Sequence {
    id: SeqId,
    tokens: Vec<u32>,
}

impl Sequence {
    /// Opens an empty sequence.
    ///
    /// # Errors
    /// Whatever [`KvCache::open`] refuses.
    pub fn open(cache: &mut dyn KvCache) -> Result<Sequence, CacheError> {
        Ok(Sequence { id: cache.open()?, tokens: vec![] })
    }

    /// Opens a sequence that continues this one's tokens on its own.
    ///
    /// # Errors
    /// Whatever [`KvCache::fork`] refuses.
    pub fn fork(&self, cache: &mut dyn KvCache) -> Result<Sequence, CacheError> {
        Ok(Sequence { id: cache.fork(self.id)?, tokens: self.tokens.clone() })
    }

    /// Cuts the sequence to its first `len` tokens.
    ///
    /// # Errors
    /// Whatever [`KvCache::truncate`] refuses.
    pub fn truncate(&mut self, cache: &mut dyn KvCache, len: usize) -> Result<(), CacheError> {
        cache.truncate(self.id, len)?;
        self.tokens.truncate(len);
        Ok(())
    }

    /// Its id in the cache.
    pub fn id(&self) -> SeqId {
        self.id
    }

    /// The tokens fed so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Closes the sequence.
    ///
    /// # Errors
    /// Whatever [`KvCache::close`] refuses.
    pub fn close(&mut self, cache: &mut dyn KvCache) -> Result<(), CacheError> {
        cache.close(self.id)
    }

    /// Notes tokens whose rows were appended to the cache: by a step of the decoder, or from a recording of one.
    pub fn extend(&mut self, fresh: &[u32]) {
        self.tokens.extend(fresh);
    }
}
