//! A plain cache whose config accepts any key.

use std::ops::Range;

use kv_conformance::doc::Plain;
use kv_core::{CacheError, ConfigError, Geometry, Guarantee, KvCache, SeqId, Strategy, Tensor, Usage, View};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Without `deny_unknown_fields`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Config {}

#[derive(Debug)]
pub(crate) struct Lax(Plain);

impl Strategy for Lax {
    const ID: &'static str = "lax";
    const SUMMARY: &'static str = "accepts any key";
    type Config = Config;

    fn new(_: Config, geometry: &Geometry) -> Result<Lax, ConfigError> {
        Ok(Lax(Plain::new(Default::default(), geometry)?))
    }
}

impl KvCache for Lax {
    fn open(&mut self) -> Result<SeqId, CacheError> {
        self.0.open()
    }

    fn close(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.0.close(seq)
    }

    fn seen(&self, seq: SeqId) -> Result<usize, CacheError> {
        self.0.seen(seq)
    }

    fn begin(&mut self, seq: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError> {
        self.0.begin(seq, fresh)
    }

    fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
        self.0.append(seq, layer, keys, values)
    }

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        self.0.attend(seq, layer, queries)
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.0.commit(seq)
    }

    fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
        self.0.view(seq, layer, kv_head)
    }

    fn usage(&self) -> Usage {
        self.0.usage()
    }

    fn guarantee(&self) -> Guarantee {
        self.0.guarantee()
    }
}
