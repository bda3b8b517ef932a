//! Workloads that are scripts of their own: what people use a cache for, beside a prompt and its decode steps. Here is what a
//! config says of each; `worker/scripted` runs them.

mod chat;
mod speculative;
mod stream;
mod tokens;

use schemars::{Schema, schema_for};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::Problem;
use crate::config::{ConfigFile, Level, Workload};

pub use chat::Chat;
pub use speculative::Speculative;
pub(crate) use stream::StreamScript;
pub use stream::{Steps, Stream};
pub(crate) use tokens::{decode_steps, prompt, prompt_len, random_tokens};

/// What a cell of such a workload does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scripted {
    Chat(Chat),
    Stream(StreamScript),
    Speculative(Speculative),
}

/// What a script takes, roughly, for estimates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    /// Tokens that the model computes in chunks.
    pub(crate) prompt_tokens: usize,
    /// Steps of single tokens.
    pub(crate) steps: usize,
    /// Tokens of a sequence in the end.
    pub(crate) depth: usize,
    /// Sequences that are there at once.
    pub(crate) sequences: usize,
}

impl Scripted {
    /// What a config says of a workload, if it is one that is a script of its own, for a model with so many positions.
    ///
    /// # Errors
    /// A [`Problem`] that names the key.
    pub(crate) fn of(workload: Workload, file: &ConfigFile, context: usize) -> Result<Option<Scripted>, Problem> {
        let config = &file.config;
        let wrong = |message: String| {
            let help = format!("`runner describe {workload}` explains its keys");
            file.problem_at(config.section_span(workload), format!("in [{workload}], {message}")).help(help)
        };
        let scripted = match workload {
            Workload::Decode | Workload::Generate => return Ok(None),
            Workload::Chat => Scripted::Chat(section(&config.chat)),
            Workload::Stream => {
                let chunk = *config.sweep.prefill_chunk.get_ref();
                Scripted::Stream(section(&config.stream).of_model(context, chunk).map_err(wrong)?)
            }
            Workload::Speculative => Scripted::Speculative(section(&config.speculative)),
        };
        scripted.check().map_err(wrong)?;
        if config.sweep.level == Level::Attention && scripted.needs_model() {
            let message = format!("the workload `{workload}` asks a model what follows, and `level = \"attention\"` has none at hand");
            return Err(file.problem_at(None, message).help("leave `level` out"));
        }
        Ok(Some(scripted))
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Scripted::Chat(chat) => chat.check(),
            // It was checked when its numbers were put together.
            Scripted::Stream(_) => Ok(()),
            Scripted::Speculative(speculative) => speculative.check(),
        }
    }

    /// Whether a model drives it. The others feed rows of the model's shape.
    pub(crate) fn needs_model(&self) -> bool {
        match self {
            Scripted::Chat(_) | Scripted::Stream(_) | Scripted::Speculative(_) => true,
        }
    }

    /// Tokens of a sequence in the end, and sequences that belong together.
    pub(crate) fn size(&self) -> (usize, usize) {
        match self {
            Scripted::Chat(chat) => (chat.tokens(), chat.users),
            Scripted::Stream(stream) => (stream.tokens, 1),
            Scripted::Speculative(speculative) => (speculative.positions(), 1),
        }
    }

    /// Whether it goes on as far as each cache does: beyond the model's context with those that reach further, and not to its end
    /// with those that are full before.
    pub(crate) fn exceeds_context(&self) -> bool {
        match self {
            Scripted::Chat(_) | Scripted::Speculative(_) => false,
            Scripted::Stream(_) => true,
        }
    }

    /// Tokens that it reads of the text of `[quality]`, if it reads it.
    pub(crate) fn text_tokens(&self) -> Option<usize> {
        match self {
            Scripted::Chat(_) | Scripted::Speculative(_) => None,
            // What follows the last is judged.
            Scripted::Stream(stream) => Some(stream.tokens.saturating_add(1)),
        }
    }

    /// Tokens of its largest step, and positions of a step whose logits are kept.
    pub(crate) fn step_tokens(&self, prefill_chunk: usize) -> (usize, usize) {
        match self {
            Scripted::Chat(_) => (prefill_chunk, 0),
            Scripted::Stream(stream) => (stream.chunk, stream.chunk),
            Scripted::Speculative(speculative) => (prefill_chunk.max(speculative.step_tokens()), speculative.step_tokens()),
        }
    }

    /// What it takes.
    pub(crate) fn load(&self) -> Load {
        match self {
            Scripted::Chat(chat) => chat.load(),
            Scripted::Stream(stream) => stream.load(),
            Scripted::Speculative(speculative) => speculative.load(),
        }
    }
}

/// The JSON Schema of a workload's section, if it has one.
pub(crate) fn schema(workload: Workload) -> Option<Schema> {
    match workload {
        Workload::Decode | Workload::Generate => None,
        Workload::Chat => Some(schema_for!(Chat)),
        Workload::Stream => Some(schema_for!(Stream)),
        Workload::Speculative => Some(schema_for!(Speculative)),
    }
}

/// Sections of workloads that are not run: they would be ignored.
pub(crate) fn unused_section(file: &ConfigFile) -> Option<&'static str> {
    let runs = |workload: Workload| file.config.sweep.workloads.0.contains(&workload);
    let is_unused = |workload: &&Workload| file.table.contains_key(workload.name()) && !runs(**workload);
    Workload::ALL.iter().filter(|workload| !workload.has_lengths()).find(is_unused).map(|workload| workload.name())
}

/// What a config says in a section, or what is usual.
fn section<T: Clone + Default>(section: &Option<Spanned<T>>) -> T {
    section.as_ref().map(|section| section.get_ref().clone()).unwrap_or_default()
}

fn at_least_one(key: &str, value: usize) -> Result<(), String> {
    if value == 0 { Err(format!("`{key}` is 0: it must be at least 1")) } else { Ok(()) }
}
