//! The subject of a check: a strategy with a config.

use kv_core::{CacheError, Entry, Geometry, KvCache, Registry, Strategy};

use crate::{CHECKS, Check, Failure, Outcome, Verdict, toy_geometry};

/// A strategy with a config.
#[derive(Debug, Clone)]
pub struct Subject {
    entry: Entry,
    config: toml::Table,
    geometry: Geometry,
}

impl Subject {
    /// The strategy `S` with a config in TOML, for example `"window = 16"`.
    ///
    /// # Panics
    /// If the text is not TOML.
    pub fn of<S: Strategy>(config: &str) -> Subject {
        let registry = Registry::new().with::<S>();
        let entry = *registry.get(S::ID).expect("it was just registered");
        Subject::new(entry, toml::from_str(config).expect("a config is TOML"), toy_geometry())
    }

    /// A registered strategy with a config, checked on a small model with this geometry.
    pub fn new(entry: Entry, config: toml::Table, geometry: Geometry) -> Subject {
        Subject { entry, config, geometry }
    }

    /// The small model's geometry.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The strategy.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// A fresh cache for the small model.
    ///
    /// # Errors
    /// A [`Failure`] if the config does not fit.
    pub fn build(&self) -> Result<Box<dyn KvCache>, Failure> {
        self.build_for(&self.geometry)
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

/// Runs every check over a subject.
pub fn report(subject: &Subject) -> Vec<(&'static Check, Outcome)> {
    CHECKS.iter().map(|check| (check, run(subject, check.run))).collect()
}

/// Runs one check. A panic is a failure. If the cache has a true limit that is too small for the check, it is skipped.
pub fn run(subject: &Subject, check: fn(&Subject) -> Outcome) -> Outcome {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(subject)));
    match outcome {
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            let what = format!("the strategy panicked: {}", message.unwrap_or("without a message"));
            Err(Failure::new(what, "return a `CacheError` instead of panicking"))
        }
        Ok(Err(failure)) if failure.full => match room(subject) {
            Some(tokens) => Ok(Verdict::Skipped(format!("the check needs more than {tokens} tokens, the limit of this config"))),
            None => Err(failure),
        },
        Ok(outcome) => outcome,
    }
}

/// Tokens that fit into a fresh cache, if they are too few for some check and yet some.
fn room(subject: &Subject) -> Option<usize> {
    const ENOUGH: usize = 1000;
    let mut cache = subject.build().ok()?;
    let seq = cache.open().ok()?;
    match cache.begin(seq, 0..ENOUGH) {
        Err(CacheError::Full { free, .. }) => Some(free).filter(|free| *free > 0),
        _ => None,
    }
}

/// The assertion of a `#[test]`: panics if the check fails, and prints the reason if it is skipped.
#[doc(hidden)]
pub fn assert_passes(subject: &Subject, name: &str, check: fn(&Subject) -> Outcome) {
    match run(subject, check) {
        Ok(Verdict::Passed) => {}
        Ok(Verdict::Skipped(reason)) => skipped(&format!("{subject}: {name} does not apply: {reason}")),
        Err(failure) => panic!("{subject}: {name}: {failure}"),
    }
}

#[expect(clippy::print_stderr, reason = "a test harness shows what was not tested")]
fn skipped(line: &str) {
    eprintln!("{line}");
}
