//! Workloads that are scripts of their own: what people use a cache for, beside a prompt and its decode steps. Here is what a
//! config says of each; `worker/scripted` runs them.

mod chat;
mod classify;
mod multimodal;
mod serve;
mod speculative;
mod stream;
mod summarise;
mod tokens;

use std::path::Path;

use kv_core::Geometry;
use kv_model::ModelConfig;
use schemars::{Schema, schema_for};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::Problem;
use crate::config::{ConfigFile, Level, Workload};

pub use chat::Chat;
pub use classify::Classify;
pub use multimodal::Multimodal;
pub(crate) use multimodal::MultimodalScript;
pub use serve::Serve;
#[cfg(test)]
pub(crate) use serve::{LogNormal, RequestLengths};
pub(crate) use serve::{RequestLength, ServeScript};
pub use speculative::Speculative;
pub(crate) use stream::StreamScript;
pub use stream::{Steps, Stream};
pub(crate) use summarise::RECOMPUTED_STEPS;
pub use summarise::{EncoderDecoder, Summarise};
pub(crate) use tokens::{decode_steps, prompt, prompt_len, random_tokens, tokens_of_part};

/// What a cell of such a workload does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scripted {
    Chat(Chat),
    Classify(Classify),
    Multimodal(MultimodalScript),
    Serve(ServeScript),
    Summarise(Summarise),
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
    /// What a config says of a workload, if it is one that is a script of its own, for a model.
    ///
    /// # Errors
    /// A [`Problem`] that names the key.
    pub(crate) fn of(workload: Workload, file: &ConfigFile, model: &ModelConfig) -> Result<Option<Scripted>, Problem> {
        let config = &file.config;
        let wrong = |message: String| {
            let help = format!("`runner describe {workload}` explains its keys");
            file.problem_at(config.section_span(workload), format!("in [{workload}], {message}")).help(help)
        };
        let scripted = match workload {
            Workload::Decode | Workload::Generate => return Ok(None),
            Workload::Chat => Scripted::Chat(section(&config.chat)),
            Workload::Classify => Scripted::Classify(section(&config.classify)),
            Workload::Multimodal => Scripted::Multimodal(section(&config.multimodal).script(file.folder(), model.hidden).map_err(wrong)?),
            Workload::Serve => Scripted::Serve(section(&config.serve).script(file.folder()).map_err(wrong)?),
            Workload::Summarise => Scripted::Summarise(section(&config.summarise)),
            Workload::Stream => {
                let chunk = *config.sweep.prefill_chunk.get_ref();
                Scripted::Stream(section(&config.stream).of_model(model.geometry.context, chunk).map_err(wrong)?)
            }
            Workload::Speculative => Scripted::Speculative(section(&config.speculative)),
        };
        scripted.check().map_err(wrong)?;
        if config.sweep.level == Level::Attention && scripted.needs_model() {
            let message = format!("the workload `{workload}` asks a model what follows, and `level = \"attention\"` has none at hand");
            return Err(file.problem_at(None, message).help("leave `level` out"));
        }
        let choice = file.model().get_ref();
        if config.sweep.level == Level::Attention && (choice.layers.is_some() || choice.names_trained_model()) {
            let message = format!(
                "the workload `{workload}` generates rows for all layers of a shape, whatever `level` is: with `level = \"attention\"`, [model] must not name `layers` or a trained model"
            );
            return Err(file.problem(file.model(), message).help("leave `level` out"));
        }
        Ok(Some(scripted))
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Scripted::Chat(chat) => chat.check(),
            Scripted::Classify(classify) => classify.check(),
            // These were checked when they were put together.
            Scripted::Multimodal(_) | Scripted::Serve(_) | Scripted::Stream(_) => Ok(()),
            Scripted::Summarise(summarise) => summarise.check(),
            Scripted::Speculative(speculative) => speculative.check(),
        }
    }

    /// Whether a model drives it. The others feed rows of a shape.
    pub(crate) fn needs_model(&self) -> bool {
        match self {
            Scripted::Chat(_) | Scripted::Classify(_) | Scripted::Multimodal(_) | Scripted::Stream(_) | Scripted::Speculative(_) => true,
            Scripted::Serve(_) | Scripted::Summarise(_) => false,
        }
    }

    /// Tokens of a sequence in the end, and sequences that belong together.
    pub(crate) fn size(&self) -> (usize, usize) {
        match self {
            Scripted::Chat(chat) => (chat.tokens(), chat.users),
            Scripted::Classify(classify) => (classify.tokens(), classify.labels),
            Scripted::Multimodal(multimodal) => (multimodal.settings.tokens(), multimodal.settings.questions),
            Scripted::Serve(serve) => (serve.max_tokens, serve.requests()),
            Scripted::Summarise(summarise) => (summarise.input(), 1),
            Scripted::Stream(stream) => (stream.tokens, 1),
            Scripted::Speculative(speculative) => (speculative.positions(), 1),
        }
    }

    /// Whether it goes on as far as each cache does: beyond the model's context with those that reach further, and not to its end
    /// with those that are full before.
    pub(crate) fn exceeds_context(&self) -> bool {
        match self {
            Scripted::Chat(_) | Scripted::Classify(_) | Scripted::Multimodal(_) | Scripted::Serve(_) | Scripted::Speculative(_) => false,
            // The shape of the model does not matter to a summary.
            Scripted::Stream(_) | Scripted::Summarise(_) => true,
        }
    }

    /// Tokens that it reads of the text of `[quality]`, if it reads it.
    pub(crate) fn text_tokens(&self) -> Option<usize> {
        match self {
            // What follows the last is judged.
            Scripted::Stream(stream) => Some(stream.tokens.saturating_add(1)),
            _ => None,
        }
    }

    /// Tokens of its largest step, and positions of a step whose logits are kept.
    pub(crate) fn step_tokens(&self, prefill_chunk: usize) -> (usize, usize) {
        match self {
            Scripted::Chat(_) | Scripted::Serve(_) | Scripted::Summarise(_) => (prefill_chunk, 0),
            Scripted::Classify(classify) => (prefill_chunk.max(classify.tokens()), classify.label_tokens),
            Scripted::Multimodal(multimodal) => (prefill_chunk.max(multimodal.settings.prompt()), 0),
            Scripted::Stream(stream) => (stream.chunk, stream.chunk),
            Scripted::Speculative(speculative) => (prefill_chunk.max(speculative.step_tokens()), speculative.step_tokens()),
        }
    }

    /// Where the image lies that it asks about, if a file has it.
    pub(crate) fn image(&self) -> Option<&Path> {
        match self {
            Scripted::Multimodal(multimodal) => multimodal.image.as_ref().map(|image| image.path.as_path()),
            _ => None,
        }
    }

    /// The shape of the caches, with a model of this one.
    pub(crate) fn geometry(&self, model: &Geometry) -> Geometry {
        match self {
            Scripted::Summarise(summarise) => summarise.geometry(model.context),
            _ => model.clone(),
        }
    }

    /// Bytes that its caches take at most, where that does not follow from its size.
    pub(crate) fn cache_bytes(&self) -> Option<u64> {
        match self {
            Scripted::Serve(serve) => Some(serve.memory),
            Scripted::Summarise(summarise) => Some(summarise.cache_bytes()),
            _ => None,
        }
    }

    /// Bytes that it takes beside caches and steps.
    pub(crate) fn bytes_beside(&self) -> u64 {
        match self {
            Scripted::Summarise(summarise) => summarise.bytes_beside(),
            _ => 0,
        }
    }

    /// Multiply-adds that its load does not name.
    pub(crate) fn multiply_adds(&self) -> f64 {
        match self {
            Scripted::Summarise(summarise) => summarise.multiply_adds(),
            _ => 0.0,
        }
    }

    /// What it takes.
    pub(crate) fn load(&self) -> Load {
        match self {
            Scripted::Chat(chat) => chat.load(),
            Scripted::Classify(classify) => classify.load(),
            Scripted::Multimodal(multimodal) => multimodal.load(),
            Scripted::Serve(serve) => serve.load(),
            Scripted::Summarise(_) => Load { prompt_tokens: 0, steps: 0, depth: 0, sequences: 0 },
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
        Workload::Classify => Some(schema_for!(Classify)),
        Workload::Multimodal => Some(schema_for!(Multimodal)),
        Workload::Serve => Some(schema_for!(Serve)),
        Workload::Summarise => Some(schema_for!(Summarise)),
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
