//! Splits attention into tiles and runs the tiles on threads.

use rayon::prelude::*;

use crate::key_block::KEYS;
use crate::tile::Tile;
use crate::{HeadShape, Part, Run};

/// The tiles and the number of shares. Each share of the keys has one tile per KV head and batch of tokens. The heads
/// of a share come one after the other, because they are adjacent in a page.
pub(crate) fn tiles<'a>(
    shape: HeadShape,
    first_query: usize,
    parts: &'a [Part<'a>],
    keys: &'a Keys,
    tokens: usize,
) -> (Vec<Tile<'a>>, usize) {
    let tile_tokens = (TILE_ROWS / shape.group()).max(1);
    let queries = (0..shape.kv_heads).flat_map(|kv_head| (0..tokens).step_by(tile_tokens).map(move |first| (kv_head, first)));
    let queries: Vec<(usize, usize)> = queries.collect();
    let shares = shares(queries.len(), keys.count);
    let tiles = (0..shares)
        .flat_map(|share| queries.iter().map(move |query| (share, query)))
        .map(|(share, (kv_head, first))| Tile {
            shape,
            kv_head: *kv_head,
            first_query,
            parts,
            keys,
            tokens: *first..(first + tile_tokens).min(tokens),
            share: share_start(keys.count, share, shares)..share_start(keys.count, share + 1, shares),
        })
        .collect();
    (tiles, shares)
}

/// Target number of query rows per tile (tokens × query heads of the KV head).
const TILE_ROWS: usize = 128;

/// The number of shares of the keys, chosen so that even a few tiles of queries fill all threads evenly.
fn shares(tiles: usize, keys: usize) -> usize {
    /// Fewer keys are not worth a separate task.
    const SMALLEST_SHARE: usize = 512;
    let most = keys / SMALLEST_SHARE;
    if most < 2 {
        return 1;
    }
    // Several tasks per thread, so that a thread delayed by another program does not delay the rest for long.
    let tasks = 8 * rayon::current_num_threads();
    tasks.div_ceil(tiles.max(1)).clamp(1, most)
}

/// The first key of a share. It is at a block boundary, so that keys encoded together are not split.
fn share_start(keys: usize, share: usize, shares: usize) -> usize {
    if share == shares { keys } else { keys * share / shares / KEYS * KEYS }
}

/// Runs `work` on every tile and returns the results in order. Uses all threads if there is enough work.
pub(crate) fn each_tile<T: Send>(tiles: &[Tile<'_>], work: impl Fn(&Tile<'_>) -> T + Sync) -> Vec<T> {
    /// Waking another thread takes some microseconds, about as long as this many multiply-adds.
    const WORTH_WAKING: usize = 1 << 16;
    let products = |tile: &Tile<'_>| tile.rows() * tile.share.len() * (tile.shape.key_dim + tile.shape.value_dim);
    if tiles.iter().map(products).sum::<usize>() > WORTH_WAKING {
        tiles.par_iter().with_max_len(1).map(&work).collect()
    } else {
        tiles.iter().map(work).collect()
    }
}

/// The indexes of the runs' keys among all keys.
pub(crate) struct Keys {
    /// The index of the first key of every run of every part.
    pub(crate) firsts: Vec<Vec<usize>>,
    pub(crate) count: usize,
}

impl Keys {
    pub(crate) fn of(shape: HeadShape, parts: &[Part<'_>]) -> Keys {
        let mut count = 0;
        let mut first_of = |run: &Run<'_>| {
            let first = count;
            count += run.tokens(shape);
            first
        };
        let firsts = parts.iter().map(|part| part.runs.iter().map(&mut first_of).collect()).collect();
        Keys { firsts, count }
    }
}
