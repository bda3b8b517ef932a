//! The last `window` tokens of a sequence and, optionally, its first `sinks`.
//!
//! Memory and the cost of a step are bounded at any sequence length. Older tokens are evicted. Without sinks
//! this is the sliding-window attention of Mistral (Jiang et al., arXiv:2310.06825). With sinks it is
//! StreamingLLM (Xiao et al., arXiv:2309.17453), where the sinks stay next to the window: a sink's position is
//! its place in the cache, not in the text. Tokens are not scored: only their positions decide which are kept.
//!
//! A mask enforces the window within a step, and eviction enforces it at `commit`. A prompt therefore gives the
//! same output in one chunk and token by token.
//!
//! # How sinks move
//! When the window starts at position `s`, the `n` sinks are attended as if they were at `s − n … s − 1`, that
//! is, moved by `δ = s − n`. Scores depend only on the difference of positions, `q·R(δ)k = R(−δ)q·k`. The
//! stored keys therefore stay as they are, and a copy of the *queries* is rotated back by `δ`. This takes one
//! rotation per query head, is correct for every query of a chunk, and accumulates no rounding error.
//!
//! # Beyond the context
//! No query is `window + sinks` or more positions away from a key that it sees, however long the sequence is. If that is no
//! more than the model's context, a sequence has no limit. A wider window would show distances that the model was not
//! trained on, so its sequences end where the context does.
#![forbid(unsafe_code)]

mod config;

use std::ops::Range;

use kv_core::{
    CacheError, ConfigError, ErrorBound, Fresh, Geometry, Guarantee, KvCache, PredictedBytes, Rows, SeqId, Sequences, Strategy, Tensor,
    Usage, View,
};
use kv_kernels::{BlockBytes, HeadShape, KvBlock, KvRing, Mask, Part, RowShape, Run, rotate_row};

pub use config::Config;

/// The kept tokens of each sequence.
#[derive(Debug)]
pub struct Sliding {
    config: Config,
    shape: RowShape,
    /// One per layer.
    sequences: Sequences<Vec<Layer>>,
}

#[derive(Debug, Clone)]
struct Layer {
    /// The first tokens. Slots are filled as tokens are seen, until all are full.
    sinks: KvBlock,
    /// The newest tokens, without the sinks.
    recent: KvRing,
}

impl Strategy for Sliding {
    const ID: &'static str = "sliding";
    const SUMMARY: &'static str = "the last `window` tokens and, optionally, the first `sinks`";
    type Config = Config;

    fn new(config: Config, geometry: &Geometry) -> Result<Sliding, ConfigError> {
        if config.window == 0 {
            return Err(ConfigError::value("window", 0, "a query sees at least its own token, so the smallest window is 1"));
        }
        // A window takes memory as it fills, the sinks from the start.
        geometry.check_tokens("sinks", config.sinks)?;
        let Geometry { kv_heads, key_dim, value_dim, .. } = *geometry;
        config.format.check_rows(key_dim, value_dim).map_err(|error| ConfigError::value("format", config.format, error))?;
        let shape = RowShape { heads: kv_heads, key_dim, value_dim };
        Ok(Sliding { config, shape, sequences: Sequences::new(geometry) })
    }

    fn predicted_bytes(config: &Config, geometry: &Geometry, tokens: usize, sequences: usize) -> Option<PredictedBytes> {
        let Sliding { shape, .. } = Sliding::new(config.clone(), geometry).ok()?;
        let held = config.recent_of(tokens);
        let sinks = KvBlock::predicted_bytes(shape, config.format, config.sinks, config.sinks.min(tokens));
        let recent = KvBlock::predicted_bytes(shape, config.format, KvRing::grown_slots(config.window, held), held);
        Some(PredictedBytes::from(layer_usage(sinks + recent)).times(geometry.layers).times(sequences))
    }
}

impl KvCache for Sliding {
    fn open(&mut self) -> Result<SeqId, CacheError> {
        let Config { window, sinks, format } = self.config;
        let layer = Layer { sinks: KvBlock::new(self.shape, format, sinks), recent: KvRing::new(self.shape, format, window) };
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
        let kept = &self.sequences.state(seq)?[layer];
        let [tokens, ..] = queries.dims();
        let fresh_sinks = self.config.sinks.saturating_sub(first_query).min(tokens);

        let mut recent = recent_runs(&kept.recent, first_query);
        recent.push(fresh_run(fresh, fresh_sinks..tokens, first_query));
        let mut parts = vec![Part { queries: queries.values(), mask: Mask::Window(self.config.window), runs: recent }];
        let turned = self.turned_queries(&queries, |token| self.sink_shift(first_query + token));
        if self.config.sinks > 0 {
            let stored = self.config.sinks.min(first_query);
            let runs = vec![
                Run::Block { block: &kept.sinks, first_head: 0, slots: 0..stored, first_position: 0 },
                fresh_run(fresh, 0..fresh_sinks, first_query),
            ];
            parts.push(Part { queries: turned.as_ref().unwrap_or(&queries).values(), mask: Mask::Causal, runs });
        }
        Ok(self.attended(tokens, first_query, &parts))
    }

    /// Reads the sinks and the window of the newest token, the sinks where they are for it.
    fn read(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let (seen, queries) = self.sequences.read_queries(seq, layer, queries)?;
        let kept = &self.sequences.state(seq)?[layer];
        let turned = self.turned_queries(&queries, |_| self.sink_shift(seen - 1));
        let sinks = Run::Block { block: &kept.sinks, first_head: 0, slots: 0..self.config.sinks.min(seen), first_position: 0 };
        let [tokens, ..] = queries.dims();
        let parts = [
            Part { queries: queries.values(), mask: Mask::Causal, runs: recent_runs(&kept.recent, seen) },
            Part { queries: turned.as_ref().unwrap_or(&queries).values(), mask: Mask::Causal, runs: vec![sinks] },
        ];
        Ok(self.attended(tokens, seen, &parts))
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        let Config { window, sinks, .. } = self.config;
        let (step, layers) = self.sequences.commit(seq)?;
        let new_sinks = sinks.saturating_sub(step.run.start).min(step.run.len());
        for (layer, fresh) in layers.iter_mut().zip(step.layers.iter().flatten()) {
            let heads = 0..layer.sinks.shape().heads;
            let (keys, values) = token_slices(fresh, 0..new_sinks);
            if new_sinks > 0 {
                layer.sinks.write(step.run.start..step.run.start + new_sinks, heads, keys, values);
            }
            let kept = (step.run.len() - new_sinks).min(window);
            let evicted = (layer.recent.tokens() + kept).saturating_sub(window);
            let (keys, values) = token_slices(fresh, step.run.len() - kept..step.run.len());
            layer.recent.drop_oldest(evicted);
            layer.recent.push(kept, keys, values);
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
        let sinks = self.config.sinks;
        let seen = self.sequences.seen(seq)?;
        let evicted = seen.saturating_sub(sinks).saturating_sub(self.config.window);
        if len < seen && evicted > 0 {
            let reason = format!("{evicted} tokens before the window were evicted, and the truncated sequence would need them");
            return Err(CacheError::Unsupported { strategy: Sliding::ID, operation: "truncate", reason });
        }
        let layers = self.sequences.truncate(seq, len)?;
        if len < seen {
            layers.iter_mut().for_each(|layer| layer.recent.keep_oldest(len.saturating_sub(sinks)));
        }
        Ok(())
    }

    fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
        let mut view = View::default();
        let seen = self.sequences.seen(seq)?;
        if let Some(kept) = self.sequences.state(seq)?.get(layer) {
            let stored = self.config.sinks.min(seen);
            view.positions.extend(0..stored);
            kept.sinks.decode(kv_head, 0..stored, &mut view.keys, &mut view.values);
            view.positions.extend(seen - kept.recent.tokens()..seen);
            for slots in kept.recent.slots() {
                kept.recent.block().decode(kv_head, slots, &mut view.keys, &mut view.values);
            }
        }
        if let Some((first, fresh)) = self.sequences.fresh_if_any(seq, layer)? {
            view.extend(first, fresh, kv_head);
        }
        self.keep_what_the_newest_sees(&mut view);
        Ok(view)
    }

    fn usage(&self) -> Usage {
        let sequences = self.sequences.iter().map(|(layers, seen)| {
            let usages = layers.iter().map(|layer| {
                let sinks = layer.sinks.bytes(self.config.sinks.min(seen));
                layer_usage(sinks + layer.recent.block().bytes(layer.recent.tokens()))
            });
            let resident_tokens = layers.first().map_or(0, |layer| self.config.sinks.min(seen) + layer.recent.tokens());
            Usage { seen_tokens: seen, resident_tokens, ..usages.sum() }
        });
        Usage { scratch_peak_bytes: self.sequences.scratch_bytes(), ..sequences.sum() }
    }

    fn least_bytes(&self, tokens: usize) -> usize {
        let of = |slots| KvBlock::bytes_for(self.shape, self.config.format, slots);
        of(self.config.sinks).saturating_add(of(self.config.recent_of(tokens))).saturating_mul(self.sequences.geometry().layers)
    }

    fn guarantee(&self) -> Guarantee {
        let errors = self.config.format.max_relative_errors();
        Guarantee::Evicts(errors.map(|(keys, values)| ErrorBound::of_rows(keys, values)))
    }

    /// No limit as long as the window and the sinks next to it fit into the context. A wider window shows a query keys
    /// that are further away than any that the model was trained on, so it ends where the context does.
    fn reach(&self, context: usize) -> Option<usize> {
        let Config { window, sinks, .. } = self.config;
        (window.saturating_add(sinks) > context).then_some(context)
    }
}

impl Sliding {
    /// Attention of the parts' queries, the first of which is at `first_query`.
    fn attended(&self, tokens: usize, first_query: usize, parts: &[Part<'_>]) -> Tensor<3> {
        let Geometry { heads, kv_heads, key_dim, value_dim, .. } = *self.sequences.geometry();
        let out = kv_kernels::attend(HeadShape { heads, kv_heads, key_dim, value_dim }, first_query, parts).out;
        Rows::new([tokens, heads, value_dim], out).into_tensor()
    }

    /// How far the sinks are moved for the query at `position`, so that they end just before its window.
    fn sink_shift(&self, position: usize) -> usize {
        (position + 1).saturating_sub(self.config.window).saturating_sub(self.config.sinks)
    }

    /// The queries rotated to match the sinks' stored keys, which have moved by `shift` for each token's query. `None` if
    /// they have moved for none.
    fn turned_queries(&self, queries: &Rows, shift: impl Fn(usize) -> usize) -> Option<Rows> {
        let [tokens, heads, key_dim] = queries.dims();
        // They never move back.
        if self.config.sinks == 0 || tokens == 0 || shift(tokens - 1) == 0 {
            return None;
        }
        let rope = &self.sequences.geometry().rope;
        let mut turned = queries.values().to_vec();
        for (token, queries) in turned.chunks_exact_mut(heads * key_dim).enumerate() {
            let turns = rope.turns(-(shift(token) as i64));
            queries.chunks_exact_mut(key_dim).for_each(|query| rotate_row(query, &turns));
        }
        Some(Rows::new(queries.dims(), turned))
    }

    /// Drops the rows before the newest token's window and moves the sinks next to it.
    fn keep_what_the_newest_sees(&self, view: &mut View) {
        let Some(newest) = view.positions.iter().max().copied() else { return };
        let Config { window, sinks, .. } = self.config;
        let Geometry { key_dim, value_dim, .. } = *self.sequences.geometry();
        let turns = self.sequences.geometry().rope.turns(self.sink_shift(newest) as i64);
        let mut seen = View::default();
        for (row, &position) in view.positions.iter().enumerate() {
            let mut key = view.keys[row * key_dim..(row + 1) * key_dim].to_vec();
            match position {
                _ if position < sinks => rotate_row(&mut key, &turns),
                _ if position.saturating_add(window) <= newest => continue,
                _ => {}
            }
            seen.positions.push(position);
            seen.keys.extend(key);
            seen.values.extend(&view.values[row * value_dim..(row + 1) * value_dim]);
        }
        *view = seen;
    }
}

/// What a layer takes whose rows take these bytes.
fn layer_usage(rows: BlockBytes) -> Usage {
    let BlockBytes { codes, scales, slack } = rows;
    let metadata_bytes = scales.saturating_add(size_of::<Layer>());
    Usage { payload_bytes: codes, metadata_bytes, slack_bytes: slack, ..Usage::default() }
}

/// The ring's tokens. The newest is at position `end − 1`.
fn recent_runs(recent: &KvRing, end: usize) -> Vec<Run<'_>> {
    let mut first_position = end - recent.tokens();
    let mut runs = vec![];
    for slots in recent.slots() {
        let tokens = slots.len();
        runs.push(Run::Block { block: recent.block(), first_head: 0, slots, first_position });
        first_position += tokens;
    }
    runs
}

fn fresh_run(fresh: &Fresh, tokens: Range<usize>, first_fresh: usize) -> Run<'_> {
    let (keys, values) = token_slices(fresh, tokens.clone());
    Run::Rows { keys, values, first_position: first_fresh + tokens.start }
}

/// The keys and values of some of a step's tokens.
fn token_slices(fresh: &Fresh, tokens: Range<usize>) -> (&[f32], &[f32]) {
    let of = |rows: &Rows| {
        let [_, heads, dim] = rows.dims();
        tokens.start * heads * dim..tokens.end * heads * dim
    };
    (&fresh.keys.values()[of(&fresh.keys)], &fresh.values.values()[of(&fresh.values)])
}
