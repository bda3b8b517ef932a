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

/// The parts, with adjacent runs of a block joined. Pages taken from a pool in order are adjacent, and each run costs
/// as much as several keys.
pub(crate) fn join_runs<'a>(parts: &[Part<'a>]) -> Vec<Part<'a>> {
    parts.iter().map(|part| Part { queries: part.queries, mask: part.mask, runs: joined(&part.runs) }).collect()
}

fn joined<'a>(runs: &[Run<'a>]) -> Vec<Run<'a>> {
    let mut joined: Vec<Run<'a>> = Vec::with_capacity(runs.len());
    for run in runs {
        if let (
            Some(Run::Block { block: last_block, first_head: last_head, slots: last_slots, first_position: last_position }),
            Run::Block { block, first_head, slots, first_position },
        ) = (joined.last_mut(), run)
            && std::ptr::eq(*last_block, *block)
            && *last_head == *first_head
            && last_slots.end == slots.start
            && *last_position + last_slots.len() == *first_position
        {
            last_slots.end = slots.end;
        } else {
            joined.push(run.clone());
        }
    }
    joined
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Formats, KvBlock, RowShape};

    #[test]
    fn runs_are_joined_only_where_slots_and_positions_go_on() {
        let row = RowShape { heads: 2, key_dim: 8, value_dim: 8 };
        let blocks = [KvBlock::new(row, Formats::F32, 16), KvBlock::new(row, Formats::F32, 16)];
        let run = |block: usize, first_head, slots, first_position| Run::Block { block: &blocks[block], first_head, slots, first_position };
        let runs = [
            run(0, 0, 0..4, 0),
            run(0, 0, 4..8, 4),
            run(0, 0, 8..12, 9),   // a position is missing
            run(0, 0, 13..14, 13), // a slot
            run(0, 1, 14..15, 14), // another head
            run(1, 1, 15..16, 15), // another block
            Run::Rows { keys: &[], values: &[], first_position: 16 },
        ];
        let lengths: Vec<usize> =
            joined(&runs).iter().map(|run| run.tokens(HeadShape { heads: 1, kv_heads: 1, key_dim: 8, value_dim: 8 })).collect();
        assert_eq!(lengths, [8, 4, 1, 1, 1, 0]);
    }
}
