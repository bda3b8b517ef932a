//! `run.json`: what was planned, with which model and program, and where.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Environment, OriginRecord, PartRecord, ReportError, were};

/// The version of the files of a run: `run.json` and `visits.jsonl`.
pub const SCHEMA_VERSION: u32 = 2;

/// The name of the file, for messages.
const FILE: &str = "run.json";

/// A run: its plan, and what it ran on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// The version of the files of the run.
    #[schemars(extend("const" = SCHEMA_VERSION))]
    pub schema: u32,
    /// Names this run alone.
    pub run_id: String,
    /// The hash of what was planned. Runs with the same hash measure the same cells in the same way, on whatever machine.
    pub plan_hash: String,
    /// The hashed id of the machine. `None` if it has none that can be read.
    pub machine_id: Option<String>,
    /// How far the run came.
    pub state: RunState,
    /// The config's title.
    pub title: String,
    /// When the run started, with its time zone.
    pub started: String,
    /// When it finished, with its time zone. `None` until then.
    pub finished: Option<String>,
    /// The command that runs the same again, quoted for a shell.
    pub command: String,
    /// Warnings that the reader must know before trusting a number.
    pub warnings: Vec<String>,
    /// Seconds of the processes of each kind so far, from start to end. Empty in older results.
    #[serde(default)]
    pub seconds: BTreeMap<String, f64>,
    /// The share by which times may differ and still be the same.
    #[serde(default = "default_margin")]
    pub margin: f64,
    /// The seed of the order in which instances take turns.
    #[serde(default)]
    pub order_seed: u32,
    /// Bytes of memory that a worker process could take.
    pub memory_limit_bytes: u64,
    /// The machine and the program.
    pub environment: Environment,
    /// The build of the program.
    pub build: BuildRecord,
    /// The build that it was compared with, of a run of two.
    #[serde(default)]
    pub against: Option<OtherBuild>,
    /// What was run: a model with its caches, or caches alone.
    #[serde(default)]
    pub level: Level,
    /// The model as it lay in memory. Of caches alone, the shape that they were built for.
    pub model: ModelRecord,
    /// The config as it was run, with overrides applied.
    pub config: serde_json::Value,
    /// The planned cells, in order. Of a part, its own.
    pub cells: Vec<CellRecord>,
    /// Which part of a plan this is. `None` if it is the whole plan.
    #[serde(default)]
    pub part: Option<PartRecord>,
    /// Where blocks were timed that were not timed where `machine_id` and `environment` say: in the parts that this run was
    /// joined from, or before it was resumed on another machine.
    #[serde(default)]
    pub origins: Vec<OriginRecord>,
}

/// The margin of runs that do not say theirs.
pub(crate) fn default_margin() -> f64 {
    0.03
}

/// What was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Level {
    /// A model with its caches. This is all that older results know.
    #[default]
    Model,
    /// Caches alone, fed with rows that no model computes meanwhile.
    Attention {
        /// Where the rows come from.
        #[serde(default)]
        rows: RowsOrigin,
        /// The seed of the rows, or of the prompt whose rows were recorded.
        seed: u64,
        /// Layers of the caches that were measured. The model's shape has as many or more.
        measured_layers: usize,
    },
}

/// Where the rows of caches that are measured alone come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowsOrigin {
    /// A seeded generator. This is all that older results know.
    #[default]
    Generated,
    /// The model computed them before, for a prompt of random tokens.
    Recorded,
}

impl RunRecord {
    /// What one measured layer stands for: layers of the model's shape over layers measured. 1 unless fewer were measured.
    /// Times of steps and bytes that grow with layers are the measured ones times this, in `text.csv` too; `visits.jsonl` and
    /// `samples.csv` have them as they were measured.
    pub fn layer_scale(&self) -> f64 {
        match self.level {
            Level::Attention { measured_layers, .. } if measured_layers > 0 => self.model.geometry.layers as f64 / measured_layers as f64,
            Level::Attention { .. } | Level::Model => 1.0,
        }
    }

    /// How long the processes of each kind took, in words, the longest first. `None` if that was not recorded.
    pub fn times(&self) -> Option<String> {
        let mut times: Vec<(&String, &f64)> = self.seconds.iter().collect();
        times.sort_by(|a, b| b.1.total_cmp(a.1));
        (!times.is_empty()).then(|| times.iter().map(|(kind, seconds)| format!("{kind} {seconds:.0} s")).collect::<Vec<_>>().join(", "))
    }

    /// What a reader must know of all rows of caches that were measured alone: sentences without a stop.
    pub fn of_level(&self) -> Vec<String> {
        let Level::Attention { rows, seed, measured_layers } = self.level else { return vec![] };
        let rows = match rows {
            RowsOrigin::Generated => format!("no model; rows generated with seed {seed}"),
            RowsOrigin::Recorded => {
                format!("caches alone; rows recorded from {} over random tokens of seed {seed}", self.model.name)
            }
        };
        let mut sentences = vec![format!("attention level: {rows}")];
        let (layers, scale) = (self.model.geometry.layers, self.layer_scale());
        if layers != measured_layers {
            let shown = format!("{scale:.2}");
            let scale = shown.trim_end_matches('0').trim_end_matches('.');
            sentences.push(format!(
                "{measured_layers} of {layers} layers {} measured; times and bytes are scaled by {scale}",
                were(measured_layers)
            ));
        }
        sentences
    }
}

/// How far a run came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It has not ended, or it was killed before it could say so.
    Running,
    /// It was stopped before every planned cell was run.
    Interrupted,
    /// Every planned cell was run.
    Finished,
}

/// How the program was built.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildRecord {
    /// kvlab's version.
    pub version: String,
    /// Cargo's profile.
    pub profile: String,
    /// The optimization level.
    pub opt_level: String,
    /// The target triple.
    pub target: String,
    /// The compiler with its version. `None` if it is unknown.
    pub compiler: Option<String>,
    /// The commit. `None` outside a git checkout.
    pub commit: Option<String>,
    /// Whether the sources differed from that commit. `None` if it is unknown.
    pub dirty: Option<bool>,
    /// SHA-256 of the program's file: two builds of one commit can differ. `None` if it is unknown, and in older results.
    #[serde(default)]
    pub program: Option<String>,
}

/// The other build of a run of two.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OtherBuild {
    /// The path of its program, as it was given.
    pub program: String,
    /// The SHA-256 of the program.
    pub hash: String,
    /// How it was built.
    pub build: BuildRecord,
    /// The conditions under which the run fails, as they were given.
    pub fail_on: Option<String>,
}

/// The model: what it is, and what its weights took.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelRecord {
    /// Its name.
    pub name: String,
    /// SHA-256 of its files, or of what a preset is drawn from. `None` if it is unknown.
    pub hash: Option<String>,
    /// Its shape.
    pub geometry: GeometryRecord,
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

/// The shape of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeometryRecord {
    /// Layers.
    pub layers: usize,
    /// Query heads of a layer.
    pub heads: usize,
    /// Heads of keys and values of a layer.
    pub kv_heads: usize,
    /// Numbers in a key of one head.
    pub key_dim: usize,
    /// Numbers in a value of one head.
    pub value_dim: usize,
    /// The most tokens in a sequence.
    pub context: usize,
    /// Tokens that the model knows.
    pub vocabulary: usize,
    /// Numbers in all weights.
    pub parameters: usize,
}

/// An encoding and its share of the matrices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FormatBytes {
    /// The encoding's name.
    pub format: String,
    /// Bytes in it.
    pub bytes: u64,
}

/// A planned cell: a strategy instance at one sequence length, batch and workload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CellRecord {
    /// Names the cell. It does not depend on where the cell runs.
    pub id: String,
    /// The strategy instance's label in the config.
    pub label: String,
    /// The strategy's id.
    pub strategy: String,
    /// The workload's name.
    pub workload: String,
    /// Tokens in each sequence.
    pub seq_len: usize,
    /// Sequences decoded together.
    pub batch: usize,
    /// The comparison block that it was measured in.
    pub block: String,
    /// The id of the cell that it is compared with; its own if it is that one. `None` if it is compared with none, because it
    /// recomputes, and in older results.
    #[serde(default)]
    pub baseline: Option<String>,
}

/// Reads `run.json`.
///
/// # Errors
/// [`ReportError::Schema`] names a schema that this version does not read. [`ReportError::Json`] says what is wrong, with
/// the line and the column.
pub fn read_run(run_json: &[u8]) -> Result<RunRecord, ReportError> {
    require_schema(FILE, run_json, SCHEMA_VERSION)?;
    serde_json::from_slice(run_json).map_err(|source| ReportError::Json { file: FILE, source })
}

/// Refuses a file of another schema before the rest of it is read, which may look quite different.
pub(crate) fn require_schema(file: &'static str, json: &[u8], readable: u32) -> Result<(), ReportError> {
    #[derive(Deserialize)]
    struct Numbered {
        schema: u64,
    }
    let Numbered { schema } = serde_json::from_slice(json).map_err(|source| ReportError::Json { file, source })?;
    if schema == u64::from(readable) { Ok(()) } else { Err(ReportError::Schema { file, found: schema, readable }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn a_run_comes_back() {
        let run = example::run();
        assert_eq!(read_run(&serde_json::to_vec_pretty(&run).unwrap()).unwrap(), run);
        let json = serde_json::to_value(&run).unwrap();
        assert_eq!(json["schema"], 2);
        assert_eq!(json["state"], "finished");
        assert_eq!(json["build"]["dirty"], true);
    }

    /// Runs of earlier versions do not say their level.
    #[test]
    fn a_run_without_a_level_is_one_of_a_model() {
        let mut json = serde_json::to_value(example::run()).unwrap();
        json.as_object_mut().unwrap().remove("level");
        let run = read_run(&serde_json::to_vec(&json).unwrap()).unwrap();
        assert_eq!((run.level, run.layer_scale(), run.of_level()), (Level::Model, 1.0, vec![]));
    }

    #[test]
    fn layers_that_were_measured_stand_for_all() {
        let at = |layers: usize, measured_layers: usize| {
            let mut run = RunRecord { level: Level::Attention { rows: RowsOrigin::Generated, seed: 7, measured_layers }, ..example::run() };
            run.model.geometry.layers = layers;
            assert_eq!(read_run(&serde_json::to_vec(&run).unwrap()).unwrap(), run);
            (run.layer_scale(), run.of_level())
        };
        let (scale, sentences) = at(32, 4);
        assert_eq!(scale, 8.0);
        assert_eq!(
            sentences,
            ["attention level: no model; rows generated with seed 7", "4 of 32 layers were measured; times and bytes are scaled by 8"]
        );
        assert!(at(32, 3).1[1].ends_with("scaled by 10.67"));
        assert_eq!((at(4, 4).0, at(4, 4).1.len()), (1.0, 1));
        assert_eq!(at(4, 0).0, 1.0, "a damaged file");
    }

    #[test]
    fn another_schema_is_refused_by_its_number() {
        for (schema, found) in [("1", 1), ("3", 3), ("4294967298", 4294967298)] {
            let json = format!("{{\"schema\": {schema}, \"shape\": \"unknown\"}}");
            let error = read_run(json.as_bytes()).unwrap_err();
            assert!(matches!(error, ReportError::Schema { file: "run.json", found: number, readable: 2 } if number == found), "{error:?}");
            assert!(error.to_string().contains(&format!("schema {schema}")), "{error}");
        }
        for json in ["{}", "{\"schema\": -1}", "{\"schema\": \"2\"}", "", "[2]", "\u{0}"] {
            assert!(matches!(read_run(json.as_bytes()), Err(ReportError::Json { .. })), "{json}");
        }
    }

    #[test]
    fn no_key_is_ignored() {
        let mut json = serde_json::to_value(example::run()).unwrap();
        for path in
            ["", "/environment", "/environment/facts/0", "/build", "/model", "/model/geometry", "/model/weight_formats/0", "/cells/0"]
        {
            let part = json.pointer_mut(path).unwrap().as_object_mut().unwrap();
            part.insert("surplus".into(), 1.into());
            let error = read_run(&serde_json::to_vec(&json).unwrap()).unwrap_err();
            assert!(std::error::Error::source(&error).unwrap().to_string().contains("surplus"), "{path}: {error:?}");
            json.pointer_mut(path).unwrap().as_object_mut().unwrap().remove("surplus");
        }
    }
}
