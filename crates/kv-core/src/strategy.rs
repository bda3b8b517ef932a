//! How a strategy is named, configured and built.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{ConfigError, Geometry, KvCache, PredictedBytes};

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

    /// The bytes that a cache with this config takes between steps once `sequences` sequences hold `tokens` tokens each,
    /// before it exists. The sequences share no tokens, and none was closed or truncated. Tokens for which the config has no
    /// room do not count. The rows of a step that is not committed do not count either.
    ///
    /// `None` if the strategy does not say, which is the default, or if [`new`](Self::new) refuses the config. It never
    /// panics, whatever the config, the tokens and the sequences; the geometry has passed [`Geometry::check`].
    fn predicted_bytes(config: &Self::Config, geometry: &Geometry, tokens: usize, sequences: usize) -> Option<PredictedBytes> {
        let _ = (config, geometry, tokens, sequences);
        None
    }
}
