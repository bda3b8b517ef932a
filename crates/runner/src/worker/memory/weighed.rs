//! A cache whose memory is watched call by call.

use std::collections::BTreeSet;
use std::ops::Range;

use kv_core::{CacheError, Guarantee, KvCache, SeqId, Tensor, Usage, View};
use kv_metrics::HeapMeter;

/// Forwards every call, and tells the strategy's own bytes from those of the rows that it is given.
///
/// Rows belong to whoever feeds the cache until the step is committed, because no cache may drop them before. The strategy's
/// own transient is what a step takes beyond these rows and beyond what the cache holds between steps.
#[derive(Debug)]
pub(super) struct Weighed<'a> {
    inner: Box<dyn KvCache>,
    meter: &'a HeapMeter,
    /// Sequences in a step.
    in_step: BTreeSet<SeqId>,
    /// Bytes of the rows of the steps in progress.
    given: i64,
    /// Heap bytes between steps, before the steps in progress.
    between: i64,
    /// The most bytes of the steps in progress that were not rows.
    most: i64,
    phase: Weight,
}

/// What the calls of a phase took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weight {
    /// The most bytes that a step held beyond its rows and beyond what the cache holds between steps.
    pub(super) transient: i64,
    /// The most bytes of rows that were given in a step.
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
        Weighed { inner, meter, in_step: BTreeSet::new(), given: 0, between: 0, most: 0, phase: Weight::default() }
    }

    /// What was taken since the last call of this.
    pub(super) fn take_phase(&mut self) -> Weight {
        std::mem::take(&mut self.phase)
    }

    /// A call that is given rows of so many bytes, or asked for as many, which it gives back.
    fn weighed<T>(&mut self, lent: i64, call: impl FnOnce(&mut dyn KvCache) -> T) -> T {
        self.meter.begin_peak();
        let (allocations, allocated) = (self.meter.allocations(), self.meter.allocated_bytes());
        let answer = call(self.inner.as_mut());
        self.phase.allocations += self.meter.allocations() - allocations;
        self.phase.allocated += self.meter.allocated_bytes() - allocated;
        self.phase.peak = self.phase.peak.max(self.meter.peak_bytes());
        self.most = self.most.max(self.meter.peak_bytes() - self.given - lent);
        answer
    }
}

/// Bytes of the values of rows.
fn bytes(rows: &Tensor<3>) -> i64 {
    (rows.dims().iter().product::<usize>() * size_of::<f32>()) as i64
}

#[deny(clippy::missing_trait_methods)]
impl KvCache for Weighed<'_> {
    fn begin(&mut self, seq: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError> {
        if self.in_step.is_empty() {
            self.between = self.meter.live_bytes();
            self.given = 0;
            self.most = self.between;
        }
        let run = self.weighed(0, |cache| cache.begin(seq, fresh))?;
        self.in_step.insert(seq);
        Ok(run)
    }

    fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
        self.given += bytes(&keys) + bytes(&values);
        self.phase.rows = self.phase.rows.max(self.given);
        self.weighed(0, |cache| cache.append(seq, layer, keys, values))
    }

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let [tokens, heads, key_dim] = queries.dims();
        let lent = bytes(&queries);
        // The answer is as long as its values are, which only the cache knows: it is subtracted when it is there.
        let peak_before = self.most;
        self.most = i64::MIN;
        let answer = self.weighed(lent, |cache| cache.attend(seq, layer, queries));
        let returned = answer.as_ref().map_or((tokens * heads * key_dim * size_of::<f32>()) as i64, bytes);
        self.most = peak_before.max(self.most - returned);
        answer
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.weighed(0, |cache| cache.commit(seq))?;
        self.in_step.remove(&seq);
        if self.in_step.is_empty() {
            let between = self.between.max(self.meter.live_bytes());
            self.phase.transient = self.phase.transient.max(self.most - between);
        }
        Ok(())
    }

    fn prompt_end(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.given = 0;
        self.most = self.meter.live_bytes();
        let before = self.most;
        self.weighed(0, |cache| cache.prompt_end(seq))?;
        self.phase.transient = self.phase.transient.max(self.most - before.max(self.meter.live_bytes()));
        Ok(())
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
