//! The open sequences of a cache and their steps in progress: the bookkeeping that all strategies share.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::{CacheError, Geometry, Rows, SeqId, Tensor};

/// Open sequences, each with a strategy-specific state `S`.
///
/// It checks what the contract requires of a caller (ids, positions, layer order, shapes) and holds the rows of
/// a step until the strategy takes them in its `commit`.
#[derive(Debug)]
pub struct Sequences<S> {
    geometry: Geometry,
    next: u64,
    open: BTreeMap<SeqId, Sequence<S>>,
    last_step_bytes: usize,
}

#[derive(Debug)]
struct Sequence<S> {
    seen: usize,
    step: Option<Step>,
    state: S,
}

/// A step in progress, or one that has just ended: the positions that the model runs and the rows it has appended.
#[derive(Debug)]
pub struct Step {
    /// Positions that the model runs.
    pub run: Range<usize>,
    /// Layers appended so far, in order. `None` for a layer that was dropped.
    pub layers: Vec<Option<Fresh>>,
}

/// One layer's rows of a step.
#[derive(Debug)]
pub struct Fresh {
    /// `[tokens, kv_heads, key_dim]`
    pub keys: Rows,
    /// `[tokens, kv_heads, value_dim]`
    pub values: Rows,
}

impl<S> Sequences<S> {
    /// Bookkeeping without sequences.
    pub fn new(geometry: &Geometry) -> Sequences<S> {
        Sequences { geometry: geometry.clone(), next: 0, open: BTreeMap::new(), last_step_bytes: 0 }
    }

    /// The model's geometry.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Adds a sequence that has seen `seen` tokens.
    pub fn open(&mut self, seen: usize, state: S) -> SeqId {
        let seq = SeqId(self.next);
        self.next += 1;
        self.open.insert(seq, Sequence { seen, step: None, state });
        seq
    }

    /// Removes a sequence and returns its state.
    ///
    /// # Errors
    /// [`CacheError::Closed`].
    pub fn close(&mut self, seq: SeqId) -> Result<S, CacheError> {
        self.open.remove(&seq).map(|sequence| sequence.state).ok_or(CacheError::Closed { seq })
    }

    /// Tokens committed so far.
    ///
    /// # Errors
    /// [`CacheError::Closed`].
    pub fn seen(&self, seq: SeqId) -> Result<usize, CacheError> {
        Ok(self.get(seq)?.seen)
    }

    /// A sequence's state.
    ///
    /// # Errors
    /// [`CacheError::Closed`].
    pub fn state(&self, seq: SeqId) -> Result<&S, CacheError> {
        Ok(&self.get(seq)?.state)
    }

    /// A sequence's state, mutable.
    ///
    /// # Errors
    /// [`CacheError::Closed`].
    pub fn state_mut(&mut self, seq: SeqId) -> Result<&mut S, CacheError> {
        Ok(&mut self.get_mut(seq)?.state)
    }

    /// Every open sequence's state and the number of tokens it has seen.
    pub fn iter(&self) -> impl Iterator<Item = (&S, usize)> {
        self.open.values().map(|sequence| (&sequence.state, sequence.seen))
    }

    /// Checks that a step may add `fresh`. Changes nothing.
    ///
    /// # Errors
    /// [`CacheError::Misplaced`] if `fresh` does not start where the sequence ends, [`CacheError::Closed`].
    pub fn check_begin(&self, seq: SeqId, fresh: &Range<usize>) -> Result<(), CacheError> {
        let seen = self.seen(seq)?;
        if fresh.start != seen {
            return Err(CacheError::Misplaced { seq, seen, start: fresh.start });
        }
        Ok(())
    }

    /// Starts a step in which the model runs the positions `run`, and discards an abandoned step.
    ///
    /// # Errors
    /// [`CacheError::Closed`].
    pub fn begin(&mut self, seq: SeqId, run: Range<usize>) -> Result<Range<usize>, CacheError> {
        self.get_mut(seq)?.step = Some(Step { run: run.clone(), layers: vec![] });
        Ok(run)
    }

    /// Whether a step is in progress.
    ///
    /// # Errors
    /// [`CacheError::Closed`].
    pub fn is_in_step(&self, seq: SeqId) -> Result<bool, CacheError> {
        Ok(self.get(seq)?.step.is_some())
    }

    /// Holds a layer's rows until the step ends.
    ///
    /// # Errors
    /// [`CacheError::NoStep`], [`CacheError::LayerOrder`], [`CacheError::Shape`], [`CacheError::Closed`].
    pub fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
        let Geometry { layers, kv_heads, key_dim, value_dim, .. } = self.geometry;
        let step = self.step_mut(seq)?;
        let expected = step.layers.len();
        if layer != expected || layer >= layers {
            return Err(CacheError::LayerOrder { seq, expected, layer });
        }
        let tokens = step.run.len();
        let keys = Rows::take("keys", keys, [tokens, kv_heads, key_dim])?;
        let values = Rows::take("values", values, [tokens, kv_heads, value_dim])?;
        step.layers.push(Some(Fresh { keys, values }));
        // A step holds most at its last layer. Counting at every layer would add work to every timed append.
        if layer + 1 == layers {
            self.last_step_bytes = self.step_bytes();
        }
        Ok(())
    }

    /// Drops a layer's rows before the step ends, for strategies that do not need them again.
    ///
    /// # Errors
    /// [`CacheError::NoStep`], [`CacheError::Closed`].
    pub fn drop_layer(&mut self, seq: SeqId, layer: usize) -> Result<(), CacheError> {
        if let Some(fresh) = self.step_mut(seq)?.layers.get_mut(layer) {
            *fresh = None;
        }
        Ok(())
    }

    /// A layer's rows of the step in progress, with the position of the first row, for `attend`.
    ///
    /// # Errors
    /// [`CacheError::Empty`] if there are none, [`CacheError::Closed`].
    pub fn fresh(&self, seq: SeqId, layer: usize) -> Result<(usize, &Fresh), CacheError> {
        self.fresh_if_any(seq, layer)?.ok_or(CacheError::Empty { seq, layer })
    }

    /// A layer's rows of the step in progress, with the position of the first row, for `view`.
    ///
    /// # Errors
    /// [`CacheError::Closed`].
    pub fn fresh_if_any(&self, seq: SeqId, layer: usize) -> Result<Option<(usize, &Fresh)>, CacheError> {
        let step = self.get(seq)?.step.as_ref();
        Ok(step.and_then(|step| Some((step.run.start, step.layers.get(layer)?.as_ref()?))))
    }

    /// Takes the queries of the step in progress.
    ///
    /// # Errors
    /// [`CacheError::Shape`], or [`CacheError::Empty`] before the layer's rows were appended.
    pub fn queries(&self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Rows, CacheError> {
        let (_, fresh) = self.fresh(seq, layer)?;
        let [tokens, ..] = fresh.keys.dims();
        Rows::take("queries", queries, [tokens, self.geometry.heads, self.geometry.key_dim])
    }

    /// Takes queries over the committed rows of a layer, with the number of committed tokens, for `read`.
    ///
    /// # Errors
    /// [`CacheError::Shape`], [`CacheError::Empty`] before the first `commit`, [`CacheError::Closed`].
    pub fn read_queries(&self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<(usize, Rows), CacheError> {
        let Geometry { layers, heads, key_dim, .. } = self.geometry;
        let seen = self.seen(seq)?;
        if seen == 0 || layer >= layers {
            return Err(CacheError::Empty { seq, layer });
        }
        let [tokens, ..] = queries.dims();
        Ok((seen, Rows::take("queries", queries, [tokens, heads, key_dim])?))
    }

    /// Ends a step: counts its tokens as seen, and returns its rows with the state to store them in.
    ///
    /// # Errors
    /// [`CacheError::NoStep`], [`CacheError::LayerOrder`] if layers are missing, [`CacheError::Closed`].
    pub fn commit(&mut self, seq: SeqId) -> Result<(Step, &mut S), CacheError> {
        let layers = self.geometry.layers;
        let expected = self.step_mut(seq)?.layers.len();
        if expected != layers {
            return Err(CacheError::LayerOrder { seq, expected, layer: layers });
        }
        let sequence = self.get_mut(seq)?;
        let step = sequence.step.take().ok_or(CacheError::NoStep { seq })?;
        sequence.seen = step.run.end;
        Ok((step, &mut sequence.state))
    }

    /// Checks that a sequence can be truncated to `len` tokens. Changes nothing.
    ///
    /// # Errors
    /// [`CacheError::TruncateBeyondEnd`], [`CacheError::Closed`].
    pub fn check_truncate(&self, seq: SeqId, len: usize) -> Result<(), CacheError> {
        let seen = self.seen(seq)?;
        if len > seen {
            return Err(CacheError::TruncateBeyondEnd { seq, seen, len });
        }
        Ok(())
    }

    /// Truncates the number of tokens seen, abandons a step in progress, and returns the state to truncate.
    ///
    /// # Errors
    /// [`CacheError::TruncateBeyondEnd`], [`CacheError::Closed`].
    pub fn truncate(&mut self, seq: SeqId, len: usize) -> Result<&mut S, CacheError> {
        self.check_truncate(seq, len)?;
        let sequence = self.get_mut(seq)?;
        sequence.seen = len;
        sequence.step = None;
        Ok(&mut sequence.state)
    }

    /// Bytes of the rows of all steps in progress, measured when a step last appended its last layer.
    pub fn scratch_bytes(&self) -> usize {
        self.last_step_bytes
    }

    fn step_bytes(&self) -> usize {
        let steps = self.open.values().filter_map(|sequence| sequence.step.as_ref());
        steps.flat_map(|step| step.layers.iter().flatten()).map(|fresh| fresh.keys.bytes() + fresh.values.bytes()).sum()
    }

    fn get(&self, seq: SeqId) -> Result<&Sequence<S>, CacheError> {
        self.open.get(&seq).ok_or(CacheError::Closed { seq })
    }

    fn get_mut(&mut self, seq: SeqId) -> Result<&mut Sequence<S>, CacheError> {
        self.open.get_mut(&seq).ok_or(CacheError::Closed { seq })
    }

    fn step_mut(&mut self, seq: SeqId) -> Result<&mut Step, CacheError> {
        self.get_mut(seq)?.step.as_mut().ok_or(CacheError::NoStep { seq })
    }
}
