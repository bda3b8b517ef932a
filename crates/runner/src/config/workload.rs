//! The workloads by their names.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a cell does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// A prompt of the cell's length (time to first token), then steps at that depth (time per output token).
    Decode,
    /// From the first token to the cell's length, one by one: the cumulative picture.
    Generate,
    /// A system prompt that several users share, then turns: section `chat`.
    Chat,
    /// Labels that are scored after the same text: section `classify`.
    Classify,
    /// An image that is asked about several times: section `multimodal`.
    Multimodal,
    /// Requests that join and leave under a memory limit: section `serve`.
    Serve,
    /// The cross-attention of an encoder–decoder model: section `summarise`.
    Summarise,
    /// A text far beyond a window and the model's context: section `stream`.
    Stream,
    /// Drafts that are checked in one step: section `speculative`.
    Speculative,
}

impl Workload {
    /// All of them.
    pub(crate) const ALL: [Workload; 9] = [
        Workload::Decode,
        Workload::Generate,
        Workload::Chat,
        Workload::Classify,
        Workload::Multimodal,
        Workload::Serve,
        Workload::Summarise,
        Workload::Stream,
        Workload::Speculative,
    ];

    /// Its name in configs and results.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Decode => "decode",
            Workload::Generate => "generate",
            Workload::Chat => "chat",
            Workload::Classify => "classify",
            Workload::Multimodal => "multimodal",
            Workload::Serve => "serve",
            Workload::Summarise => "summarise",
            Workload::Stream => "stream",
            Workload::Speculative => "speculative",
        }
    }

    /// What it answers, in a line.
    pub(crate) fn summary(self) -> &'static str {
        match self {
            Workload::Decode => "how fast a step is with so many tokens in the cache, and what they weigh",
            Workload::Generate => "what a text costs that is written from its first token on",
            Workload::Chat => "what a shared system prompt and kept turns save several users",
            Workload::Classify => "what a cache saves where nothing is generated and labels are scored after the same text",
            Workload::Multimodal => "what keeping an image saves that is asked about several times",
            Workload::Serve => "how many requests fit into a memory, and how much of it is wasted",
            Workload::Summarise => "what keeping an encoder's keys and values saves its decoder",
            Workload::Stream => "what becomes of time, bytes and perplexity far beyond a window and the model's context",
            Workload::Speculative => "whether drafts that are checked in one step pay, by their length and acceptance",
        }
    }

    /// Whether its steps decode a token of each sequence of its batch.
    pub(crate) fn decodes_batches(self) -> bool {
        !matches!(self, Workload::Classify | Workload::Multimodal | Workload::Serve | Workload::Summarise)
    }

    /// Whether it is measured at `lengths`, and for each `batch`. The others have a section of their own.
    pub(crate) fn has_lengths(self) -> bool {
        matches!(self, Workload::Decode | Workload::Generate)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
