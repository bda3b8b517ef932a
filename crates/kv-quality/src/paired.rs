//! Two caches behind one, so that the reference and the candidate are rows of the same step.

use std::ops::Range;

use kv_core::{CacheError, ErrorBound, Geometry, Guarantee, KvCache, SeqId, Sequences, Tensor, Usage, View};

/// One of the two caches of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The cache that is compared with.
    Reference,
    /// The cache that is judged.
    Candidate,
}

/// Routes each sequence to one of two caches.
///
/// A decoder that steps a sequence of each side together multiplies matrices of the same shapes for both. Nothing but the
/// caches can then make their outputs differ.
///
/// [`open`](KvCache::open) opens on the side that [`open_next_on`](Paired::open_next_on) chose last, at first on the reference's;
/// a fork stays on its parent's side. The pair has ids of its own, and errors of the inner caches are told in them.
#[derive(Debug)]
pub struct Paired {
    reference: Box<dyn KvCache>,
    candidate: Box<dyn KvCache>,
    /// Only the ids are of use here: the inner caches do their own bookkeeping.
    routes: Sequences<Route>,
    opens_on: Side,
}

/// Where a sequence is.
#[derive(Debug, Clone, Copy)]
struct Route {
    side: Side,
    inner: SeqId,
}

impl Paired {
    /// A pair of caches for a model of this geometry.
    pub fn new(geometry: &Geometry, reference: Box<dyn KvCache>, candidate: Box<dyn KvCache>) -> Paired {
        Paired { reference, candidate, routes: Sequences::new(geometry), opens_on: Side::Reference }
    }

    /// Chooses the side on which [`open`](KvCache::open) opens sequences from now on.
    pub fn open_next_on(&mut self, side: Side) {
        self.opens_on = side;
    }

    /// Opens an empty sequence on a side.
    ///
    /// # Errors
    /// Whatever that side's [`KvCache::open`] refuses.
    pub fn open_on(&mut self, side: Side) -> Result<SeqId, CacheError> {
        let inner = self.on_mut(side).open()?;
        Ok(self.routes.open(0, Route { side, inner }))
    }

    /// The side of a sequence.
    ///
    /// # Errors
    /// [`CacheError::Closed`].
    pub fn side(&self, seq: SeqId) -> Result<Side, CacheError> {
        Ok(self.routes.state(seq)?.side)
    }

    /// The cache of a side, for its usage and its guarantee.
    pub fn on(&self, side: Side) -> &dyn KvCache {
        match side {
            Side::Reference => &*self.reference,
            Side::Candidate => &*self.candidate,
        }
    }

    fn on_mut(&mut self, side: Side) -> &mut dyn KvCache {
        match side {
            Side::Reference => &mut *self.reference,
            Side::Candidate => &mut *self.candidate,
        }
    }

    /// Asks the cache that holds a sequence.
    fn ask<T>(&self, seq: SeqId, ask: impl FnOnce(&dyn KvCache, SeqId) -> Result<T, CacheError>) -> Result<T, CacheError> {
        let Route { side, inner } = *self.routes.state(seq)?;
        ask(self.on(side), inner).map_err(|error| told_of(seq, error))
    }

    /// Tells the cache that holds a sequence to do something.
    fn tell<T>(&mut self, seq: SeqId, tell: impl FnOnce(&mut dyn KvCache, SeqId) -> Result<T, CacheError>) -> Result<T, CacheError> {
        let Route { side, inner } = *self.routes.state(seq)?;
        tell(self.on_mut(side), inner).map_err(|error| told_of(seq, error))
    }
}

#[deny(clippy::missing_trait_methods)]
impl KvCache for Paired {
    fn open(&mut self) -> Result<SeqId, CacheError> {
        self.open_on(self.opens_on)
    }

    fn close(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.tell(seq, |cache, seq| cache.close(seq))?;
        self.routes.close(seq).map(|_| ())
    }

    fn seen(&self, seq: SeqId) -> Result<usize, CacheError> {
        self.ask(seq, |cache, seq| cache.seen(seq))
    }

    fn begin(&mut self, seq: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError> {
        self.tell(seq, |cache, seq| cache.begin(seq, fresh))
    }

    fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
        self.tell(seq, |cache, seq| cache.append(seq, layer, keys, values))
    }

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        self.tell(seq, |cache, seq| cache.attend(seq, layer, queries))
    }

    fn read(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        self.tell(seq, |cache, seq| cache.read(seq, layer, queries))
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.tell(seq, |cache, seq| cache.commit(seq))
    }

    fn prompt_end(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.tell(seq, |cache, seq| cache.prompt_end(seq))
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId, CacheError> {
        let side = self.side(seq)?;
        let inner = self.tell(seq, |cache, seq| cache.fork(seq))?;
        Ok(self.routes.open(0, Route { side, inner }))
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), CacheError> {
        self.tell(seq, |cache, seq| cache.truncate(seq, len))
    }

    fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
        self.ask(seq, |cache, seq| cache.view(seq, layer, kv_head))
    }

    /// Of both caches together. What the pair itself allocates is metadata.
    fn usage(&self) -> Usage {
        let caches = [Side::Reference, Side::Candidate].map(|side| self.on(side));
        let boxes: usize = caches.iter().map(|cache| size_of_val(*cache)).sum();
        let routes = self.routes.iter().count() * size_of::<(SeqId, Route)>();
        caches.map(KvCache::usage).into_iter().sum::<Usage>().with_metadata(boxes + routes)
    }

    /// Of a sequence on the side on which the next one opens.
    fn least_bytes(&self, tokens: usize) -> usize {
        self.on(self.opens_on).least_bytes(tokens)
    }

    /// What holds on both sides.
    fn guarantee(&self) -> Guarantee {
        weaker(self.reference.guarantee(), self.candidate.guarantee())
    }

    /// As far as both do: a step feeds a sequence of each side.
    fn reach(&self, context: usize) -> Option<usize> {
        [&self.reference, &self.candidate].into_iter().filter_map(|cache| cache.reach(context)).min()
    }

    /// Whether either side does. A driver that feeds both in one step must not feed a prompt in chunks then.
    fn recomputes(&self) -> bool {
        self.reference.recomputes() || self.candidate.recomputes()
    }
}

/// An inner cache's error, told of the sequence by the pair's id.
fn told_of(seq: SeqId, error: CacheError) -> CacheError {
    match error {
        CacheError::Empty { layer, .. } => CacheError::Empty { seq, layer },
        CacheError::Closed { .. } => CacheError::Closed { seq },
        CacheError::Misplaced { seen, start, .. } => CacheError::Misplaced { seq, seen, start },
        CacheError::NoStep { .. } => CacheError::NoStep { seq },
        CacheError::LayerOrder { expected, layer, .. } => CacheError::LayerOrder { seq, expected, layer },
        CacheError::TruncateBeyondEnd { seen, len, .. } => CacheError::TruncateBeyondEnd { seq, seen, len },
        // These name no sequence.
        other => other,
    }
}

/// The guarantee that holds if either of two may be met.
fn weaker(a: Guarantee, b: Guarantee) -> Guarantee {
    let bound = |of: Guarantee| match of {
        Guarantee::Lossy(bound) | Guarantee::Evicts(Some(bound)) => Some(bound),
        _ => None,
    };
    let wider = |a: ErrorBound, b: ErrorBound| ErrorBound {
        keys: a.keys.max(b.keys),
        values: a.values.max(b.values),
        key_tokens: a.key_tokens.max(b.key_tokens),
    };
    let bounds = [a, b].into_iter().filter_map(bound).reduce(wider);
    if [a, b].iter().any(|of| matches!(of, Guarantee::Evicts(_))) {
        return Guarantee::Evicts(bounds);
    }
    bounds.map_or(Guarantee::Exact, Guarantee::Lossy)
}

#[cfg(test)]
mod tests {
    use kv_contiguous::Contiguous;
    use kv_core::{Rows, Strategy};
    use kv_naive::Naive;
    use kv_quantized::Quantized;
    use kv_script::{Attention, RowSource, step, step_watched};
    use kv_sliding::Sliding;

    use super::*;
    use crate::toy::{Toy, geometry};

    fn source() -> Toy {
        Toy::new(geometry(4, 2, 32, 32), 2)
    }

    fn boxed<C: Strategy>(config: &str) -> Box<dyn KvCache> {
        Box::new(C::new(toml::from_str(config).unwrap(), source().geometry()).unwrap())
    }

    fn pair(candidate: Box<dyn KvCache>) -> Paired {
        Paired::new(source().geometry(), boxed::<Contiguous>(""), candidate)
    }

    /// The last step's outputs of a sequence of each side, layer by layer: the two are stepped together.
    fn outputs(pair: &mut Paired, steps: &[usize]) -> Vec<[Rows; 2]> {
        let both = [pair.open_on(Side::Reference).unwrap(), pair.open_on(Side::Candidate).unwrap()];
        let (mut outputs, mut seen) = (vec![], 0);
        for tokens in steps {
            outputs.clear();
            let parts = both.map(|seq| (seq, seen..seen + tokens));
            step_watched(pair, &mut source(), &parts, Attention::Run, |_, layer, rows| outputs.push((layer, rows))).unwrap();
            seen += tokens;
        }
        assert_eq!(both.map(|seq| pair.seen(seq).unwrap()), [seen; 2]);
        outputs.chunks(2).map(|pair| [pair[0].1.clone(), pair[1].1.clone()]).collect()
    }

    #[test]
    fn two_exact_rows_of_one_step_are_bit_equal() {
        let outputs = outputs(&mut pair(boxed::<Contiguous>("")), &[40, 1, 7, 1]);
        assert_eq!(outputs.len(), 2);
        assert!(outputs.iter().all(|[reference, candidate]| reference == candidate));
    }

    #[test]
    fn a_rounded_candidate_differs_and_leaves_the_reference_alone() {
        let exact = outputs(&mut pair(boxed::<Contiguous>("")), &[40, 1]);
        let rounded = outputs(&mut pair(boxed::<Quantized>("format = 'q4_0'")), &[40, 1]);
        for ([reference, _], [same, candidate]) in exact.iter().zip(&rounded) {
            assert_eq!(reference, same);
            assert_ne!(reference, candidate);
        }
    }

    #[test]
    fn sequences_stay_on_their_sides() {
        let mut pair = pair(boxed::<Sliding>("window = 4"));
        let feed = |pair: &mut Paired, seq, positions| step(pair, &mut source(), &[(seq, positions)], Attention::Run).unwrap();
        let held = |pair: &Paired, seq| pair.view(seq, 1, 0).unwrap().positions;
        let reference = pair.open().unwrap();
        pair.open_next_on(Side::Candidate);
        let candidate = pair.open().unwrap();
        assert_ne!(reference, candidate, "though the inner ids are the same");
        feed(&mut pair, reference, 0..8);
        feed(&mut pair, candidate, 0..6);
        assert_eq!((held(&pair, reference), held(&pair, candidate)), ((0..8).collect(), vec![2, 3, 4, 5]));
        let forks = [reference, candidate].map(|seq| pair.fork(seq).unwrap());
        assert_eq!(forks.map(|seq| pair.side(seq).unwrap()), [Side::Reference, Side::Candidate]);
        feed(&mut pair, forks[1], 6..7);
        pair.truncate(reference, 3).unwrap();
        assert_eq!([reference, candidate, forks[0], forks[1]].map(|seq| pair.seen(seq).unwrap()), [3, 6, 8, 7]);
        pair.close(forks[0]).unwrap();
        assert_eq!(
            (pair.seen(forks[0]), pair.side(forks[0])),
            (Err(CacheError::Closed { seq: forks[0] }), Err(CacheError::Closed { seq: forks[0] }))
        );
        assert_eq!(held(&pair, forks[1]), [3, 4, 5, 6]);
    }

    #[test]
    fn errors_name_the_sequence_by_the_pairs_id() {
        let mut pair = pair(boxed::<Sliding>("window = 2"));
        pair.open_on(Side::Reference).unwrap();
        let seq = pair.open_on(Side::Candidate).unwrap();
        let queries = || source().first_queries();
        assert_eq!(pair.begin(seq, 1..2), Err(CacheError::Misplaced { seq, seen: 0, start: 1 }));
        assert_eq!(pair.commit(seq), Err(CacheError::NoStep { seq }));
        pair.begin(seq, 0..1).unwrap();
        assert_eq!(pair.attend(seq, 0, queries()).unwrap_err(), CacheError::Empty { seq, layer: 0 });
        assert_eq!(pair.commit(seq), Err(CacheError::LayerOrder { seq, expected: 0, layer: 2 }));
        assert_eq!(pair.truncate(seq, 1), Err(CacheError::TruncateBeyondEnd { seq, seen: 0, len: 1 }));
        pair.close(seq).unwrap();
        assert_eq!(pair.close(seq), Err(CacheError::Closed { seq }));
    }

    #[test]
    fn what_a_pair_says_of_itself_covers_both() {
        let window = || boxed::<Sliding>("window = 60\nsinks = 4");
        let mut pair = pair(boxed::<Quantized>("format = 'q8_0'"));
        outputs(&mut pair, &[33]);
        let (reference, candidate) = (pair.on(Side::Reference).usage(), pair.on(Side::Candidate).usage());
        assert!(candidate.payload_bytes > 0 && candidate.payload_bytes < reference.payload_bytes / 3);
        let all = pair.usage();
        assert_eq!(all.payload_bytes, reference.payload_bytes + candidate.payload_bytes);
        let own = all.reserved_bytes() - reference.reserved_bytes() - candidate.reserved_bytes();
        assert!((100..2000).contains(&own), "the pair takes {own} bytes itself");
        assert_eq!(pair.usage().seen_tokens, 66);
        assert!(matches!(pair.guarantee(), Guarantee::Lossy(_)));
        let least = pair.least_bytes(1000);
        pair.open_next_on(Side::Candidate);
        assert!(pair.least_bytes(1000) < least && pair.least_bytes(1000) > 0);
        assert!(!pair.recomputes());
        assert_eq!((pair.reach(64), Paired::new(source().geometry(), window(), window()).reach(64)), (Some(64), None));
        assert!(Paired::new(source().geometry(), boxed::<Contiguous>(""), boxed::<Naive>("")).recomputes());
    }

    #[test]
    fn the_weaker_guarantee_holds_for_both() {
        let bound = |keys, values, key_tokens| ErrorBound { keys, values, key_tokens };
        let (fine, coarse) = (bound(0.01, 0.2, 1), bound(0.1, 0.1, 32));
        let wide = bound(0.1, 0.2, 32);
        for (a, b, weak) in [
            (Guarantee::Exact, Guarantee::Exact, Guarantee::Exact),
            (Guarantee::Exact, Guarantee::Lossy(fine), Guarantee::Lossy(fine)),
            (Guarantee::Lossy(fine), Guarantee::Lossy(coarse), Guarantee::Lossy(wide)),
            (Guarantee::Exact, Guarantee::Evicts(None), Guarantee::Evicts(None)),
            (Guarantee::Lossy(fine), Guarantee::Evicts(None), Guarantee::Evicts(Some(fine))),
            (Guarantee::Evicts(Some(coarse)), Guarantee::Lossy(fine), Guarantee::Evicts(Some(wide))),
        ] {
            assert_eq!(weaker(a, b), weak, "{a}, {b}");
            assert_eq!(weaker(b, a), weak, "{b}, {a}");
        }
    }
}
