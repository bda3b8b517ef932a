//! Loading a model: progress while it takes long, and what it took.

use std::time::{Duration, Instant};

use kv_model::{LoadOptions, Model, Pages};
use kv_report::{FormatBytes, ModelRecord};

use super::ModelSource;
use crate::Problem;
use crate::progress::LongTask;

/// Loads a model and answers what the results say about it.
///
/// # Errors
/// A [`Problem`] that names the file and the key or tensor.
pub(crate) fn load(source: &ModelSource, pages: Pages) -> Result<(Model, ModelRecord), Problem> {
    /// Quicker loading needs no progress.
    const QUIET: Duration = Duration::from_secs(1);
    let started = Instant::now();
    let mut task = LongTask::new("loading", QUIET);
    let mut progress = |done: usize, all: usize| task.report(done as u64, all as u64);
    let loaded = source.load(LoadOptions { pages, progress: Some(&mut progress) });
    task.clear();
    let model = loaded?;
    let load_seconds = started.elapsed().as_secs_f64();
    let weights = model.decoder.weights();
    let record = ModelRecord {
        model_bytes: weights.bytes() as u64,
        weight_formats: weights
            .formats()
            .iter()
            .map(|(format, bytes)| FormatBytes { format: format.to_string(), bytes: *bytes as u64 })
            .collect(),
        weight_pages: pages_in_force(weights.pages()),
        load_seconds,
    };
    Ok((model, record))
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
