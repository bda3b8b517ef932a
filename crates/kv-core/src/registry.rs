//! The known strategies, by id.

use std::collections::BTreeMap;
use std::fmt;

use crate::{ConfigError, Geometry, KvCache, PredictedBytes, RegistryError, Strategy, misfit};

/// A set of strategies. It is an ordinary value: a program adds its own strategy with [`with`](Registry::with)
/// and passes the registry on.
#[derive(Clone, Default)]
pub struct Registry {
    entries: BTreeMap<&'static str, Entry>,
}

/// Builds a cache from its parameters.
type Build = fn(&toml::Table, &Geometry) -> Result<Box<dyn KvCache>, ConfigError>;

/// Predicts the bytes of a cache with these parameters, for a number of tokens and of sequences.
type Predict = fn(&toml::Table, &Geometry, usize, usize) -> Result<Option<PredictedBytes>, ConfigError>;

/// One registered strategy.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    id: &'static str,
    summary: &'static str,
    type_name: &'static str,
    build: Build,
    predict: Predict,
    schema: fn() -> schemars::Schema,
    defaults: fn() -> toml::Table,
}

impl Registry {
    /// A registry without strategies.
    pub fn new() -> Registry {
        Registry::default()
    }

    /// Adds a strategy.
    ///
    /// # Panics
    /// If the id is taken. Two strategies with the same name are a bug in the program, not in its input.
    #[must_use = "`with` returns the larger registry"]
    #[track_caller]
    pub fn with<S: Strategy>(mut self) -> Registry {
        let entry = Entry {
            id: S::ID,
            summary: S::SUMMARY,
            type_name: std::any::type_name::<S>(),
            build: build::<S>,
            predict: predict::<S>,
            schema: || schemars::schema_for!(S::Config),
            defaults: || toml::Table::try_from(S::Config::default()).expect("a config is a TOML table"),
        };
        let taken = self.entries.insert(S::ID, entry);
        assert!(taken.is_none(), "two strategies have the id `{}`", S::ID);
        self
    }

    /// The strategy called `id`.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`] lists the known ids.
    pub fn get(&self, id: &str) -> Result<&Entry, RegistryError> {
        self.entries.get(id).ok_or_else(|| RegistryError::Unknown { id: id.to_owned(), known: self.entries.keys().copied().collect() })
    }

    /// All strategies, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }
}

impl Entry {
    /// The strategy's id.
    pub fn id(&self) -> &'static str {
        self.id
    }

    /// A one-line summary.
    pub fn summary(&self) -> &'static str {
        self.summary
    }

    /// The name of the crate that implements the strategy, as it stands in paths of Rust.
    pub fn crate_name(&self) -> &'static str {
        self.type_name.split("::").next().unwrap_or(self.type_name)
    }

    /// Builds an empty cache from a config table.
    ///
    /// # Errors
    /// [`ConfigError`] names the key and what would be right.
    pub fn build(&self, config: &toml::Table, geometry: &Geometry) -> Result<Box<dyn KvCache>, ConfigError> {
        (self.build)(config, geometry)
    }

    /// The bytes that a cache built from a config table will take, see [`Strategy::predicted_bytes`]. `None` if the strategy
    /// does not say, or if [`build`](Self::build) refuses a value of the config.
    ///
    /// # Errors
    /// [`ConfigError::Geometry`], or [`ConfigError::Parse`] if the table is no config of the strategy.
    pub fn predicted_bytes(
        &self,
        config: &toml::Table,
        geometry: &Geometry,
        tokens: usize,
        sequences: usize,
    ) -> Result<Option<PredictedBytes>, ConfigError> {
        (self.predict)(config, geometry, tokens, sequences)
    }

    /// The JSON Schema of the config.
    pub fn schema(&self) -> schemars::Schema {
        (self.schema)()
    }

    /// The config with every parameter at its default.
    pub fn defaults(&self) -> toml::Table {
        (self.defaults)()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

fn build<S: Strategy>(config: &toml::Table, geometry: &Geometry) -> Result<Box<dyn KvCache>, ConfigError> {
    Ok(Box::new(S::new(parsed::<S>(config, geometry)?, geometry)?))
}

fn predict<S: Strategy>(
    config: &toml::Table,
    geometry: &Geometry,
    tokens: usize,
    sequences: usize,
) -> Result<Option<PredictedBytes>, ConfigError> {
    Ok(S::predicted_bytes(&parsed::<S>(config, geometry)?, geometry, tokens, sequences))
}

/// The config of a strategy, for a geometry that it can rely on.
fn parsed<S: Strategy>(config: &toml::Table, geometry: &Geometry) -> Result<S::Config, ConfigError> {
    geometry.check()?;
    config.clone().try_into().map_err(|error: toml::de::Error| {
        let message = misfit(&schemars::schema_for!(S::Config), config).unwrap_or_else(|| error.message().to_owned());
        ConfigError::Parse { message }
    })
}
