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
    /// A text far beyond a window and the model's context: section `stream`.
    Stream,
    /// Drafts that are checked in one step: section `speculative`.
    Speculative,
}

impl Workload {
    /// All of them.
    pub(crate) const ALL: [Workload; 5] = [Workload::Decode, Workload::Generate, Workload::Chat, Workload::Stream, Workload::Speculative];

    /// Its name in configs and results.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Decode => "decode",
            Workload::Generate => "generate",
            Workload::Chat => "chat",
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
            Workload::Stream => "what becomes of time, bytes and perplexity far beyond a window and the model's context",
            Workload::Speculative => "whether drafts that are checked in one step pay, by their length and acceptance",
        }
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
