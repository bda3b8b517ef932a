//! How a strategy is named, configured and built.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{ConfigError, Geometry, KvCache};

/// A cache that can be named in a config file.
///
/// To write one, implement a config type, the items below and the [`KvCache`] methods. To register it, call
/// `registry.with::<MyCache>()`.
pub trait Strategy: KvCache + Sized + 'static {
    /// The strategy's name in configs, results and legends.
    const ID: &'static str;

    /// A one-line summary for lists and reports.
    const SUMMARY: &'static str;

    /// The parameters. Doc comments become their descriptions, and `Default` gives their defaults. Mark the type
    /// `#[serde(default, deny_unknown_fields)]`, so that a misspelled key is refused.
    type Config: DeserializeOwned + Serialize + Default + JsonSchema;

    /// Builds an empty cache.
    ///
    /// # Errors
    /// [`ConfigError::Value`] names a parameter that is invalid, by itself or with this geometry.
    fn new(config: Self::Config, geometry: &Geometry) -> Result<Self, ConfigError>;
}
