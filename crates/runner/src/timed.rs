//! A cache that measures the time spent inside another.

use std::ops::Range;
use std::time::{Duration, Instant};

use kv_core::{CacheError, Guarantee, KvCache, SeqId, Tensor, Usage, View};

/// Forwards every call and adds up the time of `append`, `attend` and `commit`.
///
/// Burn's CPU backend computes eagerly, so the time of a call is the time of its work.
#[derive(Debug)]
pub(crate) struct Timed {
    inner: Box<dyn KvCache>,
    spent: Duration,
}

impl Timed {
    pub(crate) fn new(inner: Box<dyn KvCache>) -> Timed {
        Timed { inner, spent: Duration::ZERO }
    }

    /// The time since the last call of this.
    pub(crate) fn take_spent(&mut self) -> Duration {
        std::mem::take(&mut self.spent)
    }

    fn timed<T>(&mut self, call: impl FnOnce(&mut dyn KvCache) -> T) -> T {
        let start = Instant::now();
        let answer = call(self.inner.as_mut());
        self.spent += start.elapsed();
        answer
    }
}

#[deny(clippy::missing_trait_methods)]
impl KvCache for Timed {
    fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
        self.timed(|cache| cache.append(seq, layer, keys, values))
    }

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        self.timed(|cache| cache.attend(seq, layer, queries))
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.timed(|cache| cache.commit(seq))
    }

    fn open(&mut self) -> Result<SeqId, CacheError> {
        self.inner.open()
    }

    fn close(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.inner.close(seq)
    }

    fn seen(&self, seq: SeqId) -> Result<usize, CacheError> {
        self.inner.seen(seq)
    }

    fn begin(&mut self, seq: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError> {
        self.inner.begin(seq, fresh)
    }

    fn prompt_end(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.inner.prompt_end(seq)
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId, CacheError> {
        self.inner.fork(seq)
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), CacheError> {
        self.inner.truncate(seq, len)
    }

    fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
        self.inner.view(seq, layer, kv_head)
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn guarantee(&self) -> Guarantee {
        self.inner.guarantee()
    }

    fn recomputes(&self) -> bool {
        self.inner.recomputes()
    }
}
