//! The pages all sequences of a cache share.

use std::ops::Range;

use kv_core::PredictedBytes;
use kv_kernels::{BlockBytes, Formats, KvBlock, RowShape};

/// Names a page of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BlockId(usize);

/// Pages with the number of block tables that name each, and the list of those that none names.
///
/// A page holds the rows of `block_size` tokens in all layers, so that a block table serves every layer.
/// Pages are allocated a slab at a time when first needed, then reused and never given back.
#[derive(Debug)]
pub(crate) struct Pool {
    shape: RowShape,
    formats: Formats,
    block_size: usize,
    limit: usize,
    /// Memory of several pages: the rows of one head of consecutive pages follow each other, so that pages taken
    /// one after the other are read as a stream. Scattered, every page's rows would have to be found anew in the
    /// page tables of the machine, which costs more than reading them.
    slabs: Vec<KvBlock>,
    pages: Vec<Page>,
    /// From the last page to the first, so that the first is taken next.
    free: Vec<BlockId>,
}

#[derive(Debug)]
struct Page {
    slab: usize,
    first_slot: usize,
    references: usize,
}

/// Tokens at most for which a pool takes memory at a time: what it may hold unused.
const SLAB_TOKENS: usize = 1024;

impl Pool {
    /// An empty pool of at most `limit` pages.
    pub(crate) fn new(shape: RowShape, formats: Formats, block_size: usize, limit: usize) -> Pool {
        Pool { shape, formats, block_size, limit, slabs: vec![], pages: vec![], free: vec![] }
    }

    /// Pages that [`take`](Pool::take) could still answer.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + (self.limit - self.pages.len())
    }

    /// The first free page, with one reference; a new one if none is free. Pages taken one after the other therefore
    /// lie in ascending order, whatever order they were released in.
    ///
    /// # Panics
    /// If the limit is reached; `begin` has checked [`available`](Pool::available).
    pub(crate) fn take(&mut self) -> BlockId {
        if self.free.is_empty() {
            self.add_slab();
        }
        let id = self.free.pop().expect("a slab has pages");
        self.pages[id.0].references = 1;
        id
    }

    /// Adds as many pages as there are, up to a slab's most and the limit.
    fn add_slab(&mut self) {
        assert!(self.pages.len() < self.limit, "a pool of {} pages", self.limit);
        let count = self.next_slab(self.pages.len());
        let slab = self.slabs.len();
        self.slabs.push(KvBlock::new(self.shape, self.formats, count * self.block_size));
        let first = self.pages.len();
        self.pages.extend((0..count).map(|page| Page { slab, first_slot: page * self.block_size, references: 0 }));
        self.free.extend((first..first + count).rev().map(BlockId));
    }

    /// Pages of the slab that is added to so many pages.
    fn next_slab(&self, pages: usize) -> usize {
        pages.clamp(1, self.largest_slab()).min(self.limit - pages)
    }

    /// Pages of a slab at most.
    fn largest_slab(&self) -> usize {
        (SLAB_TOKENS / self.block_size).max(1)
    }

    /// Notes that one more block table names the page.
    pub(crate) fn share(&mut self, id: BlockId) {
        self.pages[id.0].references += 1;
    }

    /// Notes that one block table less names each of these pages, and frees those that none names any more.
    pub(crate) fn release(&mut self, ids: impl IntoIterator<Item = BlockId>) {
        let free = self.free.len();
        for id in ids {
            let page = &mut self.pages[id.0];
            page.references -= 1;
            if page.references == 0 {
                self.free.push(id);
            }
        }
        if self.free.len() > free {
            self.free.sort_unstable_by(|a, b| b.cmp(a));
        }
    }

    /// Whether more than one block table names the page.
    pub(crate) fn is_shared(&self, id: BlockId) -> bool {
        self.pages[id.0].references > 1
    }

    /// Copies the first `tokens` tokens of one page into another.
    pub(crate) fn copy(&mut self, from: BlockId, to: BlockId, tokens: usize) {
        let Page { slab: from_slab, first_slot: from_slot, .. } = self.pages[from.0];
        let Page { slab: to_slab, first_slot: to_slot, .. } = self.pages[to.0];
        match self.slabs.get_disjoint_mut([from_slab, to_slab]) {
            Ok([from, to]) => to.copy_from(to_slot, from, from_slot..from_slot + tokens),
            Err(_) => self.slabs[to_slab].copy_within(from_slot..from_slot + tokens, to_slot),
        }
    }

    /// A page's memory and its slots in it, of which the first `tokens` are meant.
    pub(crate) fn rows(&self, id: BlockId, tokens: usize) -> (&KvBlock, Range<usize>) {
        let Page { slab, first_slot, .. } = self.pages[id.0];
        (&self.slabs[slab], first_slot..first_slot + tokens)
    }

    /// A page's memory, to write, and its first slot in it.
    pub(crate) fn rows_mut(&mut self, id: BlockId) -> (&mut KvBlock, usize) {
        let Page { slab, first_slot, .. } = self.pages[id.0];
        (&mut self.slabs[slab], first_slot)
    }

    /// Bytes of the rows of so many pages.
    pub(crate) fn bytes_for(&self, pages: usize) -> usize {
        KvBlock::bytes_for(self.shape, self.formats, pages.saturating_mul(self.block_size))
    }

    /// Bytes of the pool's own tables.
    pub(crate) fn table_bytes(&self) -> usize {
        table_bytes(self.slabs.capacity(), self.pages.capacity(), self.free.capacity())
    }

    /// The bytes of this empty pool, with its own tables, once `pages` pages are taken, of which as many slots are filled as
    /// there are `tokens`. It says nothing of pages and tokens beyond its limit.
    pub(crate) fn predicted_bytes(&self, pages: usize, tokens: usize) -> PredictedBytes {
        let taken = pages.min(self.limit);
        let (mut slabs, mut pages, mut row_bytes, mut widest) = (0usize, 0usize, 0usize, 0usize);
        let mut add = |count: usize, slab: usize| {
            slabs = slabs.saturating_add(count);
            row_bytes = row_bytes.saturating_add(self.bytes_for(slab).saturating_mul(count));
        };
        let largest = self.largest_slab();
        // While slabs become larger, they are counted one by one. After that they are alike, and there may be very many.
        while pages < taken.min(largest) {
            widest = self.next_slab(pages);
            add(1, widest);
            pages += widest;
        }
        if pages < taken {
            let more = (taken - pages).div_ceil(largest).saturating_mul(largest).min(self.limit - pages);
            add(more / largest, largest);
            add(usize::from(!more.is_multiple_of(largest)), more % largest);
            pages += more;
            widest = largest;
        }
        let filled = tokens.min(taken.saturating_mul(self.block_size));
        let BlockBytes { codes, scales, .. } = KvBlock::predicted_bytes(self.shape, self.formats, 0, filled);
        let tables = table_bytes(grown_capacity(slabs), grown_capacity(pages), grown_capacity(widest));
        let slack = row_bytes.saturating_sub(codes).saturating_sub(scales);
        PredictedBytes { payload: codes, metadata: scales.saturating_add(tables), slack }
    }

    /// What each slab's memory is spent on if `filled` tells how many slots of each page are in use.
    pub(crate) fn bytes(&self, filled: impl Fn(BlockId) -> usize) -> impl Iterator<Item = BlockBytes> {
        let mut slots = vec![0; self.slabs.len()];
        for (index, page) in self.pages.iter().enumerate() {
            slots[page.slab] += filled(BlockId(index));
        }
        self.slabs.iter().zip(slots).map(|(slab, filled)| slab.bytes(filled))
    }
}

/// Bytes of the tables of a pool with room for so many slabs, pages and free pages.
fn table_bytes(slabs: usize, pages: usize, free: usize) -> usize {
    let slabs = slabs.saturating_mul(size_of::<KvBlock>());
    let pages = pages.saturating_mul(size_of::<Page>());
    slabs.saturating_add(pages).saturating_add(free.saturating_mul(size_of::<BlockId>()))
}

/// The capacity of a table that grew to `len` entries, never to more than twice as many at once. The standard library
/// doubles a `Vec`, and begins with 4.
pub(crate) fn grown_capacity(len: usize) -> usize {
    match len {
        0 => 0,
        _ => len.max(4).checked_next_power_of_two().unwrap_or(usize::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_predicted_exactly() {
        // With odd rows in half precision, so that each slab is padded to whole words.
        let shape = RowShape { heads: 1, key_dim: 3, value_dim: 5 };
        for (block_size, limit) in [(1, usize::MAX), (7, usize::MAX), (64, usize::MAX), (64, 45), (5000, 9)] {
            let empty = Pool::new(shape, Formats::both("f16".parse().unwrap()), block_size, limit);
            let mut pool = Pool::new(shape, empty.formats, block_size, limit);
            for pages in 0..=limit.min(2500) {
                // Every page is full but the last.
                let last = block_size.div_ceil(2);
                let filled = |BlockId(id): BlockId| match id + 1 {
                    page if page < pages => block_size,
                    page if page == pages => last,
                    _ => 0,
                };
                let BlockBytes { codes, scales, slack } =
                    pool.bytes(filled).fold(KvBlock::predicted_bytes(shape, pool.formats, 0, 0), |sum, slab| sum + slab);
                let actual = PredictedBytes { payload: codes, metadata: scales + pool.table_bytes(), slack };
                let tokens = (pages * block_size).saturating_sub(block_size - last);
                assert_eq!(empty.predicted_bytes(pages, tokens), actual, "{pages} pages of {block_size} tokens");
                if pages < limit.min(2500) {
                    pool.take();
                }
            }
            if limit != usize::MAX {
                let all = empty.predicted_bytes(limit, limit * block_size);
                assert_eq!(empty.predicted_bytes(usize::MAX, usize::MAX), all, "beyond the limit");
            }
        }
    }

    #[test]
    fn slabs_double_up_to_their_most_and_stop_at_the_limit() {
        let shape = RowShape { heads: 1, key_dim: 2, value_dim: 2 };
        let mut pool = Pool::new(shape, Formats::F32, 64, 11);
        let taken: Vec<BlockId> = (0..11).map(|_| pool.take()).collect();
        assert_eq!(pool.slabs.iter().map(|slab| slab.slots() / 64).collect::<Vec<_>>(), [1, 1, 2, 4, 3]);
        assert_eq!(taken, (0..11).map(BlockId).collect::<Vec<_>>(), "in the order in which they lie");
        assert_eq!(pool.available(), 0);
        pool.release([BlockId(5)]);
        assert_eq!((pool.available(), pool.take()), (1, BlockId(5)));
    }

    #[test]
    fn pages_are_taken_in_ascending_order_however_they_were_released() {
        let mut pool = Pool::new(RowShape { heads: 1, key_dim: 2, value_dim: 2 }, Formats::F32, 64, 8);
        (0..8).for_each(|_| {
            pool.take();
        });
        pool.release([2, 3, 4].map(BlockId));
        pool.release([7, 0, 6].map(BlockId));
        let taken: Vec<BlockId> = (0..6).map(|_| pool.take()).collect();
        assert_eq!(taken, [0, 2, 3, 4, 6, 7].map(BlockId));
    }
}
