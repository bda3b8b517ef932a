//! What the runner and its worker processes say to each other: one JSON object per line.
//!
//! The runner sends one [`Job`] and then nothing more. Its end of the pipe stays open as long as it lives, and a worker
//! dies when it closes. The worker answers with [`Message`]s; the last one is [`Message::Finished`] or
//! [`Message::Refused`]. A worker that ends without either has died.

use std::path::PathBuf;

use kv_core::Geometry;
use kv_quality::{RecallQuestion, RecallTask};
use serde::{Deserialize, Serialize};

use crate::cli::PagesChoice;
use crate::config::{HugePages, ModelChoice, Workload};
use crate::recording::RecordingKey;
use crate::roofline::RooflineTask;
use crate::workloads::Scripted;

pub(crate) use super::message::{Message, Phase, ProbeFailure, Probed, Work};
pub(crate) use super::scripted_task::{Purpose, ScriptedTask};

/// Is raised with every change. Runner and worker are the same program, unless it was replaced while it ran, or is the other
/// build of `run --against`.
pub(crate) const PROTOCOL: u32 = 10;

/// What a worker is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) protocol: u32,
    pub(crate) kernel_path: String,
    pub(crate) threads: usize,
    /// Bytes of memory that the worker may take.
    pub(crate) memory_limit: Option<u64>,
    /// Bytes that it may reserve beyond the limit without touching them.
    pub(crate) untouched_bytes: u64,
    pub(crate) huge_pages: HugePages,
    pub(crate) task: Task,
}

/// The kinds of workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Task {
    Probe(ProbeTask),
    Gate(GateTask),
    Record(RecordTask),
    Latency(LatencyTask),
    Memory(MemoryTask),
    Scripted(ScriptedTask),
    Attention(AttentionTask),
    Quality(QualityTask),
    Roofline(RooflineTask),
}

impl Task {
    /// Its name in records.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Task::Probe(_) => "probe",
            Task::Gate(_) => "gate",
            Task::Record(_) => "record",
            Task::Latency(_) => "latency",
            Task::Memory(_) => "memory",
            Task::Scripted(_) => "scripts",
            Task::Attention(_) => "attention",
            Task::Quality(_) => "quality",
            Task::Roofline(_) => "roofline",
        }
    }
}

/// A strategy with its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct InstanceSpec {
    /// The id of its cell, or its label where there is no cell.
    pub(crate) id: String,
    pub(crate) strategy: String,
    pub(crate) config: toml::Table,
}

/// A model to load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelSpec {
    pub(crate) source: SourceSpec,
    pub(crate) pages: PagesChoice,
}

impl RowsSpec {
    /// The model that is loaded, to run or to be recorded.
    pub(crate) fn model(&self) -> Option<&ModelSpec> {
        match self {
            RowsSpec::Model(model) | RowsSpec::Recorded { model, .. } => Some(model),
            RowsSpec::Generated { .. } => None,
        }
    }
}

/// What feeds caches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RowsSpec {
    /// A model.
    Model(ModelSpec),
    /// A generator, without a model.
    Generated { geometry: Geometry, seed: u64 },
    /// The recording alone, which this model makes.
    Recorded { geometry: Geometry, model: ModelSpec },
}

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SourceSpec {
    /// Random weights.
    Preset(ModelChoice),
    /// A file, whatever its name is.
    Gguf(PathBuf),
    /// A folder.
    HuggingFace(PathBuf),
}

/// Builds every instance, and answers what it says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProbeTask {
    pub(crate) instances: Vec<InstanceSpec>,
    pub(crate) geometry: Geometry,
    /// Tokens and sequences at which bytes are predicted.
    pub(crate) sizes: Vec<(usize, usize)>,
}

/// Holds one instance against the conformance suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct GateTask {
    pub(crate) instance: InstanceSpec,
    pub(crate) geometry: Geometry,
}

/// Records a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordTask {
    pub(crate) model: ModelSpec,
    pub(crate) key: RecordingKey,
    pub(crate) folder: PathBuf,
}

/// Times the instances of a comparison block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LatencyTask {
    pub(crate) rows: RowsSpec,
    pub(crate) script: ScriptSpec,
    pub(crate) instances: Vec<InstanceSpec>,
    /// The folder of the recording to replay.
    pub(crate) recording: Option<PathBuf>,
    pub(crate) ttft: Ttft,
    /// The instance whose prompt the model also computes, to check the composed time to first token.
    pub(crate) checked: Option<String>,
    pub(crate) launch: u32,
    /// The instance that is timed twice, under the same id: what the two differ by is noise.
    pub(crate) control: Option<String>,
    /// Times that every instance takes its turn.
    pub(crate) rounds: usize,
    /// Seed of the order of turns.
    pub(crate) order_seed: u32,
}

/// What is known of the time to first token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ttft {
    /// It is measured or composed.
    Measured,
    /// It is left out, and replayed prompts are not attended to.
    LeftOut,
}

/// The script of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScriptSpec {
    pub(crate) workload: Workload,
    /// What it does, if it is a script of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scripted: Option<Scripted>,
    pub(crate) seq_len: usize,
    pub(crate) batch: usize,
    pub(crate) decode_steps: usize,
    pub(crate) prefill_chunk: usize,
    pub(crate) seed: u64,
}

/// Counts the bytes of one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MemoryTask {
    pub(crate) instance: InstanceSpec,
    pub(crate) geometry: Geometry,
    pub(crate) script: ScriptSpec,
    /// Tokens of a prompt that are fed in one step: all of them to a cache that recomputes.
    pub(crate) chunk: usize,
    /// The folder of the recording whose rows fill the cache.
    pub(crate) recording: Option<PathBuf>,
    /// Bytes that another sequence may take.
    pub(crate) room_to_fork: u64,
    pub(crate) text: Text,
}

/// Compares the attention of one instance with dense attention, on rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AttentionTask {
    pub(crate) instance: InstanceSpec,
    pub(crate) geometry: Geometry,
    /// Tokens that the cache holds in the end.
    pub(crate) tokens: usize,
    /// Tokens of a step that fills it.
    pub(crate) chunk: usize,
    /// Seed of rows that are generated or planted.
    pub(crate) seed: u64,
    pub(crate) sequences: Sequences,
    /// What an exact cache answers, if it was asked at this length before.
    pub(crate) exact_answers: Option<ExactAnswers>,
}

/// The sequences on which attention is compared, one after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sequences {
    /// The folders of their recordings.
    Recorded(Vec<PathBuf>),
    /// So many, generated.
    Generated(u64),
}

/// The share of planted needles that an exact cache finds, and its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExactAnswers {
    pub(crate) share: f64,
    pub(crate) interval: Option<(f64, f64)>,
}

/// Compares what a model says with one instance and with an exact cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct QualityTask {
    pub(crate) model: ModelSpec,
    pub(crate) instance: InstanceSpec,
    /// Tokens of the prompt.
    pub(crate) seq_len: usize,
    /// Tokens of a step of the prompt.
    pub(crate) prefill_chunk: usize,
    /// Tokens that are judged after it, one by one.
    pub(crate) steps: usize,
    pub(crate) windows: Vec<Window>,
    /// Windows that are read at once.
    pub(crate) together: usize,
    pub(crate) streamed: Option<Streamed>,
    /// What an exact cache differs from itself by, if that was measured at this length before.
    pub(crate) floor: Option<f64>,
    /// Prompts that state facts, with what the model is asked about them.
    pub(crate) recall: Vec<RecallSpec>,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) tokens: Vec<u32>,
    /// The folder of the recording of its beginning.
    pub(crate) recording: PathBuf,
}

/// A prompt that states facts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecallSpec {
    pub(crate) task: RecallTask,
    pub(crate) tokens: Vec<u32>,
    pub(crate) questions: Vec<RecallQuestion>,
    /// The folder of the recording that begins with it.
    pub(crate) recording: PathBuf,
}

/// How much of each window is streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Streamed {
    pub(crate) tokens: usize,
    /// Tokens of a step.
    pub(crate) chunk: usize,
}

/// Whether a cache is also followed along the text, token by token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Text {
    Followed,
    LeftOut,
}

#[cfg(test)]
mod tests {
    use kv_core::Rope;
    use proptest::prelude::*;

    use kv_report::Visit;

    use super::*;
    use crate::models::Loaded;
    use crate::recording::{Queries, Times};

    fn geometry() -> Geometry {
        Geometry {
            layers: 2,
            heads: 4,
            kv_heads: 2,
            key_dim: 64,
            value_dim: 32,
            rope: Rope::from_inverse_frequencies(vec![1.0, 0.25]),
            context: 4096,
        }
    }

    fn instance() -> InstanceSpec {
        InstanceSpec {
            id: "id".into(),
            strategy: "paged".into(),
            config: toml::from_str("block_size = 16\nformat = { keys = 'q8_0' }\nratio = 1.0").unwrap(),
        }
    }

    fn script(seed: u64) -> ScriptSpec {
        ScriptSpec { workload: Workload::Decode, scripted: None, seq_len: 128, batch: 2, decode_steps: 4, prefill_chunk: 64, seed }
    }

    fn model(source: SourceSpec) -> ModelSpec {
        ModelSpec { source, pages: PagesChoice::Large }
    }

    fn key() -> RecordingKey {
        crate::recording::prompt_key("model", vec![1, 2], 64, vec![2], 2, (Queries::Recorded, Times::Taken))
    }

    fn comes_back<T: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug>(value: &T) {
        let line = serde_json::to_string(value).unwrap();
        assert!(!line.contains('\n'), "one line: {line}");
        assert_eq!(&serde_json::from_str::<T>(&line).unwrap(), value);
    }

    #[test]
    fn jobs_come_back() {
        let preset = SourceSpec::Preset(ModelChoice { preset: Some("tiny".into()), ..ModelChoice::default() });
        let latency = |rows: RowsSpec| {
            Task::Latency(LatencyTask {
                rows,
                script: script(u64::MAX),
                instances: vec![instance()],
                recording: Some("/a folder/with 'quotes'".into()),
                ttft: Ttft::LeftOut,
                checked: None,
                launch: 3,
                control: Some("id".into()),
                rounds: 5,
                order_seed: u32::MAX,
            })
        };
        let tasks = [
            Task::Probe(ProbeTask { instances: vec![instance()], geometry: geometry(), sizes: vec![(16, 2)] }),
            Task::Gate(GateTask { instance: instance(), geometry: geometry() }),
            latency(RowsSpec::Model(model(preset))),
            latency(RowsSpec::Generated { geometry: geometry(), seed: u64::MAX }),
            latency(RowsSpec::Recorded { geometry: geometry(), model: model(SourceSpec::HuggingFace("/a folder".into())) }),
            Task::Roofline(RooflineTask {
                models: vec![("tiny".into(), geometry())],
                tokens: 64,
                rounds: 2,
                order_seed: 1,
                huge_pages: HugePages::System,
            }),
            Task::Memory(MemoryTask {
                instance: instance(),
                geometry: geometry(),
                script: script(1),
                chunk: 64,
                recording: Some("/tmp".into()),
                room_to_fork: u64::MAX,
                text: Text::Followed,
            }),
            Task::Attention(AttentionTask {
                instance: instance(),
                geometry: geometry(),
                tokens: 64,
                chunk: 16,
                seed: u64::MAX,
                sequences: Sequences::Recorded(vec!["/a folder".into()]),
                exact_answers: Some(ExactAnswers { share: 1.0, interval: Some((0.75, 1.0)) }),
            }),
            Task::Quality(QualityTask {
                model: model(SourceSpec::Gguf("/a model".into())),
                instance: instance(),
                seq_len: 64,
                prefill_chunk: 16,
                steps: 8,
                windows: vec![Window { tokens: vec![0, u32::MAX], recording: "/tmp".into() }],
                together: 1,
                streamed: Some(Streamed { tokens: 64, chunk: 8 }),
                floor: Some(0.25),
                recall: vec![RecallSpec {
                    task: RecallTask::Lookup,
                    tokens: vec![3, u32::MAX],
                    questions: vec![RecallQuestion { tokens: vec![3, 1], answer: 1, depth: 0 }],
                    recording: "/tmp".into(),
                }],
            }),
            Task::Record(RecordTask { model: model(SourceSpec::Gguf("/a model".into())), key: key(), folder: "/tmp".into() }),
        ];
        for task in tasks {
            comes_back(&Job {
                protocol: PROTOCOL,
                kernel_path: "avx2".into(),
                threads: 2,
                memory_limit: Some(u64::MAX),
                untouched_bytes: 1 << 20,
                huge_pages: HugePages::Advise,
                task,
            });
        }
    }

    proptest! {
        /// Texts from strategies and files may hold anything, and whole numbers come back as they were.
        #[test]
        fn messages_come_back(text in any::<String>(), number in any::<i32>()) {
            let mut visit = Visit::failed("cell", kv_report::Pass::Latency, kv_report::Status::Timeout, &text, &text);
            visit.values.insert("ttft_ms".into(), f64::from(number));
            comes_back(&Message::Visit(visit));
            comes_back(&Message::Phase(Phase { id: Some(text.clone()), work: Work::Check(text.clone()) }));
            comes_back(&Message::Ready { protocol: PROTOCOL, build: Some(kv_report::BuildRecord::default()) });
            comes_back(&Message::Progress { done: 1, all: usize::MAX });
            let loaded = Loaded { bytes: u64::MAX, formats: vec![], pages: text.clone(), seconds: f64::from(number) };
            comes_back(&Message::Model(loaded));
            let probed = Probed { recomputes: true, bytes: vec![None, Some(u64::MAX)], is_predicted: false, reach: Some(4), room: vec![None, Some(3)] };
            comes_back(&Message::Probed { id: text.clone(), answer: Ok(probed) });
            comes_back(&Message::Refused(crate::Problem::new(text.clone()).help(text.clone()).record()));
            comes_back(&Message::Finished);
            comes_back(&Message::Probed { id: text.clone(), answer: Err(ProbeFailure::Config(text)) });
        }
    }
}
