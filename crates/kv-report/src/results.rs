//! What a sweep leaves behind.

use serde::{Deserialize, Serialize};

/// A whole sweep, samples apart.
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
    /// What the reader must know before believing a number.
    pub warnings: Vec<String>,
    /// The machine and the build.
    pub environment: Environment,
    /// The config as it was run, overrides applied.
    pub config: serde_json::Value,
    /// One row a cell.
    pub rows: Vec<Row>,
}

/// The machine and the build, in the order in which they are shown.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Environment {
    /// What is known, and why the rest is not.
    pub facts: Vec<Fact>,
}

/// Something known about the environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// Its value; `None` if it could not be read.
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
    /// It was refused or broke; `error` says why.
    Failed,
}

/// One cell: a strategy instance at a length and batch under a workload. [`COLUMNS`](crate::COLUMNS) says
/// what each field means.
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
    /// Which step of the phase.
    pub step: usize,
    /// Tokens in the sequence after the step.
    pub position: usize,
    /// The whole step.
    pub step_ms: f64,
    /// Of it: append, attend and commit, all layers.
    pub cache_ms: f64,
}
