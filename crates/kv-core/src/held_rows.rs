//! Unencoded rows: storage for strategies that differ only in *which* tokens they keep.

use std::ops::Range;

use crate::{CacheError, Geometry, Rows, SeqId, Sequences, Tensor, Usage, View, reference};

/// The rows of every open sequence in full precision, each with its position. The strategy decides which rows are
/// kept and which rows a query sees.
///
/// It is simple, not fast: it uses the reference attention. A fast strategy keeps its rows in blocks and attends
/// with the kernels.
#[derive(Debug)]
pub struct HeldRows {
    /// For each layer, one view per KV head.
    sequences: Sequences<Vec<Vec<View>>>,
}

impl HeldRows {
    /// Storage without sequences.
    pub fn new(geometry: &Geometry) -> HeldRows {
        HeldRows { sequences: Sequences::new(geometry) }
    }

    /// [`KvCache::open`](crate::KvCache::open).
    ///
    /// # Errors
    /// None at present.
    pub fn open(&mut self) -> Result<SeqId, CacheError> {
        let Geometry { layers, kv_heads, .. } = *self.sequences.geometry();
        Ok(self.sequences.open(0, vec![vec![View::default(); kv_heads]; layers]))
    }

    /// [`KvCache::close`](crate::KvCache::close).
    ///
    /// # Errors
    /// [`CacheError::Closed`].
    pub fn close(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.sequences.close(seq).map(|_| ())
    }

    /// [`KvCache::seen`](crate::KvCache::seen).
    ///
    /// # Errors
    /// [`CacheError::Closed`].
    pub fn seen(&self, seq: SeqId) -> Result<usize, CacheError> {
        self.sequences.seen(seq)
    }

    /// [`KvCache::begin`](crate::KvCache::begin), without a limit.
    ///
    /// # Errors
    /// [`CacheError::Misplaced`], [`CacheError::Closed`].
    pub fn begin(&mut self, seq: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError> {
        self.sequences.check_begin(seq, &fresh)?;
        self.sequences.begin(seq, fresh)
    }

    /// [`KvCache::append`](crate::KvCache::append).
    ///
    /// # Errors
    /// [`CacheError::NoStep`], [`CacheError::LayerOrder`], [`CacheError::Shape`], [`CacheError::Closed`].
    pub fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
        self.sequences.append(seq, layer, keys, values)
    }

    /// [`KvCache::attend`](crate::KvCache::attend). The query at position `q` sees the held rows at positions
    /// `k ≤ q` for which `sees(q, k)` is true.
    ///
    /// # Errors
    /// [`CacheError::Empty`], [`CacheError::Shape`], [`CacheError::Closed`].
    pub fn attend(
        &self,
        seq: SeqId,
        layer: usize,
        queries: Tensor<3>,
        sees: impl Fn(usize, usize) -> bool,
    ) -> Result<Tensor<3>, CacheError> {
        let queries: Rows = self.sequences.queries(seq, layer, queries)?;
        let (first_query, _) = self.sequences.fresh(seq, layer)?;
        let heads = 0..self.sequences.geometry().kv_heads;
        let views = heads.map(|kv_head| self.view(seq, layer, kv_head, |_, _| true)).collect::<Result<Vec<_>, _>>()?;
        let visible = |query, key| reference::causal(query, key) && sees(query, key);
        Ok(reference::attend_views(self.sequences.geometry(), first_query, &queries, &views, visible).into_tensor())
    }

    /// [`KvCache::read`](crate::KvCache::read) of the rows for which `sees(newest, position)` is true.
    ///
    /// # Errors
    /// [`CacheError::Empty`], [`CacheError::Shape`], [`CacheError::Closed`].
    pub fn read(&self, seq: SeqId, layer: usize, queries: Tensor<3>, sees: impl Fn(usize, usize) -> bool) -> Result<Tensor<3>, CacheError> {
        let (seen, queries) = self.sequences.read_queries(seq, layer, queries)?;
        let views = &self.sequences.state(seq)?[layer];
        let visible = |_, key| sees(seen - 1, key);
        Ok(reference::attend_views(self.sequences.geometry(), seen, &queries, views, visible).into_tensor())
    }

    /// [`KvCache::commit`](crate::KvCache::commit). Of `seen` tokens, it keeps those for which
    /// `keeps(seen, position)` is true.
    ///
    /// # Errors
    /// [`CacheError::NoStep`], [`CacheError::LayerOrder`], [`CacheError::Closed`].
    pub fn commit(&mut self, seq: SeqId, keeps: impl Fn(usize, usize) -> bool) -> Result<(), CacheError> {
        let Geometry { key_dim, value_dim, .. } = *self.sequences.geometry();
        let (step, layers) = self.sequences.commit(seq)?;
        for (views, fresh) in layers.iter_mut().zip(step.layers.iter().flatten()) {
            for (kv_head, view) in views.iter_mut().enumerate() {
                view.extend(step.run.start, fresh, kv_head);
                view.retain(key_dim, value_dim, |position| keeps(step.run.end, position));
            }
        }
        Ok(())
    }

    /// [`KvCache::view`](crate::KvCache::view) of the rows for which `sees(newest, position)` is true.
    ///
    /// # Errors
    /// [`CacheError::Closed`].
    pub fn view(&self, seq: SeqId, layer: usize, kv_head: usize, sees: impl Fn(usize, usize) -> bool) -> Result<View, CacheError> {
        let Geometry { key_dim, value_dim, .. } = *self.sequences.geometry();
        let held = self.sequences.state(seq)?.get(layer).and_then(|views| views.get(kv_head));
        let mut view = held.cloned().unwrap_or_default();
        if let Some((first, fresh)) = self.sequences.fresh_if_any(seq, layer)? {
            view.extend(first, fresh, kv_head);
        }
        let newest = view.positions.iter().max().copied().unwrap_or_default();
        view.retain(key_dim, value_dim, |position| sees(newest, position));
        Ok(view)
    }

    /// [`KvCache::fork`](crate::KvCache::fork). Copies every row.
    ///
    /// # Errors
    /// [`CacheError::Closed`].
    pub fn fork(&mut self, seq: SeqId) -> Result<SeqId, CacheError> {
        let layers = self.sequences.state(seq)?.clone();
        let seen = self.sequences.seen(seq)?;
        Ok(self.sequences.open(seen, layers))
    }

    /// [`KvCache::truncate`](crate::KvCache::truncate), for a strategy that keeps every row.
    ///
    /// # Errors
    /// [`CacheError::TruncateBeyondEnd`], [`CacheError::Closed`].
    pub fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), CacheError> {
        let Geometry { key_dim, value_dim, .. } = *self.sequences.geometry();
        for view in self.sequences.truncate(seq, len)?.iter_mut().flatten() {
            view.retain(key_dim, value_dim, |position| position < len);
        }
        Ok(())
    }

    /// [`KvCache::usage`](crate::KvCache::usage).
    pub fn usage(&self) -> Usage {
        let sequences = self.sequences.iter().map(|(layers, seen)| {
            let held = layers.first().and_then(|views| views.first()).map_or(0, |view| view.positions.len());
            let layer_usage =
                |views: &Vec<View>| views.iter().map(view_usage).sum::<Usage>().with_metadata(views.capacity() * size_of::<View>());
            let all: Usage = layers.iter().map(layer_usage).sum();
            let all = all.with_metadata(layers.capacity() * size_of::<Vec<View>>());
            Usage { seen_tokens: seen, resident_tokens: held, ..all }
        });
        Usage { scratch_peak_bytes: self.sequences.scratch_bytes(), ..sequences.sum() }
    }
}

fn view_usage(view: &View) -> Usage {
    let View { positions, keys, values } = view;
    Usage {
        payload_bytes: (keys.len() + values.len()) * size_of::<f32>(),
        slack_bytes: (keys.capacity() - keys.len() + values.capacity() - values.len()) * size_of::<f32>(),
        metadata_bytes: positions.capacity() * size_of::<usize>(),
        ..Usage::default()
    }
}
