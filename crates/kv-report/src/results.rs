//! The results of a sweep.

use serde::{Deserialize, Serialize};

/// A whole sweep, without the samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Version of this layout.
    pub schema: u32,
    /// The config's title.
    pub title: String,
    /// When the sweep started, with its time zone.
    pub started: String,
    /// The command that reproduces it.
    pub command: String,
    /// Whether every planned cell was run.
    pub complete: bool,
    /// Warnings that the reader must know before trusting a number.
    pub warnings: Vec<String>,
    /// The machine and the build.
    pub environment: Environment,
    /// The model as it lay in memory; missing in results of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRecord>,
    /// The config as it was run, with overrides applied.
    pub config: serde_json::Value,
    /// One row per cell.
    pub rows: Vec<Row>,
}

/// What a model's weights took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Bytes of all matrices, in the encoding of their file. They lie outside the heap.
    pub model_bytes: u64,
    /// The encodings of the matrices, the one with the most bytes first.
    pub weight_formats: Vec<FormatBytes>,
    /// The memory pages of the matrices, in words.
    pub weight_pages: String,
    /// Seconds from opening the file, or drawing the first random weight, to a model that can run; writing weights that are
    /// kept for the next run included.
    pub load_seconds: f64,
}

impl ModelRecord {
    /// What a reader wants to know of it: names and values.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        let formats = self.weight_formats.iter().map(|part| format!("{} {}", part.format, mb(part.bytes))).collect::<Vec<_>>();
        vec![
            ("weights in memory", format!("{}, outside the heap ({})", mb(self.model_bytes), formats.join(", "))),
            ("pages of the weights", self.weight_pages.clone()),
            ("time to load the model", format!("{:.2} s", self.load_seconds)),
        ]
    }
}

/// An encoding and its share of the matrices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormatBytes {
    /// The encoding's name.
    pub format: String,
    /// Bytes in it.
    pub bytes: u64,
}

/// Facts about the machine and the build, in display order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Environment {
    /// The facts. An unknown one has a reason instead of a value.
    pub facts: Vec<Fact>,
}

/// A fact about the environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// The name.
    pub name: String,
    /// The value. `None` if it could not be read.
    pub value: Option<String>,
    /// Why there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How a cell ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It was measured.
    #[default]
    Ok,
    /// It was refused or it failed. `error` says why.
    Failed,
}

/// One cell: a strategy instance at one sequence length, batch and workload. [`COLUMNS`](crate::COLUMNS)
/// documents each field.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are documented in `COLUMNS`, where the report shows them")]
pub struct Row {
    pub label: String,
    pub strategy: String,
    pub model: String,
    pub workload: String,
    pub seq_len: usize,
    pub batch: usize,
    pub status: Status,
    pub error: Option<String>,
    pub guarantee: Option<String>,
    pub ttft_ms: Option<f64>,
    pub tpot_ms_p50: Option<f64>,
    pub tpot_ms_p95: Option<f64>,
    pub cache_ms_p50: Option<f64>,
    #[serde(default)]
    pub seam_ms_p50: Option<f64>,
    pub model_ms_p50: Option<f64>,
    pub tokens_per_s: Option<f64>,
    pub total_ms: Option<f64>,
    pub payload_bytes: Option<usize>,
    pub metadata_bytes: Option<usize>,
    pub slack_bytes: Option<usize>,
    pub reserved_bytes: Option<usize>,
    pub scratch_peak_bytes: Option<usize>,
    pub heap_live_bytes: Option<i64>,
    pub heap_peak_bytes: Option<i64>,
    pub bytes_per_token: Option<f64>,
    pub seen_tokens: Option<usize>,
    pub resident_tokens: Option<usize>,
    #[serde(default)]
    pub model_bytes: Option<usize>,
}

/// One timed step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The strategy instance.
    pub label: String,
    /// The workload.
    pub workload: String,
    /// The cell's sequence length.
    pub seq_len: usize,
    /// The cell's batch.
    pub batch: usize,
    /// "prefill" or "decode".
    pub phase: String,
    /// Index of the step within the phase.
    pub step: usize,
    /// Whether the step is left out of medians and percentiles. The first decode step of a cell is: it is nearly always the slowest.
    #[serde(default)]
    pub warm_up: bool,
    /// Tokens in the sequence after the step.
    pub position: usize,
    /// Time of the whole step, in milliseconds.
    pub step_ms: f64,
    /// Time of begin, append, attend, commit and the end of the prompt over all layers, in milliseconds.
    pub cache_ms: f64,
    /// Time to copy each sequence's rows out of the batch for the cache, in milliseconds. The rest of the step is the model.
    #[serde(default)]
    pub seam_ms: f64,
}
