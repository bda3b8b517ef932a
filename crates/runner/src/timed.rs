//! A cache that measures the time spent inside another.

use std::ops::Range;
use std::time::{Duration, Instant};

use kv_core::{CacheError, Guarantee, KvCache, SeqId, Tensor, Usage, View, device};

/// Forwards every call and adds up the time of a step's calls: `begin`, `append`, `attend`, `commit` and `prompt_end`.
///
/// Rows of a batch are parts of one tensor, and would be copied by whoever takes their values: they are copied before
/// the cache's clock starts, on a clock of their own.
///
/// Burn's CPU backend computes eagerly, so the time of a call is the time of its work.
#[derive(Debug)]
pub(crate) struct Timed {
    inner: Box<dyn KvCache>,
    spent: Spent,
}

/// Time spent on a cache's behalf.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spent {
    /// Inside the cache.
    pub(crate) cache: Duration,
    /// Copying rows on their way to it.
    pub(crate) seam: Duration,
}

impl Timed {
    pub(crate) fn new(inner: Box<dyn KvCache>) -> Timed {
        Timed { inner, spent: Spent::default() }
    }

    /// The time since the last call of this.
    pub(crate) fn take_spent(&mut self) -> Spent {
        std::mem::take(&mut self.spent)
    }

    /// Rows that share no memory: taking their values copies nothing.
    fn unshared(&mut self, rows: Tensor<3>) -> Tensor<3> {
        let start = Instant::now();
        let rows = Tensor::from_data(rows.into_data(), &device());
        self.spent.seam += start.elapsed();
        rows
    }

    fn timed<T>(&mut self, call: impl FnOnce(&mut dyn KvCache) -> T) -> T {
        let start = Instant::now();
        let answer = call(self.inner.as_mut());
        self.spent.cache += start.elapsed();
        answer
    }
}

#[deny(clippy::missing_trait_methods)]
impl KvCache for Timed {
    fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
        let (keys, values) = (self.unshared(keys), self.unshared(values));
        self.timed(|cache| cache.append(seq, layer, keys, values))
    }

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let queries = self.unshared(queries);
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
        self.timed(|cache| cache.begin(seq, fresh))
    }

    fn prompt_end(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.timed(|cache| cache.prompt_end(seq))
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

    fn least_bytes(&self, tokens: usize) -> usize {
        self.inner.least_bytes(tokens)
    }

    fn guarantee(&self) -> Guarantee {
        self.inner.guarantee()
    }

    fn recomputes(&self) -> bool {
        self.inner.recomputes()
    }
}

#[cfg(test)]
mod tests {
    use kv_conformance::doc::Plain;
    use kv_core::{Geometry, Rope, Strategy};

    use super::*;

    const PAUSE: Duration = Duration::from_millis(20);

    /// A cache that takes its time where it could be overlooked.
    #[derive(Debug)]
    struct Slow(Plain);

    impl KvCache for Slow {
        fn begin(&mut self, seq: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError> {
            std::thread::sleep(PAUSE);
            self.0.begin(seq, fresh)
        }

        fn prompt_end(&mut self, seq: SeqId) -> Result<(), CacheError> {
            std::thread::sleep(PAUSE);
            self.0.prompt_end(seq)
        }

        fn open(&mut self) -> Result<SeqId, CacheError> {
            self.0.open()
        }

        fn close(&mut self, seq: SeqId) -> Result<(), CacheError> {
            self.0.close(seq)
        }

        fn seen(&self, seq: SeqId) -> Result<usize, CacheError> {
            self.0.seen(seq)
        }

        fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
            self.0.append(seq, layer, keys, values)
        }

        fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
            self.0.attend(seq, layer, queries)
        }

        fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
            self.0.commit(seq)
        }

        fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
            self.0.view(seq, layer, kv_head)
        }

        fn usage(&self) -> Usage {
            self.0.usage()
        }

        fn guarantee(&self) -> Guarantee {
            self.0.guarantee()
        }
    }

    #[test]
    fn the_beginning_of_a_step_and_the_end_of_the_prompt_are_the_caches_time() {
        let geometry = Geometry { layers: 1, heads: 1, kv_heads: 1, key_dim: 8, value_dim: 8, rope: Rope::new(1e4, 8), context: 8 };
        let mut cache = Timed::new(Box::new(Slow(Plain::new(Default::default(), &geometry).unwrap())));
        let seq = cache.open().unwrap();
        cache.begin(seq, 0..1).unwrap();
        assert!(cache.take_spent().cache >= PAUSE);
        let rows = || Tensor::zeros([1, 1, 8], &device());
        cache.append(seq, 0, rows(), rows()).unwrap();
        cache.commit(seq).unwrap();
        cache.take_spent();
        cache.prompt_end(seq).unwrap();
        assert!(cache.take_spent().cache >= PAUSE);
    }
}
