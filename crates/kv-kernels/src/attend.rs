//! Causal attention of a step's queries over any list of runs of tokens, read where they lie.

use std::ops::Range;
use std::sync::LazyLock;

use pulp::Arch;
use rayon::prelude::*;

use crate::KvBlock;
use crate::softmax::State;
use crate::tile::Tile;

/// The heads of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadShape {
    /// Query heads; a multiple of `kv_heads`. Query heads `g·h .. g·(h+1)` share KV head `h`, `g = heads / kv_heads`.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Values in a query and a key; scores are scaled by `1 / √key_dim`.
    pub key_dim: usize,
    /// Values in a value and in a head's output.
    pub value_dim: usize,
}

impl HeadShape {
    /// Query heads that share a KV head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}

/// Which keys a query may see, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// Its own position and all before.
    Causal,
    /// The last `n` positions, its own included.
    Window(usize),
}

/// Consecutive tokens in one place.
#[derive(Debug, Clone)]
pub enum Run<'a> {
    /// Slots of a block, encoded in its formats.
    Block {
        /// The block.
        block: &'a KvBlock,
        /// The block's head that is KV head 0 of this attention.
        first_head: usize,
        /// The tokens' slots.
        slots: Range<usize>,
        /// Position of the token in the first slot.
        first_position: usize,
    },
    /// Rows as they came from the model.
    Rows {
        /// `[tokens, kv_heads, key_dim]`
        keys: &'a [f32],
        /// `[tokens, kv_heads, value_dim]`
        values: &'a [f32],
        /// Position of the first token.
        first_position: usize,
    },
}

/// Runs that are attended with the same queries under the same mask.
///
/// An attention usually has one part. A strategy that moved some of its keys gives those a part of their
/// own, with queries turned the other way: the scores are the same and no stored key is touched.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// `[tokens, heads, key_dim]`
    pub queries: &'a [f32],
    /// Which of the keys each query may see.
    pub mask: Mask,
    /// The keys and values.
    pub runs: Vec<Run<'a>>,
}

/// Softmax attention of consecutive queries over all `parts` together, in one pass.
///
/// Every query must see at least one key. Work is spread over rayon's current pool, by KV head, by tiles of
/// queries and, where those are too few, by shares of the keys, whose results are merged exactly; each tile
/// folds in block after block with the online softmax of Milakov and Gimelshein (arXiv:1805.02867), so scores
/// of a whole row are never held.
///
/// # Shapes
/// - returns: `[tokens, heads, value_dim]`; the query in row `i` has position `first_query + i`
///
/// # Panics
/// If the parts do not have queries of one and the same number of tokens.
pub fn attend(shape: HeadShape, first_query: usize, parts: &[Part<'_>]) -> Vec<f32> {
    assert_eq!(shape.heads % shape.kv_heads, 0, "{} heads over {} KV heads", shape.heads, shape.kv_heads);
    let query_row = shape.heads * shape.key_dim;
    let tokens = parts.first().map_or(0, |part| part.queries.len() / query_row);
    for part in parts {
        assert_eq!(part.queries.len(), tokens * query_row, "queries of {tokens} tokens");
    }

    let tile_tokens = (Tile::ROWS / shape.group()).max(1);
    let queries = (0..shape.kv_heads).flat_map(|kv_head| (0..tokens).step_by(tile_tokens).map(move |first| (kv_head, first)));
    let queries: Vec<(usize, usize)> = queries.collect();
    let keys: usize = parts.iter().flat_map(|part| &part.runs).map(|run| run.tokens(shape)).sum();
    let spread = is_worth_spreading(shape, keys, tokens);
    let shares = if spread { shares(queries.len(), keys) } else { 1 };
    let tiles: Vec<Tile<'_>> = (queries.iter())
        .flat_map(|query| (0..shares).map(move |share| (*query, share)))
        .map(|((kv_head, first), share)| {
            let tokens = first..(first + tile_tokens).min(tokens);
            let share = keys * share / shares..keys * (share + 1) / shares;
            Tile { shape, kv_head, first_query, parts, tokens, share }
        })
        .collect();
    let arch = *ARCH;
    let states: Vec<State> = if spread {
        tiles.par_iter().with_max_len(1).map(|tile| arch.dispatch(tile)).collect()
    } else {
        tiles.iter().map(|tile| arch.dispatch(tile)).collect()
    };
    let mut out = vec![0.0; tokens * shape.heads * shape.value_dim];
    let mut states = states.into_iter();
    for tiles in tiles.chunks(shares) {
        let merged = states.by_ref().take(shares).reduce(|mut merged, state| {
            merged.merge(&state);
            merged
        });
        tiles[0].scatter(&merged.expect("a state a tile").finish(), &mut out);
    }
    out
}

/// Into how many shares the keys are split, so that a few tiles of queries still fill all threads evenly.
fn shares(tiles: usize, keys: usize) -> usize {
    /// Fewer keys are not worth a task of their own.
    const SMALLEST_SHARE: usize = 256;
    let tasks = 4 * rayon::current_num_threads();
    tasks.div_ceil(tiles.max(1)).min(keys / SMALLEST_SHARE).max(1)
}

/// The instruction set the kernels run on, as detected once: `V3` is AVX2 with FMA, `Neon`, or `Scalar`.
pub fn kernel_path() -> String {
    let path = format!("{:?}", *ARCH);
    path.split('(').next().unwrap_or_default().to_owned()
}

static ARCH: LazyLock<Arch> = LazyLock::new(Arch::new);

/// Waking another thread costs some microseconds, about what 2¹⁶ multiply-adds cost.
fn is_worth_spreading(shape: HeadShape, keys: usize, tokens: usize) -> bool {
    keys * tokens * shape.heads * (shape.key_dim + shape.value_dim) > 1 << 16
}

impl Run<'_> {
    pub(crate) fn tokens(&self, shape: HeadShape) -> usize {
        match self {
            Run::Block { slots, .. } => slots.len(),
            Run::Rows { keys, .. } => keys.len() / (shape.kv_heads * shape.key_dim),
        }
    }

    pub(crate) fn first_position(&self) -> usize {
        match self {
            Run::Block { first_position, .. } | Run::Rows { first_position, .. } => *first_position,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, Formats, RowShape, reference};
    use proptest::prelude::*;

    /// A cheap generator with its own seed: the values only have to differ.
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

    struct Case {
        shape: HeadShape,
        stored: usize,
        fresh: usize,
        mask: Mask,
        formats: Formats,
        cut: usize,
    }

    /// Attends over the stored tokens cut into two blocks plus fresh rows, on one path.
    fn run_case(case: &Case, path: impl Fn(&Tile<'_>) -> State) -> (Vec<f32>, Vec<f32>) {
        let Case { shape, stored, fresh, mask, formats, cut } = *case;
        let HeadShape { heads, kv_heads, key_dim, value_dim } = shape;
        let tokens = stored + fresh;
        let keys = noise(tokens * kv_heads * key_dim, 1);
        let values = noise(tokens * kv_heads * value_dim, 2);
        let queries = noise(fresh * heads * key_dim, 3);
        let rows = RowShape { heads: kv_heads + 1, key_dim, value_dim };
        let cut = cut.min(stored);
        let mut blocks = [KvBlock::new(rows, formats, cut + 1), KvBlock::new(rows, formats, stored - cut)];
        let (key_row, value_row) = (kv_heads * key_dim, kv_heads * value_dim);
        blocks[0].write(1..cut + 1, 1..kv_heads + 1, &keys[..cut * key_row], &values[..cut * value_row]);
        blocks[1].write(
            0..stored - cut,
            1..kv_heads + 1,
            &keys[cut * key_row..stored * key_row],
            &values[cut * value_row..stored * value_row],
        );
        let runs = vec![
            Run::Block { block: &blocks[0], first_head: 1, slots: 1..cut + 1, first_position: 0 },
            Run::Block { block: &blocks[1], first_head: 1, slots: 0..stored - cut, first_position: cut },
            Run::Rows { keys: &keys[stored * key_row..], values: &values[stored * value_row..], first_position: stored },
        ];
        let parts = [Part { queries: &queries, mask, runs }];
        let mut out = vec![f32::NAN; fresh * heads * value_dim];
        for kv_head in 0..kv_heads {
            for first in 0..fresh {
                // In two shares, merged in the other order.
                let tile = |share| Tile { shape, kv_head, first_query: stored, parts: &parts, tokens: first..first + 1, share };
                let middle = (cut + stored) / 2;
                let mut merged = path(&tile(middle..stored + fresh));
                merged.merge(&path(&tile(0..middle)));
                tile(0..0).scatter(&merged.finish(), &mut out);
            }
        }
        let spread = attend(shape, stored, &parts);
        assert_eq!(out.len(), spread.len());
        for (one, all) in out.iter().zip(&spread) {
            assert!((one - all).abs() < 1e-5, "a tile of one query and a full tile: {one} and {all}");
        }

        let mut expected = vec![];
        for query in 0..fresh {
            let position = stored + query;
            let first = match mask {
                Mask::Causal => 0,
                Mask::Window(window) => (position + 1).saturating_sub(window),
            };
            for head in 0..heads {
                let kv_head = head / shape.group();
                let (mut head_keys, mut head_values) = (vec![], vec![]);
                for token in first..=position {
                    let (mut key, mut value) = (vec![], vec![]);
                    match token {
                        _ if token < cut => blocks[0].decode(kv_head + 1, token + 1..token + 2, &mut key, &mut value),
                        _ if token < stored => blocks[1].decode(kv_head + 1, token - cut..token - cut + 1, &mut key, &mut value),
                        _ => {
                            key.extend(&keys[(token * kv_heads + kv_head) * key_dim..][..key_dim]);
                            value.extend(&values[(token * kv_heads + kv_head) * value_dim..][..value_dim]);
                        }
                    }
                    head_keys.push(key);
                    head_values.push(value);
                }
                let query = &queries[(query * heads + head) * key_dim..][..key_dim];
                let slices = |rows: &[Vec<f32>]| rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>();
                let (keys, values) = (slices(&head_keys), slices(&head_values));
                let keys: Vec<&[f32]> = keys.iter().map(Vec::as_slice).collect();
                let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
                expected.extend(reference::attend_one(shape, query, &keys, &values));
            }
        }
        (out, expected)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn equals_the_reference_on_every_path(
            (group, kv_heads) in (1usize..6, 1usize..4),
            key_dim in prop::sample::select(vec![8usize, 12, 64, 80]),
            value_dim in prop::sample::select(vec![4usize, 8, 24, 64]),
            stored in prop::sample::select(vec![0usize, 1, 2, 63, 64, 65, 127, 128, 129, 200]),
            fresh in prop::sample::select(vec![1usize, 2, 3, 31, 33, 70]),
            window in prop::sample::select(vec![None, Some(1usize), Some(5), Some(64), Some(1000)]),
            format in prop::sample::select(vec![Format::F32, Format::F16, Format::Bf16, Format::Q8 { group: 4 }, Format::Q4 { group: 4 }]),
            cut in 0usize..200,
        ) {
            let shape = HeadShape { heads: group * kv_heads, kv_heads, key_dim, value_dim };
            let mask = window.map_or(Mask::Causal, Mask::Window);
            let case = Case { shape, stored, fresh, mask, formats: Formats::both(format), cut };
            let detected = |tile: &Tile<'_>| ARCH.dispatch(tile);
            let portable = |tile: &Tile<'_>| Arch::Scalar.dispatch(tile);
            for (out, expected) in [run_case(&case, detected), run_case(&case, portable)] {
                for (out, expected) in out.iter().zip(expected) {
                    prop_assert!((out - expected).abs() < 2e-5, "{out} instead of {expected}");
                }
            }
        }
    }
}
