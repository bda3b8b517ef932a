//! A plain cache whose config accepts any key.

use kv_conformance::doc::Plain;
use kv_core::{ConfigError, Geometry, KvCache, Strategy};
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
    kv_core::forward!(0: open close seen begin append attend read commit prompt_end fork truncate view usage);
    kv_core::forward!(0: least_bytes guarantee reach recomputes);
}
