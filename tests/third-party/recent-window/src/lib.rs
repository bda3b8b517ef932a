//! Keeps only the most recent tokens. A minimal strategy in a crate outside kvlab's workspace.
#![forbid(unsafe_code)]

use kv_core::{CacheError, ConfigError, Geometry, Guarantee, HeldRows, KvCache, SeqId, Strategy, Tensor, View};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Number of recent tokens that a query sees, including its own.
    pub window: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config { window: 256 }
    }
}

#[derive(Debug)]
pub struct RecentWindow {
    window: usize,
    rows: HeldRows,
}

impl Strategy for RecentWindow {
    const ID: &'static str = "recent-window";
    const SUMMARY: &'static str = "keeps only the last `window` tokens";
    type Config = Config;

    fn new(Config { window }: Config, geometry: &Geometry) -> Result<RecentWindow, ConfigError> {
        match window {
            0 => Err(ConfigError::value("window", 0, "a query sees at least its own token")),
            _ => Ok(RecentWindow { window, rows: HeldRows::new(geometry) }),
        }
    }
}

#[rustfmt::skip]
impl KvCache for RecentWindow {
    kv_core::forward!(rows: open close seen begin append usage);
    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        self.rows.attend(seq, layer, queries, |query, key| key + self.window > query)
    }
    fn read(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        self.rows.read(seq, layer, queries, |newest, key| key + self.window > newest)
    }
    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.rows.commit(seq, |seen, position| position + self.window >= seen)
    }
    fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
        self.rows.view(seq, layer, kv_head, |newest, key| key + self.window > newest)
    }
    fn guarantee(&self) -> Guarantee { Guarantee::Evicts(None) }
    fn reach(&self, context: usize) -> Option<usize> { (self.window > context).then_some(context) }
}
