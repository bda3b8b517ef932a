//! No cache: nothing is kept between steps, and the model reruns every position.
//!
//! It is the baseline that shows what a cache saves, and the oracle for every exact strategy. Within a step it
//! holds the rows of the current layer, as any attention must.
#![forbid(unsafe_code)]

use std::ops::Range;

use kv_core::{
    CacheError, ConfigError, Geometry, Guarantee, KvCache, PredictedBytes, Rows, SeqId, Sequences, Strategy, Tensor, Usage, View,
};
use kv_kernels::{HeadShape, Mask, Part, Run};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Recomputation has no parameters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {}

/// Counts the tokens that each sequence has seen and keeps none of their rows.
#[derive(Debug)]
pub struct Naive {
    sequences: Sequences<()>,
}

impl Strategy for Naive {
    const ID: &'static str = "naive";
    const SUMMARY: &'static str = "no cache: the model reruns every position at every step";
    type Config = Config;

    fn new(_: Config, geometry: &Geometry) -> Result<Naive, ConfigError> {
        Ok(Naive { sequences: Sequences::new(geometry) })
    }

    fn predicted_bytes(_: &Config, _: &Geometry, _: usize, _: usize) -> Option<PredictedBytes> {
        Some(PredictedBytes::default())
    }
}

impl KvCache for Naive {
    fn open(&mut self) -> Result<SeqId, CacheError> {
        Ok(self.sequences.open(0, ()))
    }

    fn close(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.sequences.close(seq)
    }

    fn seen(&self, seq: SeqId) -> Result<usize, CacheError> {
        self.sequences.seen(seq)
    }

    fn begin(&mut self, seq: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError> {
        self.sequences.check_begin(seq, &fresh)?;
        self.sequences.begin(seq, 0..fresh.end)
    }

    fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
        self.sequences.append(seq, layer, keys, values)?;
        // The previous layer has been attended. A forward pass without a cache holds one layer at a time.
        match layer.checked_sub(1) {
            Some(before) => self.sequences.drop_layer(seq, before),
            None => Ok(()),
        }
    }

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let queries = self.sequences.queries(seq, layer, queries)?;
        let (first_position, fresh) = self.sequences.fresh(seq, layer)?;
        let Geometry { heads, kv_heads, key_dim, value_dim, .. } = *self.sequences.geometry();
        let runs = vec![Run::Rows { keys: fresh.keys.values(), values: fresh.values.values(), first_position }];
        let shape = HeadShape { heads, kv_heads, key_dim, value_dim };
        let out = kv_kernels::attend(shape, first_position, &[Part { queries: queries.values(), mask: Mask::Causal, runs }]).out;
        let [tokens, ..] = queries.dims();
        Ok(Rows::new([tokens, heads, value_dim], out).into_tensor())
    }

    fn read(&mut self, seq: SeqId, _: usize, _: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        self.sequences.seen(seq)?;
        let reason = "it keeps no rows between steps: the model would have to compute them again".into();
        Err(CacheError::Unsupported { strategy: Naive::ID, operation: "read", reason })
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.sequences.commit(seq).map(|_| ())
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId, CacheError> {
        let seen = self.sequences.seen(seq)?;
        Ok(self.sequences.open(seen, ()))
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), CacheError> {
        self.sequences.truncate(seq, len).map(|_| ())
    }

    fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
        let mut view = View::default();
        if let Some((first, fresh)) = self.sequences.fresh_if_any(seq, layer)? {
            view.extend(first, fresh, kv_head);
        }
        Ok(view)
    }

    fn usage(&self) -> Usage {
        let seen_tokens = self.sequences.iter().map(|(_, seen)| seen).sum();
        Usage { seen_tokens, scratch_peak_bytes: self.sequences.scratch_bytes(), ..Usage::default() }
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Exact
    }

    fn recomputes(&self) -> bool {
        true
    }
}
