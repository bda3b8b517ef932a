//! Fixed-size pages from a pool shared by all sequences, and one block table per sequence.
//!
//! This is the layout of PagedAttention (Kwon et al., arXiv:2309.06180): token `t` of a sequence is in page
//! `table[t / block_size]`, slot `t % block_size`. A sequence wastes at most `block_size − 1` slots. A fork
//! shares its parent's pages and copies a page only when it writes to it. The pages of a closed sequence are
//! reused. The pool allocates memory for up to 1024 tokens at a time. Shared prefixes are not detected: only
//! `fork` shares pages.
#![forbid(unsafe_code)]

mod config;
mod pool;

use std::collections::BTreeMap;
use std::ops::Range;

use kv_core::{
    CacheError, ConfigError, ErrorBound, Fresh, Geometry, Guarantee, KvCache, PredictedBytes, Rows, SeqId, Sequences, Strategy, Tensor,
    Usage, View,
};
use kv_kernels::{BlockBytes, HeadShape, KvBlock, Mask, PageTable, Part, RowShape, Run};

pub use config::Config;
use pool::{BlockId, Pool, grown_capacity};

/// The pool and the block tables.
#[derive(Debug)]
pub struct Paged {
    config: Config,
    pool: Pool,
    sequences: Sequences<Table>,
}

/// A sequence's pages, in the order of its tokens.
#[derive(Debug, Default)]
struct Table {
    blocks: Vec<BlockId>,
    /// Pages set aside by `begin` for the step in progress, so that two steps cannot count on the same one: first the
    /// copy of a shared page, if the step writes into one, then the step's new pages in ascending order.
    set_aside: Vec<BlockId>,
}

/// A sequence's pages, for attention.
#[derive(Debug)]
struct Pages<'a> {
    pool: &'a Pool,
    blocks: &'a [BlockId],
}

impl PageTable for Pages<'_> {
    fn page(&self, index: usize) -> (&KvBlock, usize) {
        let (block, slots) = self.pool.rows(self.blocks[index], 0);
        (block, slots.start)
    }
}

impl Strategy for Paged {
    const ID: &'static str = "paged";
    const SUMMARY: &'static str = "pages from a pool shared by all sequences, one block table per sequence, copy-on-write forks";
    type Config = Config;

    fn new(config: Config, geometry: &Geometry) -> Result<Paged, ConfigError> {
        if config.block_size == 0 {
            return Err(ConfigError::value("block_size", 0, "a page holds at least 1 token; 16 is usual"));
        }
        geometry.check_tokens("block_size", config.block_size)?;
        let Geometry { layers, kv_heads, key_dim, value_dim, .. } = *geometry;
        config.format.check_rows(key_dim, value_dim).map_err(|error| ConfigError::value("format", config.format, error))?;
        let shape = RowShape { heads: layers * kv_heads, key_dim, value_dim };
        if config.max_blocks == Some(0) {
            return Err(ConfigError::value("max_blocks", 0, "leave it out for a pool without limit"));
        }
        let limit = config.max_blocks.unwrap_or(usize::MAX);
        let pool = Pool::new(shape, config.format, config.block_size, limit);
        Ok(Paged { config, pool, sequences: Sequences::new(geometry) })
    }

    fn predicted_bytes(config: &Config, geometry: &Geometry, tokens: usize, sequences: usize) -> Option<PredictedBytes> {
        let Paged { pool, .. } = Paged::new(config.clone(), geometry).ok()?;
        // No sequence fills a part of another's page.
        let tokens = tokens.min((pool.available() / sequences.max(1)).saturating_mul(config.block_size));
        let pages = tokens.div_ceil(config.block_size);
        let mut bytes = pool.predicted_bytes(pages.saturating_mul(sequences), tokens.saturating_mul(sequences));
        let table = grown_capacity(pages.min(pool.available())).saturating_mul(size_of::<BlockId>());
        bytes.metadata = bytes.metadata.saturating_add(table.saturating_mul(sequences));
        Some(bytes)
    }
}

impl KvCache for Paged {
    fn open(&mut self) -> Result<SeqId, CacheError> {
        Ok(self.sequences.open(0, Table::default()))
    }

    fn close(&mut self, seq: SeqId) -> Result<(), CacheError> {
        let Table { blocks, set_aside } = self.sequences.close(seq)?;
        self.pool.release(blocks.into_iter().chain(set_aside));
        Ok(())
    }

    fn seen(&self, seq: SeqId) -> Result<usize, CacheError> {
        self.sequences.seen(seq)
    }

    fn begin(&mut self, seq: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError> {
        self.sequences.check_begin(seq, &fresh)?;
        let block_size = self.config.block_size;
        let Table { blocks, set_aside } = self.sequences.state(seq)?;
        let copies = usize::from(self.writes_into_shared_page(blocks, &fresh));
        let new_pages = fresh.end.div_ceil(block_size).saturating_sub(blocks.len()) + copies;
        let available = self.pool.available() + set_aside.len();
        if new_pages > available {
            let slots_left = blocks.len() * block_size - fresh.start;
            let free = if copies > available { 0 } else { slots_left + (available - copies) * block_size };
            return Err(CacheError::Full { needed: fresh.len(), free });
        }
        self.release_set_aside(seq)?;
        let pages = (0..new_pages).map(|_| self.pool.take()).collect();
        self.sequences.state_mut(seq)?.set_aside = pages;
        self.sequences.begin(seq, fresh)
    }

    fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
        self.sequences.append(seq, layer, keys, values)
    }

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let queries = self.sequences.queries(seq, layer, queries)?;
        let (first_query, fresh) = self.sequences.fresh(seq, layer)?;
        let pages = Pages { pool: &self.pool, blocks: &self.sequences.state(seq)?.blocks };
        let fresh = Run::Rows { keys: fresh.keys.values(), values: fresh.values.values(), first_position: first_query };
        Ok(self.attended(&queries, first_query, vec![self.stored(&pages, layer, first_query), fresh]))
    }

    fn read(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let (seen, queries) = self.sequences.read_queries(seq, layer, queries)?;
        let pages = Pages { pool: &self.pool, blocks: &self.sequences.state(seq)?.blocks };
        Ok(self.attended(&queries, seen, vec![self.stored(&pages, layer, seen)]))
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        let block_size = self.config.block_size;
        let (step, table) = self.sequences.commit(seq)?;
        let mut set_aside = std::mem::take(&mut table.set_aside).into_iter();
        let first = step.run.start;
        if let Some(last) = table.blocks.last_mut().filter(|_| first % block_size != 0 && !step.run.is_empty())
            && self.pool.is_shared(*last)
        {
            let copy = set_aside.next().expect("`begin` set a page aside for the copy");
            self.pool.copy(*last, copy, first % block_size);
            self.pool.release([*last]);
            *last = copy;
        }
        while table.blocks.len() * block_size < step.run.end {
            table.blocks.push(set_aside.next().expect("`begin` set the step's pages aside"));
        }
        // The fork that shared the last page may have been closed since `begin`.
        self.pool.release(set_aside);
        let kv_heads = self.sequences.geometry().kv_heads;
        let blocks = &self.sequences.state(seq)?.blocks;
        for (layer, fresh) in step.layers.iter().enumerate() {
            let fresh = fresh.as_ref().expect("this strategy drops no layer");
            write_pages(&mut self.pool, blocks, block_size, &step.run, layer * kv_heads, fresh);
        }
        Ok(())
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId, CacheError> {
        let blocks = self.sequences.state(seq)?.blocks.clone();
        let seen = self.sequences.seen(seq)?;
        if self.sequences.is_in_step(seq)? && !seen.is_multiple_of(self.config.block_size) {
            // The step counted on writing into its last page; once that is shared, it needs a copy.
            if self.pool.available() == 0 {
                return Err(CacheError::Full { needed: 1, free: 0 });
            }
            let page = self.pool.take();
            self.sequences.state_mut(seq)?.set_aside.insert(0, page);
        }
        blocks.iter().for_each(|id| self.pool.share(*id));
        Ok(self.sequences.open(seen, Table { blocks, set_aside: vec![] }))
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), CacheError> {
        self.sequences.check_truncate(seq, len)?;
        self.release_set_aside(seq)?;
        let table = self.sequences.truncate(seq, len)?;
        let kept = len.div_ceil(self.config.block_size);
        self.pool.release(table.blocks.drain(kept..));
        Ok(())
    }

    fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
        let mut view = View::default();
        let seen = self.sequences.seen(seq)?;
        let head = layer * self.sequences.geometry().kv_heads + kv_head;
        for (id, tokens) in self.filled_pages(&self.sequences.state(seq)?.blocks, seen) {
            view.positions.extend(tokens.clone());
            let (block, slots) = self.pool.rows(id, tokens.len());
            block.decode(head, slots, &mut view.keys, &mut view.values);
        }
        if let Some((first, fresh)) = self.sequences.fresh_if_any(seq, layer)? {
            view.extend(first, fresh, kv_head);
        }
        Ok(view)
    }

    fn usage(&self) -> Usage {
        let mut usage =
            Usage { metadata_bytes: self.pool.table_bytes(), scratch_peak_bytes: self.sequences.scratch_bytes(), ..Usage::default() };
        let mut filled: BTreeMap<BlockId, usize> = BTreeMap::new();
        for (table, seen) in self.sequences.iter() {
            usage.seen_tokens += seen;
            usage.resident_tokens += seen;
            usage.metadata_bytes += (table.blocks.capacity() + table.set_aside.capacity()) * size_of::<BlockId>();
            for (id, tokens) in self.filled_pages(&table.blocks, seen) {
                let filled = filled.entry(id).or_default();
                *filled = tokens.len().max(*filled);
            }
        }
        for (id, tokens) in filled.iter().filter(|(id, _)| self.pool.is_shared(**id)) {
            usage.shared_bytes += self.pool.rows(*id, 0).0.bytes(*tokens).codes;
        }
        for BlockBytes { codes, scales, slack } in self.pool.bytes(|id| filled.get(&id).copied().unwrap_or(0)) {
            usage.payload_bytes += codes;
            usage.metadata_bytes += scales;
            usage.slack_bytes += slack;
        }
        usage
    }

    fn least_bytes(&self, tokens: usize) -> usize {
        self.pool.bytes_for(tokens.div_ceil(self.config.block_size))
    }

    fn guarantee(&self) -> Guarantee {
        let errors = self.config.format.max_relative_errors();
        errors.map_or(Guarantee::Exact, |(keys, values)| Guarantee::Lossy(ErrorBound::of_rows(keys, values)))
    }
}

impl Paged {
    /// A layer's first `tokens` tokens.
    fn stored<'a>(&self, table: &'a Pages<'a>, layer: usize, tokens: usize) -> Run<'a> {
        let kv_heads = self.sequences.geometry().kv_heads;
        Run::Pages { table, page_tokens: self.config.block_size, tokens, first_head: layer * kv_heads, first_position: 0 }
    }

    /// Attention of queries from the position `first_query` on. They see all earlier tokens of the runs.
    fn attended(&self, queries: &Rows, first_query: usize, runs: Vec<Run<'_>>) -> Tensor<3> {
        let Geometry { heads, kv_heads, key_dim, value_dim, .. } = *self.sequences.geometry();
        let shape = HeadShape { heads, kv_heads, key_dim, value_dim };
        let out = kv_kernels::attend(shape, first_query, &[Part { queries: queries.values(), mask: Mask::Causal, runs }]).out;
        let [tokens, ..] = queries.dims();
        Rows::new([tokens, heads, value_dim], out).into_tensor()
    }

    /// The pages of the first `tokens` tokens, each with the positions it holds.
    fn filled_pages<'a>(&self, blocks: &'a [BlockId], tokens: usize) -> impl Iterator<Item = (BlockId, Range<usize>)> + use<'a> {
        let block_size = self.config.block_size;
        let starts = (0..tokens).step_by(block_size);
        blocks.iter().copied().zip(starts.map(move |start| start..(start + block_size).min(tokens)))
    }

    /// Whether the first of the `fresh` tokens goes into a partly filled page that a fork also reads.
    fn writes_into_shared_page(&self, blocks: &[BlockId], fresh: &Range<usize>) -> bool {
        let continues = !fresh.is_empty() && !fresh.start.is_multiple_of(self.config.block_size);
        continues && blocks.last().is_some_and(|last| self.pool.is_shared(*last))
    }

    fn release_set_aside(&mut self, seq: SeqId) -> Result<(), CacheError> {
        let set_aside = std::mem::take(&mut self.sequences.state_mut(seq)?.set_aside);
        self.pool.release(set_aside);
        Ok(())
    }
}

/// Writes a layer's rows of the positions `run` into the sequence's pages.
fn write_pages(pool: &mut Pool, blocks: &[BlockId], block_size: usize, run: &Range<usize>, first_head: usize, fresh: &Fresh) {
    let [_, kv_heads, key_dim] = fresh.keys.dims();
    let [_, _, value_dim] = fresh.values.dims();
    let mut start = run.start;
    while start < run.end {
        let page = start / block_size;
        let end = ((page + 1) * block_size).min(run.end);
        let rows = (start - run.start) * kv_heads..(end - run.start) * kv_heads;
        let keys = &fresh.keys.values()[rows.start * key_dim..rows.end * key_dim];
        let values = &fresh.values.values()[rows.start * value_dim..rows.end * value_dim];
        let (block, first_slot) = pool.rows_mut(blocks[page]);
        let slots = first_slot + start - page * block_size..first_slot + end - page * block_size;
        block.write(slots, first_head..first_head + kv_heads, keys, values);
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use kv_conformance::{Text, fill, toy_geometry};

    const TOKENS: usize = 2000;

    fn filled(paged: &mut Paged, seq: SeqId, to: usize, chunk: usize) {
        let text = Text::new(paged.sequences.geometry(), 1, to);
        let seen = paged.seen(seq).expect("an open sequence");
        fill(paged, seq, &text, seen..to, chunk).expect("a pool without limit");
    }

    /// How many runs are left when pages that follow each other in a slab are joined, and the fewest there can be: one
    /// per slab.
    fn runs_and_slabs(paged: &Paged, seq: SeqId) -> (usize, usize) {
        let blocks = &paged.sequences.state(seq).expect("an open sequence").blocks;
        let places: Vec<(*const KvBlock, Range<usize>)> = blocks
            .iter()
            .map(|id| {
                let (block, slots) = paged.pool.rows(*id, paged.config.block_size);
                (std::ptr::from_ref(block), slots)
            })
            .collect();
        let joins = places.windows(2).filter(|pair| pair[0].0 == pair[1].0 && pair[0].1.end == pair[1].1.start).count();
        let slabs: BTreeSet<_> = places.iter().map(|(block, _)| *block).collect();
        (places.len() - joins, slabs.len())
    }

    fn assert_joined(paged: &Paged, seq: SeqId, when: &str) {
        let (runs, slabs) = runs_and_slabs(paged, seq);
        assert_eq!(runs, slabs, "{when}: runs and slabs");
    }

    fn new() -> Paged {
        Paged::new(Config::default(), &Geometry { layers: 1, ..toy_geometry() }).expect("the default config")
    }

    #[test]
    fn pages_lie_in_the_order_of_the_tokens_whatever_the_step() {
        for chunk in [1, 7, 16, 100, 512, TOKENS] {
            let mut paged = new();
            let seq = paged.open().expect("a sequence");
            filled(&mut paged, seq, TOKENS, chunk);
            assert_joined(&paged, seq, &format!("in steps of {chunk}"));
        }
    }

    #[test]
    fn pages_that_are_used_again_lie_in_order_too() {
        for chunk in [1, 100, 512] {
            let mut paged = new();
            let [first, second] = [paged.open().expect("a sequence"), paged.open().expect("a sequence")];
            filled(&mut paged, first, TOKENS, 512);
            filled(&mut paged, second, TOKENS, 512);
            paged.close(first).expect("an open sequence");
            let third = paged.open().expect("a sequence");
            filled(&mut paged, third, TOKENS, chunk);
            assert_joined(&paged, third, "after another sequence was closed");

            paged.truncate(third, 100).expect("a length it has");
            paged.begin(third, 100..900).expect("a pool without limit");
            filled(&mut paged, third, TOKENS, chunk);
            assert_joined(&paged, third, "after truncate and an abandoned step");
        }
    }
}
