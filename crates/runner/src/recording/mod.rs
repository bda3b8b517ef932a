//! Recorded prompts: the keys, values and queries that a model computes for a prompt with an exact cache, on disk.
//!
//! Computing a long prompt takes minutes, and every strategy needs the same one. It is computed once, and replayed into
//! each cache. A recording is a folder with two files: `rows.bin` holds `f32` rows, little-endian, and `recording.json`,
//! written last, says what they are.
//!
//! A prompt is computed in steps of `chunk` tokens, and the last step may be shorter. The rows of a short step may differ
//! in the last bit from those of a full one, because sums are taken in another order. So each length that ends within a
//! chunk has its own last step: a recording is a list of [`Segment`]s.

mod reader;
mod recorder;
mod row_writer;
mod segments;
mod store;
#[cfg(test)]
mod tests;

use kv_core::{Geometry, KvCache};
use kv_kernels::KernelPath;
use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::run_record::machine_id;

pub(crate) use reader::{Recording, ReplayError};
pub(crate) use recorder::{record, warm_up, warm_up_decoding};
pub(crate) use row_writer::RowWriter;
pub(crate) use segments::{Segment, segments};
pub(crate) use store::{Kept, Store, StoredRecording, finish, rows_file};

/// Is raised when the same key would give other rows.
const VERSION: u32 = 4;

/// The cache with which prompts of so many tokens are recorded: exact, and in `f32`.
///
/// # Errors
/// A [`Problem`] if it cannot be built for this geometry.
pub(crate) fn exact_cache(geometry: &Geometry, tokens: usize) -> Result<Box<dyn KvCache>, Problem> {
    let registry = crate::builtin();
    // Room for all tokens at once: doubling it would take up to twice as much.
    let growth = toml::Table::from_iter([("reserve".to_owned(), toml::Value::Integer(tokens as i64))]);
    let config = toml::Table::from_iter([("growth".to_owned(), toml::Value::Table(growth))]);
    let built = registry.get("contiguous").map_err(|error| error.to_string());
    let built = built.and_then(|entry| entry.build(&config, geometry).map_err(|error| error.to_string()));
    built.map_err(|error| Problem::new(format!("no cache to record with: {error}")))
}

/// What a recording depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordingKey {
    /// The layout of the files.
    pub(crate) version: u32,
    /// The program that computed it, by a hash of its file.
    pub(crate) program: String,
    /// The model, by its hash.
    pub(crate) model: String,
    /// The prompt.
    pub(crate) tokens: Vec<u32>,
    /// Tokens of a step.
    pub(crate) chunk: usize,
    /// The lengths that can be replayed, ascending; the last is that of the prompt.
    pub(crate) lengths: Vec<usize>,
    /// The instruction set of the kernels.
    pub(crate) kernel_path: String,
    /// Threads: sums of long attentions are split among them.
    pub(crate) threads: usize,
    /// Whether queries are recorded too.
    pub(crate) queries: Queries,
    /// Whether the model's times are taken.
    pub(crate) times: Times,
    /// The machine, if they are: a cache folder may be shared.
    pub(crate) machine: Option<String>,
}

/// Whether the model's time of each step is taken, which takes computing the prompt once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Times {
    Taken,
    LeftOut,
}

/// Whether queries are recorded. Only attention needs them, and they take more room than keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Queries {
    Recorded,
    LeftOut,
}

/// The key of a prompt that this program records.
pub(crate) fn prompt_key(
    model: &str,
    tokens: Vec<u32>,
    chunk: usize,
    lengths: Vec<usize>,
    threads: usize,
    (queries, times): (Queries, Times),
) -> RecordingKey {
    RecordingKey {
        version: VERSION,
        program: crate::build::program_hash(),
        model: model.to_owned(),
        tokens,
        chunk,
        lengths,
        kernel_path: KernelPath::current().to_string(),
        threads,
        queries,
        times,
        machine: if times == Times::Taken { machine_id() } else { None },
    }
}

impl RecordingKey {
    /// A name for the folder.
    pub(crate) fn hash(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        crate::hash::short(&json)
    }
}

/// `recording.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) key: RecordingKey,
    pub(crate) segments: Vec<RecordedSegment>,
}

/// A segment, as it was computed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordedSegment {
    pub(crate) segment: Segment,
    /// Where its rows start in `rows.bin`.
    pub(crate) offset: u64,
    /// The step's time without the cache's, if it was timed.
    pub(crate) model_ms: Option<f64>,
    /// The token that follows its last.
    pub(crate) next_token: u32,
}
