//! How close decode attention comes to the machine's memory: its read bandwidth, and what `attend` reaches of it in
//! each format and layout, measured in turns.
//!
//! The caches are those that users run, filled by their strategies with random keys and values; there is no model.
//! Everything that is timed reads more than the last-level cache holds before it comes round again.

mod bandwidth;
mod case;

use kv_core::{Geometry, Registry};
use kv_kernels::KernelPath;
use kv_metrics::quantile;
use serde::Serialize;

use bandwidth::{ReadBuffer, last_level_cache};
pub(crate) use case::CaseError;
use case::{Case, Layout};

use crate::progress::Steps;

/// What is measured.
pub(crate) struct Settings {
    /// Each model's name and shape.
    pub(crate) models: Vec<(String, Geometry)>,
    /// Keys of a sequence.
    pub(crate) tokens: usize,
    /// Times that everything is visited.
    pub(crate) rounds: usize,
}

/// The measurements.
#[derive(Debug, Serialize)]
pub(crate) struct Roofline {
    pub(crate) threads: usize,
    pub(crate) kernel_path: String,
    pub(crate) tokens: usize,
    pub(crate) rounds: usize,
    pub(crate) last_level_cache_bytes: Option<usize>,
    /// Of all threads together, of a buffer that no cache holds.
    pub(crate) read_bandwidth: Spread,
    pub(crate) rows: Vec<Row>,
}

/// A format in a layout.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) model: String,
    pub(crate) format: String,
    pub(crate) layout: String,
    /// Encoded keys and values that one token's attention reads in a layer, scales included.
    pub(crate) layer_bytes: usize,
    /// Encoded bytes read per second.
    pub(crate) bytes_per_second: Spread,
    /// That rate over the read bandwidth of the same round.
    pub(crate) of_bandwidth: Spread,
    /// Time of one token's attention in one layer.
    pub(crate) layer_seconds: Spread,
    /// Tokens per second, over those of the contiguous layout in f32 in the same round.
    pub(crate) tokens_per_second_over_f32: Spread,
    /// Tokens per second, over those of the contiguous layout in the same format in the same round.
    pub(crate) tokens_per_second_over_contiguous: Spread,
}

/// Median and quartiles over the rounds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) lower_quartile: f64,
    pub(crate) upper_quartile: f64,
}

impl Spread {
    fn of(samples: &[f64]) -> Spread {
        let at = |q| quantile(samples, q).unwrap_or(f64::NAN);
        Spread { median: at(0.5), lower_quartile: at(0.25), upper_quartile: at(0.75) }
    }
}

/// Bytes that the caches of one model take at once.
pub(crate) fn bytes_of_all(geometry: &Geometry, tokens: usize) -> usize {
    Case::bytes_of_all(geometry, tokens)
}

/// Measures everything in turns: in each round the bandwidth, then every case of every model.
///
/// # Errors
/// [`CaseError`] if a strategy that comes with kvlab is not registered, or refuses.
pub(crate) fn measure(registry: &Registry, settings: &Settings) -> Result<Roofline, CaseError> {
    let cache = last_level_cache();
    let threads = rayon::current_num_threads();
    let buffer = ReadBuffer::larger_than(cache);
    let mut rows = vec![];
    let mut bandwidths = vec![];
    let steps = Steps::new("roofline", settings.models.len() * settings.rounds);
    for (model, geometry) in &settings.models {
        let mut cases = Case::all(registry, geometry, settings.tokens)?;
        let mut seconds: Vec<Vec<f64>> = vec![vec![]; cases.len()];
        let mut round_bandwidths = vec![];
        for _ in 0..settings.rounds {
            round_bandwidths.push(buffer.read_bytes_per_second());
            for (case, seconds) in cases.iter_mut().zip(&mut seconds) {
                seconds.push(case.attend()?.as_secs_f64());
            }
            steps.advance(model);
        }
        let contiguous = |format: &str| {
            let found = cases.iter().position(|case| case.layout() == Layout::Contiguous && case.format() == format);
            found.expect("every format is measured contiguously")
        };
        for (case, times) in cases.iter().zip(&seconds) {
            let rate: Vec<f64> = times.iter().map(|seconds| case.layer_bytes() as f64 / seconds).collect();
            let over = |others: &[f64]| Spread::of(&times.iter().zip(others).map(|(own, other)| other / own).collect::<Vec<_>>());
            rows.push(Row {
                model: model.clone(),
                format: case.format(),
                layout: case.layout().to_string(),
                layer_bytes: case.layer_bytes(),
                of_bandwidth: Spread::of(&rate.iter().zip(&round_bandwidths).map(|(rate, limit)| rate / limit).collect::<Vec<_>>()),
                bytes_per_second: Spread::of(&rate),
                layer_seconds: Spread::of(times),
                tokens_per_second_over_f32: over(&seconds[contiguous("f32")]),
                tokens_per_second_over_contiguous: over(&seconds[contiguous(&case.format())]),
            });
        }
        bandwidths.extend(round_bandwidths);
    }
    steps.clear();
    Ok(Roofline {
        threads,
        kernel_path: KernelPath::current().to_string(),
        tokens: settings.tokens,
        rounds: settings.rounds,
        last_level_cache_bytes: cache,
        read_bandwidth: Spread::of(&bandwidths),
        rows,
    })
}
