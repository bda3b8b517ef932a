//! The plainest strategy there is, for the documentation's examples and for the suite's own tests.

use std::ops::Range;

use kv_core::{
    CacheError, ConfigError, Geometry, Guarantee, KvCache, Rows, SeqId, Sequences, Strategy, Tensor, Usage, View, attend_over_view,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// There is nothing to choose.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {}

/// Keeps every row as it came, a [`View`] for each layer and KV head.
#[derive(Debug)]
pub struct Plain {
    sequences: Sequences<Vec<Vec<View>>>,
}

impl Strategy for Plain {
    const ID: &'static str = "plain";
    const SUMMARY: &'static str = "keeps every row as it came";
    type Config = Config;

    fn new(_: Config, geometry: &Geometry) -> Result<Plain, ConfigError> {
        Ok(Plain { sequences: Sequences::new(geometry) })
    }
}

impl KvCache for Plain {
    fn open(&mut self) -> Result<SeqId, CacheError> {
        let Geometry { layers, kv_heads, .. } = *self.sequences.geometry();
        Ok(self.sequences.open(0, vec![vec![View::default(); kv_heads]; layers]))
    }

    fn close(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.sequences.close(seq).map(|_| ())
    }

    fn seen(&self, seq: SeqId) -> Result<usize, CacheError> {
        self.sequences.seen(seq)
    }

    fn begin(&mut self, seq: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError> {
        self.sequences.check_begin(seq, &fresh)?;
        self.sequences.begin(seq, fresh)
    }

    fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
        self.sequences.append(seq, layer, keys, values)
    }

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let queries: Rows = self.sequences.queries(seq, layer, queries)?;
        let first_query = self.sequences.seen(seq)?;
        Ok(attend_over_view(self, self.sequences.geometry(), seq, layer, first_query, &queries)?.into_tensor())
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        let (step, layers) = self.sequences.commit(seq)?;
        for (views, fresh) in layers.iter_mut().zip(step.layers.iter().flatten()) {
            views.iter_mut().enumerate().for_each(|(kv_head, view)| view.extend(step.run.start, fresh, kv_head));
        }
        Ok(())
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId, CacheError> {
        let layers = self.sequences.state(seq)?.clone();
        let seen = self.sequences.seen(seq)?;
        Ok(self.sequences.open(seen, layers))
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), CacheError> {
        let Geometry { key_dim, value_dim, .. } = *self.sequences.geometry();
        for view in self.sequences.truncate(seq, len)?.iter_mut().flatten() {
            view.positions.truncate(len);
            view.keys.truncate(len * key_dim);
            view.values.truncate(len * value_dim);
        }
        Ok(())
    }

    fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
        let mut view = self.sequences.state(seq)?[layer][kv_head].clone();
        if let Some((first, fresh)) = self.sequences.fresh_if_any(seq, layer)? {
            view.extend(first, fresh, kv_head);
        }
        Ok(view)
    }

    fn usage(&self) -> Usage {
        let sequences = self.sequences.iter().map(|(layers, seen)| {
            let mut usage = Usage { seen_tokens: seen, resident_tokens: seen, ..Usage::default() };
            usage.metadata_bytes += layers.capacity() * size_of::<Vec<View>>();
            for views in layers {
                usage.metadata_bytes += views.capacity() * size_of::<View>();
                for View { positions, keys, values } in views {
                    usage.payload_bytes += (keys.len() + values.len()) * size_of::<f32>();
                    usage.slack_bytes += (keys.capacity() - keys.len() + values.capacity() - values.len()) * size_of::<f32>();
                    usage.metadata_bytes += positions.capacity() * size_of::<usize>();
                }
            }
            usage
        });
        sequences.sum()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Exact
    }
}
