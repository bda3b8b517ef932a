//! The known strategies, by id.

use std::collections::BTreeMap;
use std::fmt;

use crate::{ConfigError, Geometry, KvCache, RegistryError, Strategy, misfit};

/// A set of strategies. It is an ordinary value: a program adds its own strategy with [`with`](Registry::with)
/// and passes the registry on.
#[derive(Clone, Default)]
pub struct Registry {
    entries: BTreeMap<&'static str, Entry>,
}

/// Builds a cache from its parameters.
type Build = fn(&toml::Table, &Geometry) -> Result<Box<dyn KvCache>, ConfigError>;

/// One registered strategy.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    id: &'static str,
    summary: &'static str,
    build: Build,
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
            build: build::<S>,
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

    /// Builds an empty cache from a config table.
    ///
    /// # Errors
    /// [`ConfigError`] names the key and what would be right.
    pub fn build(&self, config: &toml::Table, geometry: &Geometry) -> Result<Box<dyn KvCache>, ConfigError> {
        (self.build)(config, geometry)
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
    geometry.check()?;
    let parse = |error: toml::de::Error| {
        let message = misfit(&schemars::schema_for!(S::Config), config).unwrap_or_else(|| error.message().to_owned());
        ConfigError::Parse { message }
    };
    let parsed: S::Config = config.clone().try_into().map_err(parse)?;
    Ok(Box::new(S::new(parsed, geometry)?))
}
