//! What a worker says to the runner.

use std::fmt;

use kv_report::{BuildRecord, Visit};
use serde::{Deserialize, Serialize};

use crate::models::Loaded;
use crate::problem::ProblemRecord;
use crate::roofline::Launch;

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Message {
    /// The worker is there: what it speaks, and how it was built. Whatever else changes, this is understood by other versions.
    Ready {
        protocol: u32,
        #[serde(default)]
        build: Option<BuildRecord>,
    },
    /// A phase begins.
    Phase(Phase),
    /// The phase goes on: `done` of `all` are done.
    Progress { done: usize, all: usize },
    /// The model is loaded.
    Model(Loaded),
    /// What an instance says of itself.
    Probed { id: String, answer: Result<Probed, ProbeFailure> },
    /// A pass over a cell has ended, well or not.
    Visit(Visit),
    /// What a launch of the roofline came to.
    Roofline(Launch),
    /// Everything was done.
    Finished,
    /// The worker cannot do its job at all.
    Refused(ProblemRecord),
}

/// What a worker is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Phase {
    /// The instance in hand, if it is one's.
    pub(crate) id: Option<String>,
    pub(crate) work: Work,
}

/// The kinds of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work {
    /// The model is loaded. This takes as long as it takes, and says nothing.
    Load,
    /// A cache is built.
    Build,
    /// A check of the conformance suite, by its name.
    Check(String),
    /// The prompt is recorded.
    Record,
    /// A cache is filled with its prompt.
    Fill,
    /// Decode steps are timed.
    Decode,
    /// The model computes a prompt that was replayed before.
    RealPrefill,
    /// A workload that is a script of its own is run.
    Script,
    /// Bytes are counted.
    CountBytes,
    /// A cache is followed along a text.
    FollowText,
    /// Attention is compared with dense attention.
    CompareAttention,
    /// Planted needles are looked for.
    FindNeedles,
    /// A text is read after exactly computed prompts.
    ReadAfterPrompt,
    /// A text is read from its first token on.
    Stream,
    /// The model is asked for facts that its prompt states.
    AskForFacts,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Work::Load => "load the model",
            Work::Build => "build",
            Work::Check(name) => name,
            Work::Record => "record",
            Work::Fill => "fill",
            Work::Decode => "decode",
            Work::RealPrefill => "real prefill",
            Work::Script => "run the script",
            Work::CountBytes => "count bytes",
            Work::FollowText => "follow the text",
            Work::CompareAttention => "compare attention",
            Work::FindNeedles => "find planted needles",
            Work::ReadAfterPrompt => "read the text after the prompt",
            Work::Stream => "stream the text",
            Work::AskForFacts => "ask for facts",
        })
    }
}

/// What an instance says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probed {
    pub(crate) recomputes: bool,
    /// For each size asked for: what it predicts, or the least that it says it takes; `None` if it says neither.
    pub(crate) bytes: Vec<Option<u64>>,
    /// Whether `bytes` are a prediction and not merely the least.
    pub(crate) is_predicted: bool,
    /// How many positions a sequence may have; any number if `None`.
    pub(crate) reach: Option<usize>,
    /// For each size asked for: the most tokens of each sequence, if its config makes room for fewer than that.
    pub(crate) room: Vec<Option<usize>>,
}

/// Why an instance does not say what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProbeFailure {
    /// Its parameters are wrong: the user's mistake.
    Config(String),
    /// It panicked: the strategy's mistake.
    Panic(String),
}
