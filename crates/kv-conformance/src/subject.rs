//! The subject of a check: a strategy with a config.

use kv_core::{Entry, Geometry, KvCache, PredictedBytes, Registry, Strategy};

use crate::heap::Heap;
use crate::watched::{Log, Seen, Watched};
use crate::{CHECKS, Check, Failure, Outcome, Verdict, toy_geometry};

/// A strategy with a config.
#[derive(Debug, Clone)]
pub struct Subject {
    entry: Entry,
    config: toml::Table,
    geometry: Geometry,
    long_run: usize,
    heap: Heap,
    log: Log,
}

/// Tokens that [`long_runs_hold`](crate::long_runs_hold) feeds, unless told otherwise.
pub const LONG_RUN: usize = 2048;

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
        Subject { entry, config, geometry, long_run: LONG_RUN, heap: Heap::Thread, log: Log::default() }
    }

    /// The same, with another number of tokens for [`long_runs_hold`](crate::long_runs_hold).
    #[must_use]
    pub fn with_long_run(self, tokens: usize) -> Subject {
        Subject { long_run: tokens, ..self }
    }

    /// The same, with the heap bytes of the whole process counted and not of one thread: nothing else may run in it.
    #[must_use]
    pub fn alone_in_its_process(self) -> Subject {
        Subject { heap: Heap::Process, ..self }
    }

    /// The small model's geometry.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The strategy.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The config.
    pub(crate) fn config(&self) -> &toml::Table {
        &self.config
    }

    /// Tokens of a long run.
    pub(crate) fn long_run(&self) -> usize {
        self.long_run
    }

    /// Whose heap bytes are counted.
    pub(crate) fn heap(&self) -> Heap {
        self.heap
    }

    /// The bytes that the strategy predicts for a cache for the small model.
    ///
    /// # Errors
    /// A [`Failure`] if the config does not fit.
    pub(crate) fn predicted_bytes(&self, tokens: usize, sequences: usize) -> Result<Option<PredictedBytes>, Failure> {
        Ok(self.entry.predicted_bytes(&self.config, &self.geometry, tokens, sequences)?)
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
        let cache = self.entry.build(&self.config, geometry)?;
        let origin = (self.entry, self.config.clone(), geometry.clone());
        /// The other checks feed fewer tokens, over all sequences.
        const OTHERS: usize = 1 << 14;
        Ok(Box::new(Watched::new(cache, self.log.clone(), origin, OTHERS.max(2 * self.long_run))))
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs: Vec<String> = self.config.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        write!(f, "{} {{ {} }}", self.entry.id(), pairs.join(", "))
    }
}

/// How a check of a subject ended.
#[derive(Debug, Clone)]
pub struct Report {
    /// The check.
    pub check: &'static Check,
    /// What it answered.
    pub outcome: Outcome,
    /// Tokens of the longest sequence that it fed. Longer sequences were not checked.
    pub tokens: usize,
}

/// Runs every check over a subject.
pub fn report(subject: &Subject) -> Vec<Report> {
    let run = |check: &'static Check| {
        let (outcome, tokens) = run(subject, check.run);
        Report { check, outcome, tokens }
    };
    CHECKS.iter().map(run).collect()
}

/// Runs one check. Returns its outcome and the length in tokens of the longest sequence that it fed. A panic is a
/// failure. If the cache has a true limit that is too small for the check, the check is skipped.
pub fn run(subject: &Subject, check: fn(&Subject) -> Outcome) -> (Outcome, usize) {
    subject.log.take();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(subject)));
    let Seen { longest: tokens, untrue_full, full } = subject.log.take();
    let outcome = match (outcome, untrue_full) {
        (Err(panic), _) => {
            let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            let what = format!("the strategy panicked: {}", message.unwrap_or("without a message"));
            Err(Failure::new(what, "return a `CacheError` instead of panicking"))
        }
        (Ok(_), Some(untrue)) => {
            Err(Failure::new(untrue, "return `Full` only when the tokens do not fit, and count what is free in tokens"))
        }
        (Ok(Err(failure)), None) if failure.full => {
            let limit = full.map_or_else(|| "it needs more sequences than this config has room for".to_owned(), |full| full.to_string());
            Ok(Verdict::Skipped(limit))
        }
        (Ok(outcome), None) => outcome,
    };
    (outcome, tokens)
}

/// The assertion of a `#[test]`: panics if the check fails or cannot run, and prints the reason if it is skipped.
#[doc(hidden)]
pub fn assert_passes(subject: &Subject, name: &str, check: fn(&Subject) -> Outcome) {
    let (outcome, tokens) = run(subject, check);
    match outcome {
        Ok(Verdict::Passed) => {}
        Ok(Verdict::Skipped(reason)) => say(&format!("{subject}: {name} does not apply: {reason}")),
        Ok(Verdict::NotRun(reason)) => panic!("{subject}: {name} was NOT RUN: {reason}"),
        Err(failure) => panic!("{subject}: {name}, after at most {tokens} tokens: {failure}"),
    }
}

#[expect(clippy::print_stderr, reason = "a test harness shows what was not tested")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}
