//! The simplest possible strategy, for the examples in the documentation and for the suite's own tests.

use kv_core::{CacheError, ConfigError, Geometry, Guarantee, HeldRows, KvCache, SeqId, Strategy, Tensor, View};
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
    kv_core::forward!(rows: open close seen begin append fork truncate usage);

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        self.rows.attend(seq, layer, queries, |_, _| true)
    }

    fn read(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        self.rows.read(seq, layer, queries, |_, _| true)
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.rows.commit(seq, |_, _| true)
    }

    fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
        self.rows.view(seq, layer, kv_head, |_, _| true)
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Exact
    }
}
