//! How a strategy is named, configured and built.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{ConfigError, Geometry, KvCache};

/// A cache that can be named in a config file.
///
/// Writing one takes a config type, these five items and the [`KvCache`] methods; registering it is
/// `registry.with::<MyCache>()`.
pub trait Strategy: KvCache + Sized + 'static {
    /// The strategy's name in configs, results and legends.
    const ID: &'static str;

    /// One line for lists and reports.
    const SUMMARY: &'static str;

    /// The parameters. Its doc comments become their descriptions, its `Default` their defaults. Mark it
    /// `#[serde(default, deny_unknown_fields)]`, so that a misspelt key is refused.
    type Config: DeserializeOwned + Serialize + Default + JsonSchema;

    /// Builds an empty cache.
    ///
    /// # Errors
    /// [`ConfigError::Value`] names the parameter that is impossible, alone or with this geometry.
    fn new(config: Self::Config, geometry: &Geometry) -> Result<Self, ConfigError>;
}
