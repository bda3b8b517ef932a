//! Rows that no model computes, drawn from a seed, with the traits of real ones that caches and their formats depend on.
//!
//! Every number is a function of the seed, the layer, the head, the position and the channel, so that rows do not depend on
//! the steps in which they are asked for.
//!
//! - **Keys** have unit variance in most channels. About 1.5 % of the channels of each layer and KV head are *outliers*: the
//!   same ones at all positions, of one sign, 5 to 20 times as large (KIVI, arXiv:2402.02750, section 3.1; KVQuant,
//!   arXiv:2401.18079, section 3.1). They lie in the slowest quarter of the rotation's planes, where large key channels of real
//!   models are found (Jin et al., arXiv:2502.01563). A key's norm is of the order of `√key_dim`.
//! - **Values** have no such channels, as both papers report, and are smaller.
//! - **Sinks**: all queries give the first [`SINKS`] positions a score of about [`SINK_SCORE`], whatever the distance, and the
//!   values there are close to nothing (StreamingLLM, arXiv:2309.17453). At 32768 tokens they draw most of the attention.
//! - **Queries** otherwise score keys with a standard deviation of 1 to 2.
//! - Keys and queries are rotated to their positions as the shape's model does it.
//!
//! What a model has beyond that, these rows do not: neighbors are not alike, no key is looked for, and heads differ only in
//! their numbers.

use std::ops::Range;

use kv_core::{CacheError, Geometry, Rows};
use kv_script::RowSource;
use rayon::prelude::*;

/// Positions at the beginning that draw attention.
const SINKS: usize = 4;
/// The score that a sink has with every query, over what other keys have.
const SINK_SCORE: f32 = 12.0;
/// The size of an outlier channel: that of others times this.
const OUTLIER: Range<f32> = 5.0..20.0;
/// The share of a key's channels that are outliers.
const OUTLIERS: f64 = 0.015;
/// How much an outlier channel varies, relative to its size.
const OUTLIER_SPREAD: f32 = 0.25;
/// Standard deviations: of values, of values at sinks, and of a sink's key around its direction.
const VALUE: f32 = 0.3;
const SINK_VALUE: f32 = 0.01;
const SINK_KEY: f32 = 0.3;

/// A source of generated rows; see the module.
#[derive(Debug, Clone)]
pub(crate) struct Generated {
    pub(crate) geometry: Geometry,
    seed: u64,
}

/// What is drawn. The numbers are part of the rows' definition.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Keys = 1,
    Values = 2,
    Queries = 3,
    Channels = 4,
}

/// The channels of the keys of one layer and KV head.
#[derive(Debug, Clone)]
struct Channels {
    /// For each outlier its index, and its size with its sign.
    outliers: Vec<(usize, f32)>,
    /// The direction of the sinks: 1 or −1 for each channel, and 0 for outliers.
    sink: Vec<f32>,
}

impl Generated {
    /// Rows of this shape.
    pub(crate) fn new(geometry: Geometry, seed: u64) -> Generated {
        Generated { geometry, seed }
    }

    fn channels(&self, layer: usize, kv_head: usize) -> Channels {
        let Geometry { key_dim, rope, .. } = &self.geometry;
        let drawn = Drawn::new(self.seed, Kind::Channels, layer, kv_head);
        let planes = rope.rotated() / 2;
        // Values that are not rotated stay in place, too.
        let first = planes - planes.div_ceil(4);
        let mut candidates: Vec<usize> = (first..planes).flat_map(|plane| [plane, plane + planes]).chain(2 * planes..*key_dim).collect();
        let count = ((*key_dim as f64 * OUTLIERS).round() as usize).clamp(1, candidates.len());
        let outlier = |index: usize| {
            let at = drawn.word(index, 0) % candidates.len() as u64;
            let share = drawn.word(index, 1) as f32 / u64::MAX as f32;
            let sign = sign(drawn.word(index, 2));
            (candidates.swap_remove(at as usize), sign * (OUTLIER.start + share * (OUTLIER.end - OUTLIER.start)))
        };
        let outliers: Vec<(usize, f32)> = (0..count).map(outlier).collect();
        let mut sink: Vec<f32> = (0..*key_dim).map(|channel| sign(drawn.word(count, channel))).collect();
        outliers.iter().for_each(|(channel, _)| sink[*channel] = 0.0);
        Channels { outliers, sink }
    }

    /// How a row at this position is turned.
    fn turns(&self, position: usize) -> Vec<(f32, f32)> {
        self.geometry.rope.turns(position as i64)
    }
}

/// Rows of some heads. `draw` fills those of a position.
fn rows(positions: Range<usize>, heads: usize, dim: usize, draw: impl Fn(usize, &mut [f32]) + Sync) -> Rows {
    let mut values = vec![0.0; positions.len() * heads * dim];
    let width = (heads * dim).max(1);
    if positions.len() == 1 {
        // One row is made before another thread is awake.
        values.chunks_exact_mut(width).for_each(|row| draw(positions.start, row));
    } else {
        let tokens = values.par_chunks_exact_mut(width).enumerate();
        tokens.for_each(|(token, row)| draw(positions.start + token, row));
    }
    Rows::new([positions.len(), heads, dim], values)
}

impl RowSource for Generated {
    type Error = CacheError;

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn keys(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
        let Geometry { kv_heads, key_dim, .. } = self.geometry;
        let heads: Vec<(Drawn, Channels)> =
            (0..kv_heads).map(|head| (Drawn::new(self.seed, Kind::Keys, layer, head), self.channels(layer, head))).collect();
        let draw = |position: usize, rows: &mut [f32]| {
            let turns = self.turns(position);
            let is_sink = position < SINKS;
            for ((drawn, Channels { outliers, sink }), row) in heads.iter().zip(rows.chunks_exact_mut(key_dim)) {
                drawn.fill(position, if is_sink { SINK_KEY } else { 1.0 }, row);
                outliers.iter().for_each(|(channel, size)| row[*channel] = size * (1.0 + OUTLIER_SPREAD * row[*channel]));
                rotate(&turns, row);
                if is_sink {
                    // With the query's part in this direction, the product is `SINK_SCORE · √key_dim`.
                    let squared: f32 = sink.iter().map(|part| part * part).sum();
                    let length = SINK_SCORE * (key_dim as f32).sqrt() / squared.max(1.0);
                    row.iter_mut().zip(sink).for_each(|(value, part)| *value += length * part);
                }
            }
        };
        Ok(rows(positions, kv_heads, key_dim, draw))
    }

    fn values(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
        let Geometry { kv_heads, value_dim, .. } = self.geometry;
        let heads: Vec<Drawn> = (0..kv_heads).map(|head| Drawn::new(self.seed, Kind::Values, layer, head)).collect();
        let draw = |position: usize, rows: &mut [f32]| {
            let deviation = if position < SINKS { SINK_VALUE } else { VALUE };
            heads.iter().zip(rows.chunks_exact_mut(value_dim)).for_each(|(drawn, row)| drawn.fill(position, deviation, row));
        };
        Ok(rows(positions, kv_heads, value_dim, draw))
    }

    fn queries(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
        let Geometry { heads, kv_heads, key_dim, .. } = self.geometry;
        let drawn: Vec<Drawn> = (0..heads).map(|head| Drawn::new(self.seed, Kind::Queries, layer, head)).collect();
        let channels: Vec<Channels> = (0..kv_heads).map(|head| self.channels(layer, head)).collect();
        let draw = |position: usize, rows: &mut [f32]| {
            let turns = self.turns(position);
            for (head, (drawn, row)) in drawn.iter().zip(rows.chunks_exact_mut(key_dim)).enumerate() {
                drawn.fill(position, 1.0, row);
                rotate(&turns, row);
                // After the rotation: a sink is seen alike from everywhere.
                row.iter_mut().zip(&channels[head / (heads / kv_heads)].sink).for_each(|(value, part)| *value += part);
            }
        };
        Ok(rows(positions, heads, key_dim, draw))
    }
}

/// Rotates a row as `turns` says: value `i` with value `i + planes`.
fn rotate(turns: &[(f32, f32)], row: &mut [f32]) {
    let (first, rest) = row.split_at_mut(turns.len());
    for ((a, b), (sin, cos)) in first.iter_mut().zip(rest).zip(turns) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

fn sign(word: u64) -> f32 {
    if word >> 63 == 0 { 1.0 } else { -1.0 }
}

/// Numbers drawn for one layer and head, each a function of its index.
#[derive(Debug, Clone, Copy)]
struct Drawn(u64);

impl Drawn {
    fn new(seed: u64, kind: Kind, layer: usize, head: usize) -> Drawn {
        Drawn([kind as u64, layer as u64, head as u64].into_iter().fold(mixed(seed), |state, part| mixed(state ^ part)))
    }

    /// 64 random bits.
    fn word(self, row: usize, index: usize) -> u64 {
        mixed(mixed(self.0 ^ row as u64).wrapping_add((index as u64).wrapping_mul(STEP)))
    }

    /// Fills a row with numbers of mean 0 and this standard deviation. Each is the sum of four uniform bytes, which is
    /// next to normal and lies within 3.5 standard deviations. A word gives two.
    fn fill(self, row: usize, deviation: f32, values: &mut [f32]) {
        const MEAN: f32 = 4.0 * 127.5;
        // Each byte has a variance of (256² − 1) / 12.
        const DEVIATION: f32 = 147.8;
        let scale = deviation / DEVIATION;
        let mut state = mixed(self.0 ^ row as u64);
        for pair in values.chunks_mut(2) {
            let word = mixed(state);
            state = state.wrapping_add(STEP);
            const BYTES: u64 = 0x00ff_00ff_00ff_00ff;
            let sums = (word & BYTES) + (word >> 8 & BYTES);
            let sums = sums + (sums >> 16);
            for (value, sum) in pair.iter_mut().zip([sums & 0xffff, sums >> 32 & 0xffff]) {
                *value = (sum as f32 - MEAN) * scale;
            }
        }
    }
}

/// The increment and the output function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

fn mixed(state: u64) -> u64 {
    let state = state.wrapping_add(STEP);
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use kv_core::Rope;
    use kv_model::Preset;

    use super::*;

    fn generated(preset: &str) -> Generated {
        Generated::new(Preset::find(preset).unwrap().config(Some(2)).geometry, 7)
    }

    /// A kind of rows of a layer.
    type Of = fn(&mut Generated, usize, Range<usize>) -> Result<Rows, CacheError>;
    const KINDS: [Of; 3] = [Generated::keys, Generated::values, Generated::queries];

    fn deviation(values: impl Iterator<Item = f32> + Clone) -> f64 {
        let count = values.clone().count() as f64;
        let mean = values.clone().map(f64::from).sum::<f64>() / count;
        (values.map(|value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count).sqrt()
    }

    #[test]
    fn rows_do_not_depend_on_the_steps_they_are_asked_for_in() {
        let mut source = generated("tiny");
        for (kind, layer) in KINDS.iter().flat_map(|kind| [(kind, 0), (kind, 1)]) {
            let all = kind(&mut source, layer, 0..64).unwrap();
            let single: Vec<f32> = (0..64).flat_map(|at| kind(&mut source.clone(), layer, at..at + 1).unwrap().values().to_vec()).collect();
            assert_eq!(all.values(), single);
            assert_eq!(kind(&mut source, layer, 40_000..40_000).unwrap().dims()[0], 0);
            assert_eq!(kind(&mut generated("tiny"), layer, 0..64).unwrap(), all);
        }
    }

    #[test]
    fn layers_heads_positions_and_seeds_differ() {
        let mut source = generated("tiny");
        let mut other = Generated::new(source.geometry.clone(), 8);
        for kind in KINDS {
            let rows = kind(&mut source, 0, 4..6).unwrap();
            assert_ne!(rows.row(0, 0), rows.row(0, 1));
            assert_ne!(rows.row(0, 0), rows.row(1, 0));
            assert_ne!(rows, kind(&mut source, 1, 4..6).unwrap());
            assert_ne!(rows, kind(&mut other, 0, 4..6).unwrap());
        }
    }

    /// The larger part of keys' norms and of the error of their formats is in few channels, which are the same at all positions.
    #[test]
    fn keys_have_outlier_channels_and_values_have_none() {
        let mut source = generated("llama-3-8b");
        let rows = (source.keys(1, 100..1124).unwrap(), source.values(1, 100..1124).unwrap());
        for head in 0..source.geometry.kv_heads {
            let sizes = |rows: &Rows| -> Vec<f64> {
                (0..128)
                    .map(|channel| (0..1024).map(|token| f64::from(rows.row(token, head)[channel]).abs()).sum::<f64>() / 1024.0)
                    .collect()
            };
            let mut keys = sizes(&rows.0);
            keys.sort_by(f64::total_cmp);
            // The mean magnitude of a normal number is 0.8. What is beside an outlier in its plane gets some of it.
            assert!((0.6..1.0).contains(&keys[64]), "head {head}: {keys:?}");
            assert!(keys[126] > 3.0 && keys[127] < 25.0 && keys[123] < 2.5 * keys[64].max(1.0) * 4.0, "head {head}: {keys:?}");
            assert!(keys[..124].iter().all(|size| *size < 1.5), "head {head}: {keys:?}");
            let values = sizes(&rows.1);
            assert!(values.iter().all(|size| (0.2..0.28).contains(size)), "head {head}: {values:?}");
            let norm = (0..1024).map(|token| rows.0.row(token, head).iter().map(|key| key * key).sum::<f32>().sqrt()).sum::<f32>() / 1024.0;
            assert!((1.0..3.0).contains(&(norm / 128f32.sqrt())), "head {head}: {norm}");
        }
    }

    /// The share of attention that the first positions draw, from the last of so many tokens.
    fn sink_mass(source: &mut Generated, tokens: usize) -> Vec<f64> {
        let Geometry { heads, kv_heads, key_dim, .. } = source.geometry;
        let (keys, queries) = (source.keys(0, 0..tokens).unwrap(), source.queries(0, tokens - 1..tokens).unwrap());
        let of_head = |head: usize| {
            let score = |token: usize| {
                let pairs = queries.row(0, head).iter().zip(keys.row(token, head / (heads / kv_heads)));
                pairs.map(|(query, key)| f64::from(query * key)).sum::<f64>() / (key_dim as f64).sqrt()
            };
            let scores: Vec<f64> = (0..tokens).map(score).collect();
            let weights: Vec<f64> = scores.iter().map(|score| score.exp()).collect();
            let spread = deviation(scores[SINKS..].iter().map(|score| *score as f32));
            assert!((1.0..3.0).contains(&spread), "head {head}: {spread}");
            weights[..SINKS].iter().sum::<f64>() / weights.iter().sum::<f64>()
        };
        (0..heads).map(of_head).collect()
    }

    #[test]
    fn the_first_positions_draw_most_of_the_attention_and_give_next_to_nothing() {
        for (preset, tokens) in [("tiny", 512), ("llama-3-8b", 512), ("llama-3-8b", 16_384)] {
            let mut source = generated(preset);
            let masses = sink_mass(&mut source, tokens);
            let mean = masses.iter().sum::<f64>() / masses.len() as f64;
            assert!(mean > 0.6 && mean < 0.9999, "{preset} at {tokens}: {masses:?}");
            let values = source.values(0, 0..SINKS).unwrap();
            assert!(values.values().iter().all(|value| value.abs() < 0.05));
        }
    }

    #[test]
    fn shapes_of_any_kind_have_rows() {
        for (key_dim, rope) in [(1, Rope::new(1e4, 0)), (2, Rope::new(1e4, 2)), (7, Rope::new(1e4, 4)), (96, Rope::new(1e6, 64))] {
            let geometry = Geometry { layers: 1, heads: 3, kv_heads: 1, key_dim, value_dim: 5, rope, context: 8 };
            let mut source = Generated::new(geometry, 0);
            let dims = KINDS
                .map(|kind| kind(&mut source, 0, 3..6).unwrap())
                .map(|rows| (rows.dims(), rows.values().iter().all(|x| x.is_finite())));
            assert_eq!(dims, [([3, 1, key_dim], true), ([3, 1, 5], true), ([3, 3, key_dim], true)]);
        }
    }

    #[test]
    fn what_is_drawn_is_next_to_normal() {
        let mut values = vec![0.0; 1 << 16];
        Drawn::new(3, Kind::Keys, 0, 0).fill(0, 2.0, &mut values);
        assert!((deviation(values.iter().copied()) - 2.0).abs() < 0.02);
        let beyond = values.iter().filter(|value| value.abs() > 4.0).count() as f64 / values.len() as f64;
        assert!((beyond - 0.045).abs() < 0.01, "beyond two standard deviations: {beyond}");
    }
}
