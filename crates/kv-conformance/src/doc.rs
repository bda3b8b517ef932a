//! The simplest possible strategy, for the examples in the documentation and for the suite's own tests.

use std::ops::Range;

use kv_core::{CacheError, ConfigError, Geometry, Guarantee, HeldRows, KvCache, SeqId, Strategy, Tensor, Usage, View};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// No parameters.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {}

/// Keeps every row unchanged.
#[derive(Debug)]
pub struct Plain {
    rows: HeldRows,
}

impl Strategy for Plain {
    const ID: &'static str = "plain";
    const SUMMARY: &'static str = "keeps every row unchanged";
    type Config = Config;

    fn new(_: Config, geometry: &Geometry) -> Result<Plain, ConfigError> {
        Ok(Plain { rows: HeldRows::new(geometry) })
    }
}

impl KvCache for Plain {
    fn open(&mut self) -> Result<SeqId, CacheError> {
        self.rows.open()
    }

    fn close(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.rows.close(seq)
    }

    fn seen(&self, seq: SeqId) -> Result<usize, CacheError> {
        self.rows.seen(seq)
    }

    fn begin(&mut self, seq: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError> {
        self.rows.begin(seq, fresh)
    }

    fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
        self.rows.append(seq, layer, keys, values)
    }

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        self.rows.attend(seq, layer, queries, |_, _| true)
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.rows.commit(seq, |_, _| true)
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId, CacheError> {
        self.rows.fork(seq)
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), CacheError> {
        self.rows.truncate(seq, len)
    }

    fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
        self.rows.view(seq, layer, kv_head, |_, _| true)
    }

    fn usage(&self) -> Usage {
        self.rows.usage()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Exact
    }
}
