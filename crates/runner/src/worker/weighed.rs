//! A cache whose memory is watched call by call.

use std::ops::Range;

use kv_core::{CacheError, KvCache, Rows, SeqId, Tensor};
use kv_metrics::HeapMeter;

/// Forwards every call, and tells the strategy's own bytes from those of the rows that it is given: these are lent, however long
/// the strategy holds them.
#[derive(Debug)]
pub(super) struct Weighed<'a> {
    inner: Box<dyn KvCache>,
    meter: &'a HeapMeter,
    phase: Weight,
    /// Own bytes that calls have left behind.
    held: i64,
}

/// What the calls of a phase took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weight {
    /// The most own bytes during a call, beyond those before it and those after it. The output of `attend` is not among them: it
    /// is taken to be there when most is, as with the kernels of this project. Of a strategy that makes it last, as many bytes of
    /// scratch can go unseen.
    pub(super) transient: i64,
    /// The most bytes of keys and values that were given and not yet freed.
    pub(super) rows: i64,
    /// The most heap bytes during the cache's calls, the rows that it was given included.
    pub(super) peak: i64,
    /// Allocations within the cache's methods.
    pub(super) allocations: u64,
    /// Bytes of these allocations.
    pub(super) allocated: u64,
}

impl<'a> Weighed<'a> {
    pub(super) fn new(inner: Box<dyn KvCache>, meter: &'a HeapMeter) -> Weighed<'a> {
        Weighed { inner, meter, phase: Weight::default(), held: 0 }
    }

    /// What was taken since the last call of this.
    pub(super) fn take_phase(&mut self) -> Weight {
        std::mem::take(&mut self.phase)
    }

    /// Own bytes that the cache's calls have left behind, whatever was allocated between them.
    pub(super) fn held_bytes(&self) -> i64 {
        self.held
    }

    /// A call outside steps, which has no weight of its own.
    fn kept<T>(&mut self, call: impl FnOnce(&mut dyn KvCache) -> T) -> T {
        let before = self.meter.own_bytes();
        let answer = call(self.inner.as_mut());
        self.held += self.meter.own_bytes() - before;
        answer
    }

    /// A call, of whose answer so many bytes are no transient.
    fn weighed<T>(&mut self, call: impl FnOnce(&mut dyn KvCache) -> T, answered: impl FnOnce(&T) -> i64) -> T {
        self.meter.begin_peak();
        let before = self.meter.own_bytes();
        let (allocations, allocated) = (self.meter.allocations(), self.meter.allocated_bytes());
        let answer = call(self.inner.as_mut());
        self.phase.allocations += self.meter.allocations() - allocations;
        self.phase.allocated += self.meter.allocated_bytes() - allocated;
        self.phase.peak = self.phase.peak.max(self.meter.peak_bytes());
        let answered = answered(&answer);
        self.held += self.meter.own_bytes() - answered - before;
        let held = before.max(self.meter.own_bytes() - answered);
        self.phase.transient = self.phase.transient.max(self.meter.own_peak_bytes() - answered - held);
        answer
    }

    /// An answer, without the tensor that the cache made around it: whoever asked frees that.
    fn taken(&mut self, answer: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let dims = answer.dims();
        Ok(self.kept(|_| Rows::take("attended", answer, dims))?.into_tensor())
    }

    /// Rows that are the feeder's, whoever holds them.
    fn lent(&mut self, what: &'static str, rows: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let dims = rows.dims();
        let rows = Rows::take(what, rows, dims)?;
        self.meter.lend(rows.values());
        // The cache frees the tensor around them, so that counts as made within its calls.
        Ok(self.kept(|_| rows.into_tensor()))
    }
}

#[deny(clippy::missing_trait_methods)]
impl KvCache for Weighed<'_> {
    kv_core::forward!(inner: seen view usage least_bytes guarantee reach recomputes);

    fn begin(&mut self, seq: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError> {
        self.weighed(|cache| cache.begin(seq, fresh), |_| 0)
    }

    fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
        let (keys, values) = (self.lent("keys", keys)?, self.lent("values", values)?);
        self.phase.rows = self.phase.rows.max(self.meter.live_bytes() - self.meter.own_bytes());
        self.weighed(|cache| cache.append(seq, layer, keys, values), |_| 0)
    }

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let queries = self.lent("queries", queries)?;
        let answer = self.weighed(|cache| cache.attend(seq, layer, queries), attended_bytes)?;
        self.taken(answer)
    }

    fn read(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let queries = self.lent("queries", queries)?;
        let answer = self.weighed(|cache| cache.read(seq, layer, queries), attended_bytes)?;
        self.taken(answer)
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.weighed(|cache| cache.commit(seq), |_| 0)
    }

    fn prompt_end(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.weighed(|cache| cache.prompt_end(seq), |_| 0)
    }

    fn open(&mut self) -> Result<SeqId, CacheError> {
        self.kept(|cache| cache.open())
    }

    fn close(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.kept(|cache| cache.close(seq))
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId, CacheError> {
        self.kept(|cache| cache.fork(seq))
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), CacheError> {
        self.kept(|cache| cache.truncate(seq, len))
    }
}

fn attended_bytes(answer: &Result<Tensor<3>, CacheError>) -> i64 {
    answer.as_ref().map_or(0, |rows| (rows.dims().iter().product::<usize>() * size_of::<f32>()) as i64)
}
