//! 8-, 4- and 2-bit codes with one scale per group, and a full-precision tail (the residual window).
//!
//! A token is *sealed*, that is, encoded once and for all, when it is older than the `residual` newest ones.
//! Until then its rows are `f32`. Attention reads the codes in place: no step decodes the cache into a buffer,
//! and a sealed row is never encoded again. The formats `kivi2` and `kivi4` are those of KIVI (Liu et al.,
//! arXiv:2402.02750): keys have one scale per channel and group of tokens, and are sealed when a group is full.
//! This strategy evicts no tokens, and applies no rotation before it quantizes.
#![forbid(unsafe_code)]

mod config;

use std::ops::Range;

use kv_core::{
    CacheError, ConfigError, ErrorBound, Geometry, Guarantee, KvCache, PredictedBytes, Rows, SeqId, Sequences, Strategy, Tensor, Usage,
    View,
};
use kv_kernels::{BlockBytes, Formats, HeadShape, KvBlock, KvRing, Mask, Part, RowShape, Run};

pub use config::Config;

/// Sealed tokens and the tail of each sequence.
#[derive(Debug)]
pub struct Quantized {
    config: Config,
    shape: RowShape,
    /// One per layer.
    sequences: Sequences<Vec<Layer>>,
}

#[derive(Debug, Clone)]
struct Layer {
    /// The older tokens, quantized: all seen tokens that are not in the tail.
    sealed: KvBlock,
    /// The newest tokens, in full precision.
    tail: KvRing,
}

impl Strategy for Quantized {
    const ID: &'static str = "quantized";
    const SUMMARY: &'static str = "8-, 4- or 2-bit codes with one scale per group, or KIVI's formats, and an f32 tail";
    type Config = Config;

    fn new(config: Config, geometry: &Geometry) -> Result<Quantized, ConfigError> {
        if !config.format.is_quantised() {
            let reason =
                "keys or values must be quantized (q8_0, q4_0, q4_1, kivi4, kivi2, …); `contiguous` stores f32, f16, bf16 and fp8_e4m3";
            return Err(ConfigError::value("format", config.format, reason));
        }
        let Geometry { kv_heads, key_dim, value_dim, .. } = *geometry;
        config.format.check_dims(key_dim, value_dim).map_err(|error| ConfigError::value("format", config.format, error))?;
        let shape = RowShape { heads: kv_heads, key_dim, value_dim };
        Ok(Quantized { config, shape, sequences: Sequences::new(geometry) })
    }

    fn predicted_bytes(config: &Config, geometry: &Geometry, tokens: usize, sequences: usize) -> Option<PredictedBytes> {
        let Quantized { shape, .. } = Quantized::new(config.clone(), geometry).ok()?;
        let sealed = config.sealed_of(tokens);
        let codes = KvBlock::predicted_bytes(shape, config.format, KvBlock::grown_slots(sealed), sealed);
        let tail_slots = KvRing::grown_slots(config.tail_limit(), tokens);
        let tail = KvBlock::predicted_bytes(shape, Formats::F32, tail_slots, tokens - sealed);
        Some(PredictedBytes::from(layer_usage(codes + tail)).times(geometry.layers).times(sequences))
    }
}

impl KvCache for Quantized {
    fn open(&mut self) -> Result<SeqId, CacheError> {
        let layer = Layer {
            sealed: KvBlock::new(self.shape, self.config.format, 0),
            tail: KvRing::new(self.shape, Formats::F32, self.config.tail_limit()),
        };
        let layers = self.sequences.geometry().layers;
        Ok(self.sequences.open(0, vec![layer; layers]))
    }

    fn close(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.sequences.close(seq).map(|_| ())
    }

    fn seen(&self, seq: SeqId) -> Result<usize, CacheError> {
        self.sequences.seen(seq)
    }

    fn begin(&mut self, seq: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError> {
        self.sequences.check_begin(seq, &fresh)?;
        self.sequences.begin(seq, fresh)
    }

    fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
        self.sequences.append(seq, layer, keys, values)
    }

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let queries = self.sequences.queries(seq, layer, queries)?;
        let (first_query, fresh) = self.sequences.fresh(seq, layer)?;
        let mut runs = self.sequences.state(seq)?[layer].runs(first_query);
        runs.push(Run::Rows { keys: fresh.keys.values(), values: fresh.values.values(), first_position: first_query });
        Ok(self.attended(&queries, first_query, runs))
    }

    fn read(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let (seen, queries) = self.sequences.read_queries(seq, layer, queries)?;
        Ok(self.attended(&queries, seen, self.sequences.state(seq)?[layer].runs(seen)))
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        let Quantized { config, sequences, .. } = self;
        let (step, layers) = sequences.commit(seq)?;
        let sealed = config.sealed_of(step.run.end);
        for (layer, fresh) in layers.iter_mut().zip(step.layers.iter().flatten()) {
            layer.add(step.run.clone(), sealed, fresh.keys.values(), fresh.values.values());
        }
        Ok(())
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId, CacheError> {
        let layers = self.sequences.state(seq)?.clone();
        let seen = self.sequences.seen(seq)?;
        Ok(self.sequences.open(seen, layers))
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), CacheError> {
        self.sequences.check_truncate(seq, len)?;
        let seen = self.sequences.seen(seq)?;
        let in_tail = self.sequences.state(seq)?.first().map_or(0, |layer| layer.tail.tokens());
        let sealed = seen - in_tail;
        let sealed_if_fresh = self.config.sealed_of(len);
        if sealed.min(len) > sealed_if_fresh {
            let reason =
                format!("tokens {sealed_if_fresh}..{} are sealed, but a sequence of {len} tokens would hold them in f32", sealed.min(len));
            return Err(CacheError::Unsupported { strategy: Quantized::ID, operation: "truncate", reason });
        }
        let layers = self.sequences.truncate(seq, len)?;
        layers.iter_mut().for_each(|layer| layer.tail.keep_oldest(len.saturating_sub(sealed)));
        Ok(())
    }

    fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
        let mut view = View::default();
        let seen = self.sequences.seen(seq)?;
        if let Some(Layer { sealed, tail }) = self.sequences.state(seq)?.get(layer) {
            view.positions.extend(0..seen);
            sealed.decode(kv_head, 0..seen - tail.tokens(), &mut view.keys, &mut view.values);
            for slots in tail.slots() {
                tail.block().decode(kv_head, slots, &mut view.keys, &mut view.values);
            }
        }
        if let Some((first, fresh)) = self.sequences.fresh_if_any(seq, layer)? {
            view.extend(first, fresh, kv_head);
        }
        Ok(view)
    }

    fn usage(&self) -> Usage {
        let sequences = self.sequences.iter().map(|(layers, seen)| {
            let usages = layers
                .iter()
                .map(|Layer { sealed, tail }| layer_usage(sealed.bytes(seen - tail.tokens()) + tail.block().bytes(tail.tokens())));
            Usage { seen_tokens: seen, resident_tokens: seen, ..usages.sum() }
        });
        Usage { scratch_peak_bytes: self.sequences.scratch_bytes(), ..sequences.sum() }
    }

    fn least_bytes(&self, tokens: usize) -> usize {
        let sealed = self.config.sealed_of(tokens);
        let codes = KvBlock::bytes_for(self.shape, self.config.format, sealed);
        let tail = KvBlock::bytes_for(self.shape, Formats::F32, tokens - sealed);
        codes.saturating_add(tail).saturating_mul(self.sequences.geometry().layers)
    }

    fn guarantee(&self) -> Guarantee {
        let errors = self.config.format.max_relative_errors();
        let key_tokens = self.config.format.keys.key_tokens();
        errors.map_or(Guarantee::Exact, |(keys, values)| Guarantee::Lossy(ErrorBound { keys, values, key_tokens }))
    }
}

impl Quantized {
    /// Attention of queries from the position `first_query` on. They see all earlier tokens of the runs.
    fn attended(&self, queries: &Rows, first_query: usize, runs: Vec<Run<'_>>) -> Tensor<3> {
        let Geometry { heads, kv_heads, key_dim, value_dim, .. } = *self.sequences.geometry();
        let shape = HeadShape { heads, kv_heads, key_dim, value_dim };
        let out = kv_kernels::attend(shape, first_query, &[Part { queries: queries.values(), mask: Mask::Causal, runs }]).out;
        let [tokens, ..] = queries.dims();
        Rows::new([tokens, heads, value_dim], out).into_tensor()
    }
}

impl Layer {
    /// All tokens of a sequence that has seen `seen`: those that are sealed, then the tail.
    fn runs(&self, seen: usize) -> Vec<Run<'_>> {
        let Layer { sealed, tail } = self;
        let in_tail = seen - tail.tokens();
        let [older, newer] = tail.slots();
        vec![
            Run::Block { block: sealed, first_head: 0, slots: 0..in_tail, first_position: 0 },
            Run::Block { block: tail.block(), first_head: 0, slots: older.clone(), first_position: in_tail },
            Run::Block { block: tail.block(), first_head: 0, slots: newer, first_position: in_tail + older.len() },
        ]
    }

    /// Adds the rows of the positions `run` and seals the tokens before `sealed_after`.
    fn add(&mut self, run: Range<usize>, sealed_after: usize, keys: &[f32], values: &[f32]) {
        let RowShape { heads, key_dim, value_dim } = self.sealed.shape();
        let sealed = run.start - self.tail.tokens();
        let sealed_after = sealed_after.max(sealed);
        let from_tail = (sealed_after - sealed).min(self.tail.tokens());
        let at_once = sealed_after - sealed - from_tail;
        let (sealed_keys, tail_keys) = keys.split_at(at_once * heads * key_dim);
        let (sealed_values, tail_values) = values.split_at(at_once * heads * value_dim);
        if sealed_after > sealed {
            self.sealed.make_room(sealed_after, sealed);
        }
        if from_tail == 0 {
            self.sealed.write(sealed..sealed_after, 0..heads, sealed_keys, sealed_values);
        } else {
            // A group of keys that are encoded together may begin in the tail and end in the step.
            for head in 0..heads {
                let (mut head_keys, mut head_values) = (vec![], vec![]);
                let mut left = from_tail;
                for slots in self.tail.slots() {
                    let slots = slots.start..slots.end.min(slots.start + left);
                    left -= slots.len();
                    self.tail.block().decode(head, slots, &mut head_keys, &mut head_values);
                }
                head_keys.extend(sealed_keys.chunks_exact(key_dim).skip(head).step_by(heads).flatten());
                head_values.extend(sealed_values.chunks_exact(value_dim).skip(head).step_by(heads).flatten());
                self.sealed.write(sealed..sealed_after, head..head + 1, &head_keys, &head_values);
            }
            self.tail.drop_oldest(from_tail);
        }
        // In smaller steps, the tail would have held more tokens than it does now. Its memory does not depend on the steps.
        self.tail.make_room(run.end);
        self.tail.push(run.len() - at_once, tail_keys, tail_values);
    }
}

/// What a layer takes whose rows take these bytes.
fn layer_usage(rows: BlockBytes) -> Usage {
    let BlockBytes { codes, scales, slack } = rows;
    let metadata_bytes = scales.saturating_add(size_of::<Layer>());
    Usage { payload_bytes: codes, metadata_bytes, slack_bytes: slack, ..Usage::default() }
}
