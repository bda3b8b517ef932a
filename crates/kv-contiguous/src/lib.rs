//! One buffer per layer and sequence, which grows with the sequence.
//!
//! This is the cache that most engines start with: it shares nothing between sequences and evicts nothing.
//! Growth is a parameter, because it is where such caches differ. Concatenation copies everything at every
//! step. Doubling copies rarely and wastes up to half of the memory. A reservation never copies but can be full.
#![forbid(unsafe_code)]

mod config;

use std::ops::{Range, RangeInclusive};

use kv_core::{
    CacheError, ConfigError, ErrorBound, Geometry, Guarantee, KvCache, PredictedBytes, Rows, SeqId, Sequences, Strategy, Tensor, Usage,
    View,
};
use kv_kernels::{BlockBytes, HeadShape, KvBlock, Mask, Part, RowShape, Run};

pub use config::{Config, Growth};

/// Keys and values of each sequence, one block per layer.
#[derive(Debug)]
pub struct Contiguous {
    config: Config,
    shape: RowShape,
    /// One block per layer. The first `seen` slots of each are filled.
    sequences: Sequences<Vec<KvBlock>>,
}

impl Strategy for Contiguous {
    const ID: &'static str = "contiguous";
    const SUMMARY: &'static str = "one buffer per layer and sequence, grown by concatenation, grown by doubling, or reserved up front";
    type Config = Config;

    fn new(config: Config, geometry: &Geometry) -> Result<Contiguous, ConfigError> {
        if config.growth == Growth::Reserve(0) {
            return Err(ConfigError::value("growth.reserve", 0, "reserve at least 1 token"));
        }
        if let Growth::Reserve(tokens) = config.growth {
            geometry.check_tokens("growth.reserve", tokens)?;
        }
        let Geometry { kv_heads, key_dim, value_dim, .. } = *geometry;
        config.format.check_rows(key_dim, value_dim).map_err(|error| ConfigError::value("format", config.format, error))?;
        let shape = RowShape { heads: kv_heads, key_dim, value_dim };
        Ok(Contiguous { config, shape, sequences: Sequences::new(geometry) })
    }

    fn predicted_bytes(config: &Config, geometry: &Geometry, tokens: usize, sequences: usize) -> Option<PredictedBytes> {
        let cache = Contiguous::new(config.clone(), geometry).ok()?;
        let slots = *cache.slots(tokens).end();
        let rows = KvBlock::predicted_bytes(cache.shape, config.format, slots, tokens.min(slots));
        Some(PredictedBytes::from(layer_usage(rows)).times(geometry.layers).times(sequences))
    }
}

impl KvCache for Contiguous {
    fn open(&mut self) -> Result<SeqId, CacheError> {
        let slots = match self.config.growth {
            Growth::Reserve(tokens) => tokens,
            Growth::Concat | Growth::Doubling => 0,
        };
        let layers = self.sequences.geometry().layers;
        let blocks = (0..layers).map(|_| KvBlock::new(self.shape, self.config.format, slots)).collect();
        Ok(self.sequences.open(0, blocks))
    }

    fn close(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.sequences.close(seq).map(|_| ())
    }

    fn seen(&self, seq: SeqId) -> Result<usize, CacheError> {
        self.sequences.seen(seq)
    }

    fn begin(&mut self, seq: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError> {
        self.sequences.check_begin(seq, &fresh)?;
        if let Growth::Reserve(tokens) = self.config.growth
            && fresh.end > tokens
        {
            return Err(CacheError::Full { needed: fresh.len(), free: tokens - fresh.start });
        }
        self.sequences.begin(seq, fresh)
    }

    fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
        self.sequences.append(seq, layer, keys, values)
    }

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let queries = self.sequences.queries(seq, layer, queries)?;
        let (first_query, fresh) = self.sequences.fresh(seq, layer)?;
        let fresh = Run::Rows { keys: fresh.keys.values(), values: fresh.values.values(), first_position: first_query };
        Ok(self.attended(&queries, first_query, vec![self.stored(seq, layer, first_query)?, fresh]))
    }

    fn read(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let (seen, queries) = self.sequences.read_queries(seq, layer, queries)?;
        Ok(self.attended(&queries, seen, vec![self.stored(seq, layer, seen)?]))
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        let growth = self.config.growth;
        let (step, blocks) = self.sequences.commit(seq)?;
        for (block, fresh) in blocks.iter_mut().zip(step.layers.into_iter().flatten()) {
            match growth {
                Growth::Concat => block.resize(step.run.end, step.run.start),
                Growth::Doubling => block.make_room(step.run.end, step.run.start),
                Growth::Reserve(_) => {}
            }
            let heads = 0..block.shape().heads;
            block.write(step.run.clone(), heads, fresh.keys.values(), fresh.values.values());
        }
        Ok(())
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId, CacheError> {
        let blocks = self.sequences.state(seq)?.clone();
        let seen = self.sequences.seen(seq)?;
        Ok(self.sequences.open(seen, blocks))
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), CacheError> {
        self.sequences.truncate(seq, len).map(|_| ())
    }

    fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
        let mut view = View::default();
        let seen = self.sequences.seen(seq)?;
        if let Some(block) = self.sequences.state(seq)?.get(layer) {
            view.positions.extend(0..seen);
            block.decode(kv_head, 0..seen, &mut view.keys, &mut view.values);
        }
        if let Some((first, fresh)) = self.sequences.fresh_if_any(seq, layer)? {
            view.extend(first, fresh, kv_head);
        }
        Ok(view)
    }

    fn usage(&self) -> Usage {
        let sequences = self.sequences.iter().map(|(blocks, seen)| {
            let layers: Usage = blocks.iter().map(|block| layer_usage(block.bytes(seen))).sum();
            Usage { seen_tokens: seen, resident_tokens: seen, ..layers }
        });
        Usage { scratch_peak_bytes: self.sequences.scratch_bytes(), ..sequences.sum() }
    }

    fn least_bytes(&self, tokens: usize) -> usize {
        KvBlock::bytes_for(self.shape, self.config.format, *self.slots(tokens).start()).saturating_mul(self.sequences.geometry().layers)
    }

    fn guarantee(&self) -> Guarantee {
        let errors = self.config.format.max_relative_errors();
        errors.map_or(Guarantee::Exact, |(keys, values)| Guarantee::Lossy(ErrorBound::of_rows(keys, values)))
    }
}

impl Contiguous {
    /// A layer's first `tokens` tokens.
    fn stored(&self, seq: SeqId, layer: usize, tokens: usize) -> Result<Run<'_>, CacheError> {
        Ok(Run::Block { block: &self.sequences.state(seq)?[layer], first_head: 0, slots: 0..tokens, first_position: 0 })
    }

    /// Attention of queries from the position `first_query` on. They see all earlier tokens of the runs.
    fn attended(&self, queries: &Rows, first_query: usize, runs: Vec<Run<'_>>) -> Tensor<3> {
        let Geometry { heads, kv_heads, key_dim, value_dim, .. } = *self.sequences.geometry();
        let shape = HeadShape { heads, kv_heads, key_dim, value_dim };
        let out = kv_kernels::attend(shape, first_query, &[Part { queries: queries.values(), mask: Mask::Causal, runs }]).out;
        let [tokens, ..] = queries.dims();
        Rows::new([tokens, heads, value_dim], out).into_tensor()
    }

    /// The fewest and the most slots of a layer's block once it holds `tokens` tokens.
    fn slots(&self, tokens: usize) -> RangeInclusive<usize> {
        match self.config.growth {
            Growth::Concat => tokens..=tokens,
            Growth::Doubling => tokens..=KvBlock::grown_slots(tokens),
            Growth::Reserve(reserved) => reserved..=reserved,
        }
    }
}

/// What a layer takes whose rows take these bytes.
fn layer_usage(rows: BlockBytes) -> Usage {
    let BlockBytes { codes, scales, slack } = rows;
    let metadata_bytes = scales.saturating_add(size_of::<KvBlock>());
    Usage { payload_bytes: codes, metadata_bytes, slack_bytes: slack, ..Usage::default() }
}
