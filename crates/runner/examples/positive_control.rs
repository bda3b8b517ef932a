//! The runner with a strategy that is 5 % slower on purpose: does a run find it?
//!
//! ```text
//! cargo run -p runner --example positive_control -- tests/simulation/positive-control.toml --unchecked
//! ```
//!
//! By how much is decided when it is built, so two builds can be told apart as well (`tests/simulation/against`).

use std::ops::Range;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kv_contiguous::Contiguous;
use kv_core::{CacheError, ConfigError, Geometry, KvCache, PredictedBytes, SeqId, Strategy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: runner::CountingAllocator = runner::CountingAllocator;

fn main() -> ExitCode {
    runner::main(runner::builtin().with::<Slower>())
}

/// A contiguous cache that waits at the end of every step for a share of the time that the step took.
#[derive(Debug)]
struct Slower {
    inner: Contiguous,
    share: f64,
    began: Instant,
}

/// Parameters.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    /// The share by which a step is slower; by default what `SLOWER_PERCENT` said when this was built, or else 5 %.
    share: f64,
    /// The cache that is slowed down.
    contiguous: <Contiguous as Strategy>::Config,
}

impl Default for Parameters {
    fn default() -> Parameters {
        let percent = option_env!("SLOWER_PERCENT").and_then(|percent| percent.parse().ok()).unwrap_or(5.0);
        Parameters { share: percent / 100.0, contiguous: Default::default() }
    }
}

impl Strategy for Slower {
    const ID: &'static str = "slower";
    const SUMMARY: &'static str = "contiguous, slower on purpose";
    type Config = Parameters;

    fn new(config: Parameters, geometry: &Geometry) -> Result<Slower, ConfigError> {
        Ok(Slower { inner: Contiguous::new(config.contiguous, geometry)?, share: config.share, began: Instant::now() })
    }

    fn predicted_bytes(config: &Parameters, geometry: &Geometry, tokens: usize, sequences: usize) -> Option<PredictedBytes> {
        Contiguous::predicted_bytes(&config.contiguous, geometry, tokens, sequences)
    }
}

#[deny(clippy::missing_trait_methods)]
impl KvCache for Slower {
    kv_core::forward!(inner: open close seen append attend read prompt_end fork truncate view usage);
    kv_core::forward!(inner: least_bytes guarantee reach recomputes);

    fn begin(&mut self, seq: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError> {
        self.began = Instant::now();
        self.inner.begin(seq, fresh)
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        let wait: Duration = self.began.elapsed().mul_f64(self.share);
        let waits = Instant::now();
        // A thread that sleeps wakes up late.
        while waits.elapsed() < wait {
            std::hint::spin_loop();
        }
        self.inner.commit(seq)
    }
}
