//! A cache that measures the time spent inside another.

use std::ops::Range;
use std::time::{Duration, Instant};

use kv_core::{CacheError, Guarantee, KvCache, SeqId, Tensor, Usage, View, device};

use crate::recording::RowWriter;

/// Forwards every call and adds up the time of a step's calls: `begin`, `append`, `attend`, `commit` and
/// `prompt_end`, and of `read`.
///
/// Rows of a batch are parts of one tensor, and would be copied by whoever takes their values: they are copied before
/// the cache's clock starts, on a clock of their own.
///
/// Burn's CPU backend computes eagerly, so the time of a call is the time of its work.
#[derive(Debug)]
pub(crate) struct Timed {
    inner: Box<dyn KvCache>,
    spent: Spent,
    /// Where the rows that pass are written down, if they are.
    rows: Option<RowWriter>,
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
        Timed { inner, spent: Spent::default(), rows: None }
    }

    /// The same, with the rows that pass written down.
    pub(crate) fn recording(inner: Box<dyn KvCache>, rows: RowWriter) -> Timed {
        Timed { rows: Some(rows), ..Timed::new(inner) }
    }

    /// Where rows are written down.
    pub(crate) fn rows(&mut self) -> Option<&mut RowWriter> {
        self.rows.as_mut()
    }

    /// Writes rows down, if they are.
    fn write(&mut self, write: impl FnOnce(&mut RowWriter)) {
        if let Some(rows) = &mut self.rows {
            write(rows);
        }
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
        self.write(|rows| rows.appended(&keys, &values));
        self.timed(|cache| cache.append(seq, layer, keys, values))
    }

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let queries = self.unshared(queries);
        self.write(|rows| rows.asked(&queries));
        self.timed(|cache| cache.attend(seq, layer, queries))
    }

    fn read(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let queries = self.unshared(queries);
        self.timed(|cache| cache.read(seq, layer, queries))
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

    fn reach(&self, context: usize) -> Option<usize> {
        self.inner.reach(context)
    }

    fn recomputes(&self) -> bool {
        self.inner.recomputes()
    }
}

#[cfg(test)]
mod tests {
    use kv_core::{Rows, SeqId};
    use kv_metrics::ThreadMeter;

    use super::*;

    const PAUSE: Duration = Duration::from_millis(20);
    const ROWS: [usize; 3] = [1, 64, 64];

    /// A cache that takes its time where it could be overlooked, and takes rows as all caches do.
    #[derive(Debug, Default)]
    struct Slow {
        /// Bytes allocated while taking the values of keys, values and queries.
        taken: Vec<i64>,
    }

    impl Slow {
        fn take(&mut self, rows: Tensor<3>) -> Result<Rows, CacheError> {
            let meter = ThreadMeter::start();
            let rows = Rows::take("rows", rows, ROWS)?;
            self.taken.push(meter.live_bytes());
            Ok(rows)
        }
    }

    impl KvCache for Slow {
        fn begin(&mut self, _: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError> {
            std::thread::sleep(PAUSE);
            Ok(fresh)
        }

        fn prompt_end(&mut self, _: SeqId) -> Result<(), CacheError> {
            std::thread::sleep(PAUSE);
            Ok(())
        }

        fn append(&mut self, _: SeqId, _: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
            self.take(keys)?;
            self.take(values).map(|_| ())
        }

        fn attend(&mut self, _: SeqId, _: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
            self.take(queries)?;
            // What was taken, for the test.
            let taken = self.taken.iter().map(|bytes| *bytes as f32).collect::<Vec<f32>>();
            Ok(Rows::new([1, 1, taken.len()], taken).into_tensor())
        }

        fn open(&mut self) -> Result<SeqId, CacheError> {
            Ok(kv_core::Sequences::new(&kv_conformance::toy_geometry()).open(0, ()))
        }

        fn close(&mut self, _: SeqId) -> Result<(), CacheError> {
            Ok(())
        }

        fn seen(&self, _: SeqId) -> Result<usize, CacheError> {
            Ok(0)
        }

        fn commit(&mut self, _: SeqId) -> Result<(), CacheError> {
            Ok(())
        }

        fn view(&self, _: SeqId, _: usize, _: usize) -> Result<View, CacheError> {
            Ok(View::default())
        }

        fn usage(&self) -> Usage {
            Usage::default()
        }

        fn guarantee(&self) -> Guarantee {
            Guarantee::Exact
        }
    }

    #[test]
    fn the_beginning_of_a_step_and_the_end_of_the_prompt_are_the_caches_time() {
        let mut cache = Timed::new(Box::new(Slow::default()));
        let seq = cache.open().unwrap();
        cache.begin(seq, 0..1).unwrap();
        assert!(cache.take_spent().cache >= PAUSE);
        cache.prompt_end(seq).unwrap();
        assert!(cache.take_spent().cache >= PAUSE);
    }

    /// A sequence's rows of a batch share memory with the others'. The cache must not be the one that copies them.
    #[test]
    fn rows_of_a_batch_are_copied_before_the_cache_takes_them() {
        let [tokens, heads, dim] = ROWS;
        let bytes = (tokens * heads * dim * size_of::<f32>()) as i64;
        let batch = Tensor::<3>::zeros([3 * tokens, heads, dim], &device());
        let rows = || batch.clone().narrow(0, 1, tokens);

        let mut cache = Slow::default();
        let meter = ThreadMeter::start();
        let copied = cache.take(rows()).unwrap();
        assert!(cache.taken[0] >= bytes && meter.live_bytes() >= bytes, "shared rows are copied when they are taken");
        drop(copied);

        let mut cache = Timed::new(Box::new(Slow::default()));
        let seq = cache.open().unwrap();
        cache.append(seq, 0, rows(), rows()).unwrap();
        let taken = cache.attend(seq, 0, rows()).unwrap();
        let taken: Vec<f32> = taken.into_data().try_into_vec().unwrap();
        assert!(taken.len() == 3 && taken.iter().all(|taken| *taken < bytes as f32 / 4.0), "{taken:?} of {bytes} bytes");
    }
}
