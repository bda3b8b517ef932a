//! A run of tokens that attention reads where it lies.

use std::fmt::Debug;
use std::ops::Range;

use crate::tile::Reads;
use crate::{Format, Formats, HeadShape, KvBlock};

/// Tokens at consecutive positions.
#[derive(Debug, Clone)]
pub enum Run<'a> {
    /// Slots of a block, encoded in its formats.
    Block {
        /// The block.
        block: &'a KvBlock,
        /// The head of the block that is KV head 0 of this attention.
        first_head: usize,
        /// The tokens' slots.
        slots: Range<usize>,
        /// Position of the token in the first slot.
        first_position: usize,
    },
    /// Pages, each with slots of a block. They are looked up as they are read, so that nobody lists them for each attention.
    Pages {
        /// The pages, in the order of their tokens.
        table: &'a dyn PageTable,
        /// Tokens of a page. The last page may be partly filled.
        page_tokens: usize,
        /// Tokens in all pages together.
        tokens: usize,
        /// The head of the blocks that is KV head 0 of this attention.
        first_head: usize,
        /// Position of the first token.
        first_position: usize,
    },
    /// Unencoded rows from the model.
    Rows {
        /// `[tokens, kv_heads, key_dim]`
        keys: &'a [f32],
        /// `[tokens, kv_heads, value_dim]`
        values: &'a [f32],
        /// Position of the first token.
        first_position: usize,
    },
}

/// Where the pages of a sequence are.
pub trait PageTable: Debug + Sync {
    /// A page's block, and the slot of the page's first token in it. The other tokens are in the slots that follow.
    fn page(&self, index: usize) -> (&KvBlock, usize);
}

/// Tokens of a run that are stored one after the other.
pub(crate) struct Stretch<'a> {
    pub(crate) tokens: usize,
    pub(crate) first_position: usize,
    pub(crate) rows: StoredRows<'a>,
}

/// See [`Stretch`].
pub(crate) enum StoredRows<'a> {
    Encoded {
        block: &'a KvBlock,
        first_head: usize,
        slots: Range<usize>,
    },
    /// `[tokens, kv_heads, dim]`
    Plain {
        keys: &'a [f32],
        values: &'a [f32],
    },
}

impl<'a> Run<'a> {
    pub(crate) fn tokens(&self, shape: HeadShape) -> usize {
        match self {
            Run::Block { slots, .. } => slots.len(),
            Run::Pages { tokens, .. } => *tokens,
            Run::Rows { keys, .. } => keys.len() / (shape.kv_heads * shape.key_dim),
        }
    }

    pub(crate) fn first_position(&self) -> usize {
        match self {
            Run::Block { first_position, .. } | Run::Pages { first_position, .. } | Run::Rows { first_position, .. } => *first_position,
        }
    }

    /// The first of the run's tokens `wanted`, at least one, as far as they are stored one after the other.
    pub(crate) fn stretch(&self, shape: HeadShape, wanted: Range<usize>) -> Stretch<'a> {
        let rows = match self {
            Run::Block { block, first_head, slots, .. } => {
                StoredRows::Encoded { block, first_head: *first_head, slots: slots.start + wanted.start..slots.start + wanted.end }
            }
            Run::Pages { table, page_tokens, first_head, .. } => {
                let (block, slots) = adjacent_slots(*table, *page_tokens, wanted.clone());
                StoredRows::Encoded { block, first_head: *first_head, slots }
            }
            Run::Rows { keys, values, .. } => {
                let of = |dim: usize| wanted.start * shape.kv_heads * dim..wanted.end * shape.kv_heads * dim;
                StoredRows::Plain { keys: &keys[of(shape.key_dim)], values: &values[of(shape.value_dim)] }
            }
        };
        let tokens = if let StoredRows::Encoded { slots, .. } = &rows { slots.len() } else { wanted.len() };
        Stretch { tokens, first_position: self.first_position() + wanted.start, rows }
    }
}

/// The block and the slots of the first of these tokens. Pages taken from a pool in order are adjacent, and each stretch
/// costs as much as several keys.
fn adjacent_slots(table: &dyn PageTable, page_tokens: usize, wanted: Range<usize>) -> (&KvBlock, Range<usize>) {
    let mut page = wanted.start / page_tokens;
    let mut page_end = (page + 1) * page_tokens;
    let (block, first_slot) = table.page(page);
    let start = first_slot + page_tokens - (page_end - wanted.start);
    let mut next_slot = first_slot + page_tokens;
    while page_end < wanted.end {
        page += 1;
        let (next_block, slot) = table.page(page);
        if !std::ptr::eq(next_block, block) || slot != next_slot {
            break;
        }
        page_end += page_tokens;
        next_slot += page_tokens;
    }
    (block, start..start + page_end.min(wanted.end) - wanted.start)
}

impl Stretch<'_> {
    /// Bytes that one KV head reads of the tokens.
    pub(crate) fn bytes(&self, shape: HeadShape, reads: Reads) -> usize {
        let formats = match &self.rows {
            StoredRows::Encoded { block, .. } => block.formats(),
            StoredRows::Plain { .. } => Formats::both(Format::F32),
        };
        let values = match reads {
            Reads::Keys => 0,
            Reads::KeysAndValues => formats.values.row_bytes(shape.value_dim),
        };
        self.tokens * (formats.keys.row_bytes(shape.key_dim) + values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attend::{attend_on, probability_sums_on};
    use crate::noise::noise;
    use crate::{KernelPath, Mask, Part, RowShape};

    /// Blocks, and the block and first slot of each page.
    #[derive(Debug)]
    struct Table(Vec<KvBlock>, Vec<(usize, usize)>);

    impl PageTable for Table {
        fn page(&self, index: usize) -> (&KvBlock, usize) {
            let (block, slot) = self.1[index];
            (&self.0[block], slot)
        }
    }

    #[test]
    fn pages_are_read_together_only_where_slots_go_on_in_a_block() {
        let row = RowShape { heads: 1, key_dim: 8, value_dim: 8 };
        let blocks = [KvBlock::new(row, Formats::F32, 16), KvBlock::new(row, Formats::F32, 24)];
        // Adjacent, adjacent, a page is missing, a page before it, another block.
        let table = Table(blocks.into(), vec![(0, 0), (0, 4), (0, 12), (0, 8), (1, 12), (1, 16)]);
        let run = Run::Pages { table: &table, page_tokens: 4, tokens: 23, first_head: 0, first_position: 100 };
        let shape = HeadShape { heads: 1, kv_heads: 1, key_dim: 8, value_dim: 8 };
        let stretches = |mut wanted: Range<usize>| {
            let mut found = vec![];
            while !wanted.is_empty() {
                let Stretch { tokens, first_position, rows } = run.stretch(shape, wanted.clone());
                let StoredRows::Encoded { block, slots, .. } = rows else { panic!("pages are encoded") };
                assert_eq!((slots.len(), first_position), (tokens, 100 + wanted.start));
                found.push((usize::from(std::ptr::eq(block, &table.0[1])), slots));
                wanted.start += tokens;
            }
            found
        };
        assert_eq!(stretches(0..23), [(0, 0..8), (0, 12..16), (0, 8..12), (1, 12..19)]);
        assert_eq!(stretches(3..6), [(0, 3..6)], "parts of two pages");
        assert_eq!(stretches(5..8), [(0, 5..8)], "to the end of a page, without a look at the next");
        assert_eq!(stretches(22..23), [(1, 18..19)], "the last page is not full");
    }
    #[test]
    fn scattered_pages_give_what_one_block_gives() {
        // Enough keys for several shares, whose limits lie within pages.
        const TOKENS: usize = 1100;
        const PAGE: usize = 48;
        let shape = HeadShape { heads: 6, kv_heads: 2, key_dim: 32, value_dim: 64 };
        let row = RowShape { heads: 3, key_dim: 32, value_dim: 64 };
        let [keys, values, queries] = [(row.heads * 32, 1), (row.heads * 64, 2), (6 * 32, 3)].map(|(dim, seed)| noise(TOKENS * dim, seed));
        for format in ["f32", "f16", "q8_0", "q4_1"].map(|format| Formats::both(format.parse().unwrap())) {
            let pages = TOKENS.div_ceil(PAGE);
            let mut whole = KvBlock::new(row, format, TOKENS);
            whole.write(0..TOKENS, 0..3, &keys, &values);
            let slabs = vec![KvBlock::new(row, format, pages * PAGE), KvBlock::new(row, format, pages * PAGE)];
            // 5 has no divisor in common with the 23 pages, so every page has a slot of its own.
            let mut table = Table(slabs, (0..pages).map(|page| (usize::from(page % 3 == 0), page * 5 % pages * PAGE)).collect());
            for (page, (slab, slot)) in table.1.iter().enumerate() {
                let tokens = (TOKENS - page * PAGE).min(PAGE);
                table.0[*slab].copy_from(*slot, &whole, page * PAGE..page * PAGE + tokens);
            }
            let in_pages = Run::Pages { table: &table, page_tokens: PAGE, tokens: TOKENS, first_head: 1, first_position: 0 };
            let in_a_row = Run::Block { block: &whole, first_head: 1, slots: 0..TOKENS, first_position: 0 };
            for (mask, fresh) in [(Mask::Causal, 1), (Mask::Causal, 40), (Mask::Window(700), 1), (Mask::Window(700), 40)] {
                let first_query = TOKENS - fresh;
                for path in KernelPath::available() {
                    let [pages, whole] = [&in_pages, &in_a_row].map(|run| {
                        let parts = [Part { queries: &queries[..fresh * 6 * 32], mask, runs: vec![run.clone()] }];
                        let attention = attend_on(path, shape, first_query, &parts);
                        let sums = probability_sums_on(path, shape, first_query, &parts, &attention.log_sum_exp);
                        (attention, sums)
                    });
                    assert!(pages == whole, "{format} on {path}, {mask:?}, {fresh} queries");
                }
            }
        }
    }
}
