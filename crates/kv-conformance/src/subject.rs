//! What is checked: a strategy with a config.

use kv_core::{Entry, Geometry, KvCache, Registry, Strategy};

use crate::{CHECKS, Failure, Outcome, Verdict, toy_geometry};

/// A strategy with a config.
#[derive(Debug, Clone)]
pub struct Subject {
    entry: Entry,
    config: toml::Table,
}

impl Subject {
    /// The strategy `S` with a config written as TOML, for example `"window = 16"`.
    ///
    /// # Panics
    /// If the text is not TOML.
    pub fn of<S: Strategy>(config: &str) -> Subject {
        let registry = Registry::new().with::<S>();
        let entry = *registry.get(S::ID).expect("it was just registered");
        Subject { entry, config: toml::from_str(config).expect("a config is TOML") }
    }

    /// A registered strategy with a config.
    pub fn new(entry: Entry, config: toml::Table) -> Subject {
        Subject { entry, config }
    }

    /// The strategy.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// A fresh cache for the toy model.
    ///
    /// # Errors
    /// A [`Failure`] if the config does not fit.
    pub fn build(&self) -> Result<Box<dyn KvCache>, Failure> {
        self.build_for(&toy_geometry())
    }

    /// A fresh cache for another geometry.
    ///
    /// # Errors
    /// A [`Failure`] if the config does not fit.
    pub fn build_for(&self, geometry: &Geometry) -> Result<Box<dyn KvCache>, Failure> {
        Ok(self.entry.build(&self.config, geometry)?)
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs: Vec<String> = self.config.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        write!(f, "{} {{ {} }}", self.entry.id(), pairs.join(", "))
    }
}

/// Runs every check over a subject; a panic is a failure of its own.
pub fn report(subject: &Subject) -> Vec<(&'static str, Outcome)> {
    CHECKS.iter().map(|check| (check.name, caught(subject, check.run))).collect()
}

fn caught(subject: &Subject, run: fn(&Subject) -> Outcome) -> Outcome {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(subject)));
    outcome.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let what = format!("the strategy panicked: {}", message.unwrap_or("without a message"));
        Err(Failure::new(what, "refuse with a `CacheError` what can be refused"))
    })
}

/// Whether nothing failed, with the skips written out: what a `#[test]` asserts.
#[doc(hidden)]
pub fn assert_passes(subject: &Subject, name: &str, run: fn(&Subject) -> Outcome) {
    match run(subject) {
        Ok(Verdict::Passed) => {}
        Ok(Verdict::Skipped(reason)) => skipped(&format!("{subject}: {name} does not apply: {reason}")),
        Err(failure) => panic!("{subject}: {name}: {failure}"),
    }
}

#[expect(clippy::print_stderr, reason = "a test harness shows what was not tested")]
fn skipped(line: &str) {
    eprintln!("{line}");
}
