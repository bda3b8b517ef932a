//! The pages all sequences of a cache share.

use kv_kernels::{BlockBytes, Formats, KvBlock, RowShape};

/// Names a page of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BlockId(usize);

/// Pages with the number of block tables that name each, and the list of those that none names.
///
/// A page holds the rows of `block_size` tokens in all layers, so that a block table serves every layer.
/// Pages are allocated when first needed, then reused and never given back.
#[derive(Debug)]
pub(crate) struct Pool {
    shape: RowShape,
    formats: Formats,
    block_size: usize,
    limit: usize,
    pages: Vec<Page>,
    free: Vec<BlockId>,
}

#[derive(Debug)]
struct Page {
    rows: KvBlock,
    references: usize,
}

impl Pool {
    /// An empty pool of at most `limit` pages.
    pub(crate) fn new(shape: RowShape, formats: Formats, block_size: usize, limit: usize) -> Pool {
        Pool { shape, formats, block_size, limit, pages: vec![], free: vec![] }
    }

    /// Pages that [`take`](Pool::take) could still answer.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + (self.limit - self.pages.len())
    }

    /// A page with one reference, reused if one is free.
    ///
    /// # Panics
    /// If the limit is reached; `begin` has checked [`available`](Pool::available).
    pub(crate) fn take(&mut self) -> BlockId {
        let id = self.free.pop().unwrap_or_else(|| {
            assert!(self.pages.len() < self.limit, "a pool of {} pages", self.limit);
            self.pages.push(Page { rows: KvBlock::new(self.shape, self.formats, self.block_size), references: 0 });
            BlockId(self.pages.len() - 1)
        });
        self.pages[id.0].references = 1;
        id
    }

    /// Notes that one more block table names the page.
    pub(crate) fn share(&mut self, id: BlockId) {
        self.pages[id.0].references += 1;
    }

    /// Notes that one block table less names the page, and frees it after the last.
    pub(crate) fn release(&mut self, id: BlockId) {
        let page = &mut self.pages[id.0];
        page.references -= 1;
        if page.references == 0 {
            self.free.push(id);
        }
    }

    /// Whether more than one block table names the page.
    pub(crate) fn is_shared(&self, id: BlockId) -> bool {
        self.pages[id.0].references > 1
    }

    /// Copies the first `tokens` tokens of one page into another.
    pub(crate) fn copy(&mut self, from: BlockId, to: BlockId, tokens: usize) {
        let [from, to] = self.pages.get_disjoint_mut([from.0, to.0]).expect("two pages of this pool");
        to.rows.copy_from(0, &from.rows, 0..tokens);
    }

    /// A page's rows.
    pub(crate) fn rows(&self, id: BlockId) -> &KvBlock {
        &self.pages[id.0].rows
    }

    /// A page's rows, to write.
    pub(crate) fn rows_mut(&mut self, id: BlockId) -> &mut KvBlock {
        &mut self.pages[id.0].rows
    }

    /// Every page with its id.
    pub(crate) fn ids(&self) -> impl Iterator<Item = BlockId> {
        (0..self.pages.len()).map(BlockId)
    }

    /// Bytes of the pool's own tables.
    pub(crate) fn table_bytes(&self) -> usize {
        self.pages.capacity() * size_of::<Page>() + self.free.capacity() * size_of::<BlockId>()
    }

    /// What a page's memory is spent on.
    pub(crate) fn bytes(&self, id: BlockId, filled: usize) -> BlockBytes {
        self.rows(id).bytes(filled)
    }
}
