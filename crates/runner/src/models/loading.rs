//! Loading a model: progress while it takes long, and what it took.

use std::time::{Duration, Instant};

use kv_model::{LoadOptions, Model, Pages};
use kv_report::FormatBytes;
use serde::{Deserialize, Serialize};

use super::ModelSource;
use crate::Problem;
use crate::progress::LongTask;

/// How a model lies in memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Loaded {
    /// Bytes of all matrices.
    pub(crate) bytes: u64,
    /// Their encodings, the one with the most bytes first.
    pub(crate) formats: Vec<FormatBytes>,
    /// Their memory pages, in words.
    pub(crate) pages: String,
    /// From opening the file, or drawing the first random weight, to a model that can run.
    pub(crate) seconds: f64,
}

/// Loads a model and answers what the results say about it.
///
/// # Errors
/// A [`Problem`] that names the file and the key or tensor.
pub(crate) fn load(source: &ModelSource, pages: Pages) -> Result<(Model, Loaded), Problem> {
    /// Quicker loading needs no progress.
    const QUIET: Duration = Duration::from_secs(1);
    let started = Instant::now();
    let mut task = LongTask::new("loading", QUIET);
    let mut progress = |done: usize, all: usize| task.report(done as u64, all as u64);
    let loaded = source.load(LoadOptions { pages, progress: Some(&mut progress) });
    task.clear();
    let model = loaded?;
    let seconds = started.elapsed().as_secs_f64();
    let weights = model.decoder.weights();
    let formats = weights.formats().into_iter().map(|(format, bytes)| FormatBytes { format: format.to_string(), bytes: bytes as u64 });
    let loaded = Loaded { bytes: weights.bytes() as u64, formats: formats.collect(), pages: pages_in_force(weights.pages()), seconds };
    Ok((model, loaded))
}

/// What was asked of the system and, on Linux, what it gave: the large pages of the whole process, nearly all of which are
/// the weights'.
fn pages_in_force(asked: &str) -> String {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let kilobytes = rollup.lines().find_map(|line| line.strip_prefix("AnonHugePages:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    match kilobytes {
        Some(kilobytes) => format!("{asked}; {:.1} MB of the process are on large pages", kilobytes * 1024.0 / 1e6),
        None => asked.to_owned(),
    }
}
