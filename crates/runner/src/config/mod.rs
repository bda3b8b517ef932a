//! The config of a sweep: what it may say, and how it is read.

mod file;
mod label;
mod lengths;
mod models;
mod one_or_many;
mod overrides;
mod quality;
mod workload;

use std::ops::Range;

use kv_kernels::WeightFormat;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::workloads::{Chat, Classify, Multimodal, Serve, Speculative, Stream, Summarise};

pub use file::{ConfigFile, load_config, load_configs};
pub(crate) use file::{changed, unknown_field_help};
pub(crate) use label::check_labels;
pub use lengths::Lengths;
pub(crate) use models::OneOf;
pub use one_or_many::OneOrMany;
pub(crate) use overrides::parameters;
pub use quality::Quality;
pub use workload::Workload;

/// A sweep: a model or several, some lengths, and the strategies to compare.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Heading of the report; the config's file name if left out.
    pub title: Option<String>,
    /// The model whose keys and values are cached. Several, in a list `[[model]]`, are run one after the other, each with a report of
    /// its own in a folder with its name, and an overview of all beside them.
    #[serde(rename = "model", deserialize_with = "models::one_or_several")]
    #[schemars(rename = "model", with = "OneOrMany<ModelChoice>")]
    pub models: Vec<Spanned<ModelChoice>>,
    /// What is varied.
    pub sweep: Sweep,
    /// What each cache does to attention and to what the model says. Left out, quality is not measured.
    pub quality: Option<Quality>,
    /// The workload `chat`, if it is among `workloads`.
    #[schemars(with = "Option<Chat>")]
    pub chat: Option<Spanned<Chat>>,
    /// The workload `classify`, if it is among `workloads`.
    #[schemars(with = "Option<Classify>")]
    pub classify: Option<Spanned<Classify>>,
    /// The workload `multimodal`, if it is among `workloads`.
    #[schemars(with = "Option<Multimodal>")]
    pub multimodal: Option<Spanned<Multimodal>>,
    /// The workload `serve`, if it is among `workloads`.
    #[schemars(with = "Option<Serve>")]
    pub serve: Option<Spanned<Serve>>,
    /// The workload `summarise`, if it is among `workloads`.
    #[schemars(with = "Option<Summarise>")]
    pub summarise: Option<Spanned<Summarise>>,
    /// The workload `stream`, if it is among `workloads`.
    #[schemars(with = "Option<Stream>")]
    pub stream: Option<Spanned<Stream>>,
    /// The workload `speculative`, if it is among `workloads`.
    #[schemars(with = "Option<Speculative>")]
    pub speculative: Option<Spanned<Speculative>>,
    /// The strategies, in the order of the legend.
    #[serde(default, rename = "strategy")]
    pub strategies: Vec<Instance>,
}

/// Where the model comes from: exactly one of `preset`, `fetched`, `gguf`, `hugging_face`.
///
/// `gguf` and `hugging_face` hold a path or the name of a model that another program has downloaded. It is a path if one
/// exists there, and a name otherwise. kvlab downloads nothing: a name that is not found is an error with the command
/// that brings the model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelChoice {
    /// How results name it, before what it is. Of several models, it is also the folder of the report; left out, that is the name of the
    /// preset, of what was fetched, or of the file.
    #[serde(skip_serializing)]
    pub name: Option<String>,
    /// A known shape with random weights, or "small", a small trained model that is in the program: `runner list` names them.
    pub preset: Option<String>,
    /// A model that `runner fetch` has brought.
    pub fetched: Option<String>,
    /// A GGUF file: a path, which starts at the config's folder if it is relative; "org/name/file.gguf" or
    /// "org/name@revision/file.gguf" in the Hugging Face cache; or "ollama:name:tag" for an Ollama model.
    pub gguf: Option<String>,
    /// A folder with config.json, safetensors and tokenizer.json: a path, which starts at the config's folder if it is
    /// relative; or "org/name" or "org/name@revision" in the Hugging Face cache.
    pub hugging_face: Option<String>,
    /// With `preset`: run this many layers instead of all. With `level = "attention"`: measure this many, for all of the shape's.
    pub layers: Option<usize>,
    /// With `preset`: seed of the random weights.
    pub seed: Option<u64>,
    /// With `preset`: the encoding of the random weights; f32 if left out.
    pub weights: Option<PresetWeights>,
    /// With `preset`: keep the random weights in the cache folder (`KVLAB_CACHE`, or `kvlab` in the user's), for the next run.
    pub keep_weights: Option<bool>,
}

impl ModelChoice {
    /// Whether it names a model with weights of its own, and not merely a shape.
    pub(crate) fn names_trained_model(&self) -> bool {
        self.preset.as_deref() == Some(kv_model::SMALL) || self.fetched.is_some() || self.gguf.is_some() || self.hugging_face.is_some()
    }
}

/// The encoding of random weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PresetWeights {
    /// Single precision.
    #[default]
    F32,
    /// Half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// 8.5 bits per weight.
    Q8_0,
    /// 4.5 bits per weight.
    Q4_0,
}

impl PresetWeights {
    /// The encoding of the matrices.
    pub fn format(self) -> WeightFormat {
        match self {
            PresetWeights::F32 => WeightFormat::F32,
            PresetWeights::F16 => WeightFormat::F16,
            PresetWeights::Bf16 => WeightFormat::Bf16,
            PresetWeights::Q8_0 => WeightFormat::Q8_0,
            PresetWeights::Q4_0 => WeightFormat::Q4_0,
        }
    }
}

/// What is varied and what each cell does.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// What is run: `model` runs the model with every cache, `attention` the caches alone. If `[model]` names a `preset`, they are
    /// fed rows that are generated for its shape: no weights are drawn, and lengths may exceed the model's context; `layers` is
    /// then how many layers are measured, and times, and bytes that grow with layers, are scaled to all of them; the rows' seed
    /// is `seed`. If it names a model, they are fed the rows that this model computes once for random tokens.
    #[serde(default)]
    pub level: Level,
    /// What a cell does: one workload, or a list.
    #[serde(default = "default_workloads")]
    #[schemars(with = "OneOrMany<Workload>")]
    pub workloads: OneOrMany<Workload>,
    /// Sequence lengths of the workloads `decode` and `generate`: a list, or a range such as "128-4096*2" or "256-1024+256". The
    /// other workloads have sections of their own, and take none.
    #[schemars(with = "Option<Lengths>")]
    pub lengths: Option<Spanned<Lengths>>,
    /// Numbers of sequences that `decode` and `generate` step together: one, or a list. The default is 1.
    #[schemars(with = "Option<OneOrMany<usize>>")]
    pub batch: Option<Spanned<OneOrMany<usize>>>,
    /// Decode steps that are timed at each length in each launch, at least 2. The first of every round is kept in samples.csv
    /// and left out of the medians. Strategies that recompute take 3.
    #[serde(default = "default_decode_steps")]
    #[schemars(with = "usize")]
    pub decode_steps: Spanned<usize>,
    /// Tokens of a prompt that are fed in one step.
    #[serde(default = "default_prefill_chunk")]
    #[schemars(with = "usize")]
    pub prefill_chunk: Spanned<usize>,
    /// Seed of the prompts' random tokens, or of the rows that are generated for caches alone.
    #[serde(default)]
    pub seed: u64,
    /// How a cache comes to hold a prompt: `replay` computes the longest prompt once with an exact cache and replays it into
    /// every cache; `prefill` lets the model compute every prompt with every cache. Caches that recompute are never replayed.
    /// The default is `replay`. Caches alone (`level = "attention"`) are fed with rows, and neither can be chosen.
    #[schemars(with = "Option<FillChoice>")]
    pub fill: Option<Spanned<FillChoice>>,
    /// Whether the time to first token is measured. Of a replayed prompt it is composed: the model's time, recorded once, and
    /// the cache's own time with attention over the whole prompt. The default is `true`, and `false` for caches alone
    /// (`level = "attention"`), where it is the cache's own time.
    pub ttft: Option<bool>,
    /// Times that the instances of a length take turns in a launch, in an order drawn at random: they share `decode_steps`. The
    /// default is 5, more if a turn would have more than 6 steps, and fewer if it would have less than 2.
    #[schemars(with = "Option<usize>")]
    pub rounds: Option<Spanned<usize>>,
    /// Worker processes that time each length, one after the other. Each is a fresh start of everything, and gives one
    /// observation. Below 3 there is no verdict. Where times spread so much that the widest interval exceeds the margin, more are
    /// added, up to twice as many. Strategies that recompute are timed in one.
    #[serde(default = "default_launches")]
    #[schemars(with = "usize")]
    pub launches: Spanned<usize>,
    /// In how many of the launches the time to first token is measured: composing it takes the attention of the whole prompt.
    #[serde(default = "default_ttft_launches")]
    #[schemars(with = "usize")]
    pub ttft_launches: Spanned<usize>,
    /// The share by which times may differ and still be the same: 0.03 is 3 %.
    #[serde(default = "default_margin")]
    #[schemars(with = "f64")]
    pub margin: Spanned<f64>,
    /// The memory pages of buffers of 1 MiB and more, whoever allocates them: `advise` asks for pages of 2 MiB, `never` for
    /// pages of 4 KiB, and `system` leaves it to the system. Bytes are always counted with `never`.
    #[serde(default)]
    pub huge_pages: HugePages,
    /// Seconds in which a check, a prompt or a step must end, or at least say that it goes on. The default is 20 times the
    /// estimate, and no less than 10 minutes.
    #[schemars(with = "Option<u64>")]
    pub timeout_s: Option<Spanned<u64>>,
    /// Memory that a worker process may take, the model's weights included: "8 GiB", for example. The default is 80 % of what
    /// is free when the run starts.
    #[schemars(with = "Option<String>")]
    pub memory_limit: Option<Spanned<String>>,
}

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// A model with its caches.
    #[default]
    Model,
    /// Caches alone, fed with rows: generated for the shape of a preset, recorded from any other model.
    Attention,
}

/// How a cache comes to hold a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FillChoice {
    /// From a recording that serves all strategies, lengths and sequences.
    #[default]
    Replay,
    /// By the model, for every strategy and length again.
    Prefill,
}

/// The memory pages of large buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum HugePages {
    /// Pages of 2 MiB are asked for.
    #[default]
    Advise,
    /// Pages of 4 KiB are asked for.
    Never,
    /// Whatever the system does.
    System,
}

impl HugePages {
    /// What the allocator is told.
    pub(crate) fn buffer_pages(self) -> kv_metrics::BufferPages {
        match self {
            HugePages::Advise => kv_metrics::BufferPages::Huge,
            HugePages::Never => kv_metrics::BufferPages::Small,
            HugePages::System => kv_metrics::BufferPages::System,
        }
    }
}

impl Config {
    /// Where the section of a workload is in the file.
    pub(crate) fn section_span(&self, workload: Workload) -> Option<Range<usize>> {
        match workload {
            Workload::Decode | Workload::Generate => None,
            Workload::Chat => self.chat.as_ref().map(Spanned::span),
            Workload::Classify => self.classify.as_ref().map(Spanned::span),
            Workload::Multimodal => self.multimodal.as_ref().map(Spanned::span),
            Workload::Serve => self.serve.as_ref().map(Spanned::span),
            Workload::Summarise => self.summarise.as_ref().map(Spanned::span),
            Workload::Stream => self.stream.as_ref().map(Spanned::span),
            Workload::Speculative => self.speculative.as_ref().map(Spanned::span),
        }
    }
}

/// A strategy with parameters: one line of the charts.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Its name in the results; unique.
    #[schemars(with = "String")]
    pub label: Spanned<String>,
    /// The strategy's id: `runner list` names them.
    #[serde(rename = "use")]
    #[schemars(with = "String")]
    pub strategy: Spanned<String>,
    /// The strategy's parameters: `runner describe ID` explains them.
    #[serde(default = "empty_table")]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub config: Spanned<toml::Table>,
    /// True marks the instance that the others are compared with; at most one, and none that recomputes. Without a mark it
    /// is contiguous in f16, or else the first that does not recompute. False is the same as leaving it out.
    #[serde(default)]
    #[schemars(with = "bool")]
    pub baseline: Option<Spanned<bool>>,
    /// Leaves out longer cells, for strategies whose cost explodes.
    pub max_length: Option<usize>,
}

fn default_workloads() -> OneOrMany<Workload> {
    OneOrMany(vec![Workload::Decode])
}

fn default_decode_steps() -> Spanned<usize> {
    Spanned::new(0..0, 32)
}

fn default_launches() -> Spanned<usize> {
    Spanned::new(0..0, 8)
}

fn default_ttft_launches() -> Spanned<usize> {
    Spanned::new(0..0, 1)
}

fn default_margin() -> Spanned<f64> {
    Spanned::new(0..0, 0.03)
}

fn default_prefill_chunk() -> Spanned<usize> {
    Spanned::new(0..0, 512)
}

fn empty_table() -> Spanned<toml::Table> {
    Spanned::new(0..0, toml::Table::new())
}
