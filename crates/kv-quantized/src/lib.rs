//! 8- and 4-bit codes with a scale for each group along a head's dimension, and a full-precision tail.
//!
//! A token is *sealed* (encoded for good) once it is older than the `residual` newest ones; until then its
//! rows are `f32`. It is read where it lies: no step decodes the cache into a buffer, and a sealed row is
//! never encoded again. It is not KIVI: keys are quantised along a token's dimension, not along a channel.
#![forbid(unsafe_code)]

mod config;

use std::ops::Range;

use kv_core::{CacheError, ConfigError, ErrorBound, Geometry, Guarantee, KvCache, Rows, SeqId, Sequences, Strategy, Tensor, Usage, View};
use kv_kernels::{BlockBytes, Formats, HeadShape, KvBlock, KvRing, Mask, Part, RowShape, Run};

pub use config::Config;

/// Sealed tokens and the tail of each sequence.
#[derive(Debug)]
pub struct Quantized {
    config: Config,
    shape: RowShape,
    /// One a layer.
    sequences: Sequences<Vec<Layer>>,
}

#[derive(Debug, Clone)]
struct Layer {
    /// The oldest tokens, quantised; all that were seen and are not in the tail.
    sealed: KvBlock,
    /// The newest tokens, in full precision.
    tail: KvRing,
}

impl Strategy for Quantized {
    const ID: &'static str = "quantized";
    const SUMMARY: &'static str = "8- or 4-bit codes with a scale a group, keys and values apart, and an f32 tail";
    type Config = Config;

    fn new(config: Config, geometry: &Geometry) -> Result<Quantized, ConfigError> {
        if !config.format.is_quantised() {
            let reason = "keys or values must be quantised (q8_0, q4_0, …); `contiguous` stores f32, f16 and bf16";
            return Err(ConfigError::value("format", config.format, reason));
        }
        let Geometry { kv_heads, key_dim, value_dim, .. } = *geometry;
        config.format.check_dims(key_dim, value_dim).map_err(|error| ConfigError::value("format", config.format, error))?;
        let shape = RowShape { heads: kv_heads, key_dim, value_dim };
        Ok(Quantized { config, shape, sequences: Sequences::new(geometry) })
    }
}

impl KvCache for Quantized {
    fn open(&mut self) -> Result<SeqId, CacheError> {
        let layer = Layer {
            sealed: KvBlock::new(self.shape, self.config.format, 0),
            tail: KvRing::new(self.shape, Formats::F32, self.config.residual),
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
        let Geometry { heads, kv_heads, key_dim, value_dim, .. } = *self.sequences.geometry();
        let Layer { sealed, tail } = &self.sequences.state(seq)?[layer];
        let in_tail = first_query - tail.tokens();
        let [older, newer] = tail.slots();
        let runs = vec![
            Run::Block { block: sealed, first_head: 0, slots: 0..in_tail, first_position: 0 },
            Run::Block { block: tail.block(), first_head: 0, slots: older.clone(), first_position: in_tail },
            Run::Block { block: tail.block(), first_head: 0, slots: newer, first_position: in_tail + older.len() },
            Run::Rows { keys: fresh.keys.values(), values: fresh.values.values(), first_position: first_query },
        ];
        let shape = HeadShape { heads, kv_heads, key_dim, value_dim };
        let out = kv_kernels::attend(shape, first_query, &[Part { queries: queries.values(), mask: Mask::Causal, runs }]);
        let [tokens, ..] = queries.dims();
        Ok(Rows::new([tokens, heads, value_dim], out).into_tensor())
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        let residual = self.config.residual;
        let (step, layers) = self.sequences.commit(seq)?;
        for (layer, fresh) in layers.iter_mut().zip(step.layers.iter().flatten()) {
            layer.add(step.run.clone(), residual, fresh.keys.values(), fresh.values.values());
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
        let residual = self.config.residual;
        let seen = self.sequences.seen(seq)?;
        let in_tail = self.sequences.state(seq)?.first().map_or(0, |layer| layer.tail.tokens());
        let sealed = seen - in_tail;
        let sealed_if_fresh = len.saturating_sub(residual);
        if sealed.min(len) > sealed_if_fresh {
            let reason =
                format!("tokens {sealed_if_fresh}..{} are sealed, and a sequence of {len} tokens would hold them in f32", sealed.min(len));
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
            let usages = layers.iter().map(|Layer { sealed, tail }| {
                let BlockBytes { codes, scales, slack } = sealed.bytes(seen - tail.tokens()) + tail.block().bytes(tail.tokens());
                let metadata_bytes = scales + size_of::<Layer>();
                Usage { payload_bytes: codes, metadata_bytes, slack_bytes: slack, ..Usage::default() }
            });
            Usage { seen_tokens: seen, resident_tokens: seen, ..usages.sum() }
        });
        Usage { scratch_peak_bytes: self.sequences.scratch_bytes(), ..sequences.sum() }
    }

    fn guarantee(&self) -> Guarantee {
        let errors = self.config.format.max_relative_errors();
        errors.map_or(Guarantee::Exact, |(keys, values)| Guarantee::Lossy(ErrorBound { keys, values }))
    }
}

impl Layer {
    /// Adds the rows of the positions `run`, and seals what is older than the `residual` newest tokens.
    fn add(&mut self, run: Range<usize>, residual: usize, keys: &[f32], values: &[f32]) {
        let RowShape { heads, key_dim, value_dim } = self.sealed.shape();
        let sealed = run.start - self.tail.tokens();
        let sealed_after = run.end.saturating_sub(residual).max(sealed);
        self.sealed.make_room(sealed_after, sealed);

        let from_tail = (sealed_after - sealed).min(self.tail.tokens());
        let mut next = sealed;
        for slots in self.tail.slots() {
            let slots = slots.start..slots.end.min(slots.start + sealed + from_tail - next);
            next += slots.len();
            self.sealed.copy_from(next - slots.len(), self.tail.block(), slots);
        }
        self.tail.drop_oldest(from_tail);

        let at_once = sealed_after - next;
        let (sealed_keys, tail_keys) = keys.split_at(at_once * heads * key_dim);
        let (sealed_values, tail_values) = values.split_at(at_once * heads * value_dim);
        self.sealed.write(next..sealed_after, 0..heads, sealed_keys, sealed_values);
        self.tail.push(run.len() - at_once, tail_keys, tail_values);
    }
}
