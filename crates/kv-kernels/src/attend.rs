//! Causal attention of a step's queries over any list of runs of tokens, read in place.

use crate::schedule::{Keys, each_tile, tiles};
use crate::softmax::{ProbabilitySums, State};
use crate::tile::{Tile, Walk};
use crate::{KernelPath, Run};

/// The heads of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadShape {
    /// Query heads, a multiple of `kv_heads`. Query heads `g·h .. g·(h+1)` share KV head `h`, with `g = heads / kv_heads`.
    pub heads: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Values per query row and key row. Scores are scaled by `1 / √key_dim`.
    pub key_dim: usize,
    /// Values per value row and per head of the output.
    pub value_dim: usize,
}

impl HeadShape {
    /// Query heads that share a KV head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// The greatest common divisor of `key_dim` and `value_dim`.
    fn unit(&self) -> usize {
        let (mut a, mut b) = (self.key_dim, self.value_dim);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    }
}

/// Which keys a query may see, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// Its own position and all earlier ones.
    Causal,
    /// The last `n` positions, including its own.
    Window(usize),
}

/// Runs that are attended with the same queries and the same mask.
///
/// An attention usually has one part. If a strategy has moved some of its keys, those form a separate part, with
/// queries rotated the other way. The scores are the same, and no stored key changes.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// `[tokens, heads, key_dim]`
    pub queries: &'a [f32],
    /// The mask, which determines the keys that each query sees.
    pub mask: Mask,
    /// The keys and values.
    pub runs: Vec<Run<'a>>,
}

/// The result of attention.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// `[tokens, heads, value_dim]`
    pub out: Vec<f32>,
    /// The log-sum-exp of each query's scores, `[tokens, heads]`. It is needed to merge with attention over other keys, and
    /// to turn a score into a probability.
    pub log_sum_exp: Vec<f32>,
}

/// Softmax attention of consecutive queries over all `parts` together, in one pass.
///
/// Every query must see at least one key. The work is split over rayon's current pool by KV head, by tiles of
/// queries and, if those are too few, by shares of the keys, whose results are merged exactly. Each tile processes
/// its blocks one by one with the online softmax of Milakov and Gimelshein (arXiv:1805.02867), so the scores of a
/// whole row are never in memory.
///
/// The query in row `i` has position `first_query + i`.
///
/// # Panics
/// If the parts do not all have queries of the same number of tokens.
pub fn attend(shape: HeadShape, first_query: usize, parts: &[Part<'_>]) -> Attention {
    attend_on(KernelPath::current(), shape, first_query, parts)
}

/// [`attend()`] on a given path.
pub(crate) fn attend_on(path: KernelPath, shape: HeadShape, first_query: usize, parts: &[Part<'_>]) -> Attention {
    let keys = Keys::of(shape, parts);
    let tokens = tokens_of(shape, parts);
    let (tiles, shares) = tiles(shape, first_query, parts, &keys, tokens);
    let unit = shape.unit();
    let fold = |tile: &Tile<'_>| {
        let fold = State::new(tile.rows(), shape.value_dim);
        path.run(unit, Walk { tile, fold })
    };
    // The states of the first share, followed by those of the other shares in the same order.
    let mut merged = each_tile(&tiles, fold);
    let others = merged.split_off(tiles.len() / shares);
    for share in others.chunks_exact(merged.len().max(1)) {
        merged.iter_mut().zip(share).for_each(|(merged, state)| merged.merge(state));
    }
    let mut attention = Attention { out: vec![0.0; tokens * shape.heads * shape.value_dim], log_sum_exp: vec![0.0; tokens * shape.heads] };
    for (tile, state) in tiles.iter().zip(merged) {
        let (out, log_sum_exp) = state.finish();
        tile.scatter(shape.value_dim, &out, &mut attention.out);
        tile.scatter(1, &log_sum_exp, &mut attention.log_sum_exp);
    }
    attention
}

/// For every key, the sum of its attention probabilities over all queries of all query heads of its KV head.
/// Strategies that keep the most attended keys (H2O, arXiv:2306.14048) accumulate this sum.
///
/// It reads the keys again, and takes the `log_sum_exp` that [`attend()`] returned for the same arguments.
///
/// # Shapes
/// - returns: `[kv_heads, keys]`, with the keys in the order of the parts' runs
///
/// # Panics
/// If the arguments are not those of the same attention.
pub fn probability_sums(shape: HeadShape, first_query: usize, parts: &[Part<'_>], log_sum_exp: &[f32]) -> Vec<f32> {
    probability_sums_on(KernelPath::current(), shape, first_query, parts, log_sum_exp)
}

/// [`probability_sums()`] on a given path.
pub(crate) fn probability_sums_on(
    path: KernelPath,
    shape: HeadShape,
    first_query: usize,
    parts: &[Part<'_>],
    log_sum_exp: &[f32],
) -> Vec<f32> {
    let keys = Keys::of(shape, parts);
    let tokens = tokens_of(shape, parts);
    assert_eq!(log_sum_exp.len(), tokens * shape.heads, "a sum a query");
    let (tiles, _) = tiles(shape, first_query, parts, &keys, tokens);
    let fold = |tile: &Tile<'_>| {
        let log_sum_exp = tile.gather(log_sum_exp);
        let sums = vec![0.0; tile.share.len()];
        path.run(shape.unit(), Walk { tile, fold: ProbabilitySums { log_sum_exp: &log_sum_exp, sums } }).sums
    };
    let mut all = vec![0.0; shape.kv_heads * keys.count];
    for (tile, sums) in tiles.iter().zip(each_tile(&tiles, fold)) {
        let first = tile.kv_head * keys.count + tile.share.start;
        all[first..first + sums.len()].iter_mut().zip(sums).for_each(|(all, sum)| *all += sum);
    }
    all
}

fn tokens_of(shape: HeadShape, parts: &[Part<'_>]) -> usize {
    assert_eq!(shape.heads % shape.kv_heads, 0, "{} heads over {} KV heads", shape.heads, shape.kv_heads);
    let query_row = shape.heads * shape.key_dim;
    let tokens = parts.first().map_or(0, |part| part.queries.len() / query_row);
    for part in parts {
        assert_eq!(part.queries.len(), tokens * query_row, "queries of {tokens} tokens");
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests::ALL as FORMATS;
    use crate::{Format, Formats, KvBlock, RowShape, reference};
    use proptest::prelude::*;

    /// A cheap seeded generator. The values only have to differ.
    fn noise(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        (0..count)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    #[derive(Debug)]
    struct Case {
        shape: HeadShape,
        stored: usize,
        fresh: usize,
        mask: Mask,
        formats: Formats,
        cut: usize,
    }

    /// The stored tokens, split into two blocks, and fresh rows. The first block does not start at slot 0.
    struct Data {
        keys: Vec<f32>,
        values: Vec<f32>,
        queries: Vec<f32>,
        blocks: [KvBlock; 2],
        /// Stored tokens in the first block, in whole groups.
        cut: usize,
        stored: usize,
        /// The first slot used.
        offset: usize,
    }

    impl Data {
        fn of(case: &Case) -> Data {
            let HeadShape { heads, kv_heads, key_dim, value_dim } = case.shape;
            let offset = case.formats.keys.key_tokens();
            let stored = case.stored / offset * offset;
            let cut = case.cut.min(stored) / offset * offset;
            let tokens = stored + case.fresh;
            let keys = noise(tokens * kv_heads * key_dim, 1);
            let values = noise(tokens * kv_heads * value_dim, 2);
            let queries = noise(case.fresh * heads * key_dim, 3);
            let rows = RowShape { heads: kv_heads + 1, key_dim, value_dim };
            let mut blocks = [KvBlock::new(rows, case.formats, cut + offset), KvBlock::new(rows, case.formats, stored - cut)];
            let (key_row, value_row) = (kv_heads * key_dim, kv_heads * value_dim);
            let heads = 1..kv_heads + 1;
            blocks[0].write(offset..offset + cut, heads.clone(), &keys[..cut * key_row], &values[..cut * value_row]);
            let (second_keys, second_values) = (&keys[cut * key_row..stored * key_row], &values[cut * value_row..stored * value_row]);
            blocks[1].write(0..stored - cut, heads, second_keys, second_values);
            Data { keys, values, queries, blocks, cut, stored, offset }
        }

        fn part(&self, case: &Case) -> Part<'_> {
            let HeadShape { kv_heads, key_dim, value_dim, .. } = case.shape;
            let Data { keys, values, queries, blocks, cut, stored, offset } = self;
            // Two runs of the first block.
            let half = cut / 2 / offset * offset;
            let runs = vec![
                Run::Block { block: &blocks[0], first_head: 1, slots: *offset..offset + half, first_position: 0 },
                Run::Block { block: &blocks[0], first_head: 1, slots: offset + half..offset + cut, first_position: half },
                Run::Block { block: &blocks[1], first_head: 1, slots: 0..stored - cut, first_position: *cut },
                Run::Rows {
                    keys: &keys[stored * kv_heads * key_dim..],
                    values: &values[stored * kv_heads * value_dim..],
                    first_position: *stored,
                },
            ];
            Part { queries, mask: case.mask, runs }
        }

        /// The decoded key and value of one head and token.
        fn row(&self, case: &Case, kv_head: usize, token: usize) -> (Vec<f32>, Vec<f32>) {
            let HeadShape { kv_heads, key_dim, value_dim, .. } = case.shape;
            let (mut key, mut value) = (vec![], vec![]);
            let Data { cut, stored, offset, .. } = *self;
            match token {
                _ if token < cut => self.blocks[0].decode(kv_head + 1, token + offset..token + offset + 1, &mut key, &mut value),
                _ if token < stored => {
                    self.blocks[1].decode(kv_head + 1, token - cut..token - cut + 1, &mut key, &mut value);
                }
                _ => {
                    key.extend(&self.keys[(token * kv_heads + kv_head) * key_dim..][..key_dim]);
                    value.extend(&self.values[(token * kv_heads + kv_head) * value_dim..][..value_dim]);
                }
            }
            (key, value)
        }

        /// The result of the plain reference: the attention, and the sum of probabilities of every key.
        fn expected(&self, case: &Case) -> (Attention, Vec<f32>) {
            let shape = case.shape;
            let tokens = self.stored + case.fresh;
            let rows: Vec<Vec<_>> =
                (0..shape.kv_heads).map(|head| (0..tokens).map(|token| self.row(case, head, token)).collect()).collect();
            let mut sums = vec![0.0; shape.kv_heads * tokens];
            let mut attention = Attention { out: vec![], log_sum_exp: vec![] };
            for query in 0..case.fresh {
                let position = self.stored + query;
                let first = match case.mask {
                    Mask::Causal => 0,
                    Mask::Window(window) => (position + 1).saturating_sub(window),
                };
                for head in 0..shape.heads {
                    let kv_head = head / shape.group();
                    let (keys, values): (Vec<&[f32]>, Vec<&[f32]>) =
                        rows[kv_head][first..=position].iter().map(|(key, value)| (key.as_slice(), value.as_slice())).unzip();
                    let query = &self.queries[(query * shape.heads + head) * shape.key_dim..][..shape.key_dim];
                    attention.out.extend(reference::attend_one(shape, query, &keys, &values));
                    let (probabilities, log_sum_exp) = reference::probabilities(shape, query, &keys);
                    attention.log_sum_exp.push(log_sum_exp);
                    for (sum, probability) in sums[kv_head * tokens + first..].iter_mut().zip(probabilities) {
                        *sum += probability;
                    }
                }
            }
            (attention, sums)
        }
    }

    fn assert_close(what: &str, actual: &[f32], expected: &[f32], tolerance: f32) -> Result<(), TestCaseError> {
        prop_assert_eq!(actual.len(), expected.len(), "{}", what);
        for (actual, expected) in actual.iter().zip(expected) {
            prop_assert!((actual - expected).abs() < tolerance, "{}: {} instead of {}", what, actual, expected);
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn equals_the_reference_on_every_path(
            (group, kv_heads) in (1usize..17, 1usize..4),
            key_dim in prop::sample::select(vec![8usize, 12, 32, 64, 80, 96, 128, 256]),
            value_dim in prop::sample::select(vec![4usize, 8, 24, 32, 64, 96]),
            stored in prop::sample::select(vec![0usize, 1, 2, 63, 64, 65, 127, 128, 129, 200, 1100]),
            fresh in prop::sample::select(vec![1usize, 2, 3, 31, 33, 70]),
            window in prop::sample::select(vec![None, Some(1usize), Some(5), Some(64), Some(1000)]),
            keys in prop::sample::select(FORMATS.to_vec()),
            values in prop::sample::select(FORMATS.to_vec()),
            cut in 0usize..200,
        ) {
            let formats = Formats { keys, values };
            prop_assume!(formats.check_dims(key_dim, value_dim).is_ok());
            let shape = HeadShape { heads: group * kv_heads, kv_heads, key_dim, value_dim };
            let case = Case { shape, stored, fresh, mask: window.map_or(Mask::Causal, Mask::Window), formats, cut };
            let data = Data::of(&case);
            let parts = [data.part(&case)];
            let (expected, expected_sums) = data.expected(&case);
            for path in KernelPath::available() {
                // Integer dot products round each query to 16 bits of its largest value.
                let tolerance = if matches!(path, KernelPath::Portable | KernelPath::Neon) { 2e-5 } else { 5e-5 };
                let attention = attend_on(path, shape, data.stored, &parts);
                assert_close(&format!("{path}: attention"), &attention.out, &expected.out, tolerance)?;
                assert_close(&format!("{path}: log-sum-exp"), &attention.log_sum_exp, &expected.log_sum_exp, tolerance)?;
                let sums = probability_sums_on(path, shape, data.stored, &parts, &attention.log_sum_exp);
                assert_close(&format!("{path}: sums"), &sums, &expected_sums, tolerance * (fresh * group) as f32)?;
            }
        }
    }

    /// Every format for certain, where the property test draws.
    #[test]
    fn a_few_keys_of_every_format_equal_the_reference() {
        // Miri is some thousand times slower.
        let (heads, dim, stored) = if cfg!(miri) { (1, 32, 33) } else { (3, 64, 130) };
        for format in FORMATS {
            let shape = HeadShape { heads, kv_heads: 1, key_dim: dim, value_dim: dim };
            let formats = Formats::both(format);
            if formats.check_dims(dim, dim).is_err() {
                continue;
            }
            let case = Case { shape, stored, fresh: 1, mask: Mask::Causal, formats, cut: 5 };
            let data = Data::of(&case);
            let (expected, _) = data.expected(&case);
            for path in KernelPath::available() {
                let attention = attend_on(path, shape, data.stored, &[data.part(&case)]);
                for (actual, expected) in attention.out.iter().zip(&expected.out) {
                    assert!((actual - expected).abs() < 2e-5, "{format} on {path}: {actual} instead of {expected}");
                }
            }
        }
    }

    #[test]
    fn a_query_that_is_not_finite_gives_nothing_that_is() {
        for format in FORMATS {
            for wrong in [f32::NAN, f32::INFINITY] {
                let shape = HeadShape { heads: 3, kv_heads: 1, key_dim: 64, value_dim: 64 };
                let case = Case { shape, stored: 130, fresh: 1, mask: Mask::Causal, formats: Formats::both(format), cut: 5 };
                let mut data = Data::of(&case);
                data.queries[64 + 7] = wrong;
                for path in KernelPath::available() {
                    let out = attend_on(path, shape, data.stored, &[data.part(&case)]).out;
                    assert!(out[..64].iter().chain(&out[128..]).all(|value| value.is_finite()), "{format} on {path}: other queries");
                    assert!(out[64..128].iter().all(|value| !value.is_finite()), "{format} on {path}: {wrong}");
                }
            }
        }
    }

    #[test]
    fn no_queries_attend_to_nothing() {
        let shape = HeadShape { heads: 2, kv_heads: 1, key_dim: 8, value_dim: 8 };
        let rows = [1.0; 8];
        let runs = vec![Run::Rows { keys: &rows, values: &rows, first_position: 0 }];
        let attention = attend(shape, 1, &[Part { queries: &[], mask: Mask::Causal, runs }]);
        assert_eq!(attention, Attention { out: vec![], log_sum_exp: vec![] });
    }

    #[test]
    #[should_panic(expected = "rows of")]
    fn a_shape_that_is_not_the_blocks_is_refused_before_anything_is_read() {
        let format = Formats::both(Format::Kivi2 { group: 32 });
        let block = KvBlock::new(RowShape { heads: 1, key_dim: 64, value_dim: 64 }, format, 32);
        let shape = HeadShape { heads: 1, kv_heads: 1, key_dim: 128, value_dim: 64 };
        let runs = vec![Run::Block { block: &block, first_head: 0, slots: 0..32, first_position: 0 }];
        attend(shape, 31, &[Part { queries: &[1.0; 128], mask: Mask::Causal, runs }]);
    }

    #[test]
    fn the_sums_of_all_keys_are_the_number_of_queries() {
        let shape = HeadShape { heads: 6, kv_heads: 2, key_dim: 64, value_dim: 64 };
        let case = Case { shape, stored: 600, fresh: 3, mask: Mask::Window(200), formats: Formats::both(Format::F16), cut: 100 };
        let data = Data::of(&case);
        let parts = [data.part(&case)];
        let attention = attend(shape, data.stored, &parts);
        let sums = probability_sums(shape, data.stored, &parts, &attention.log_sum_exp);
        for head in sums.chunks_exact(603) {
            assert!((head.iter().sum::<f32>() - 9.0).abs() < 1e-4, "3 queries of 3 heads");
            assert_eq!(head[..401], [0.0; 401], "before the first query's window");
            assert!(head[401] > 0.0);
        }
    }
}
