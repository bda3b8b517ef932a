//! Models from a Hugging Face directory: `config.json`, one or several safetensors files, `tokenizer.json`,
//! `generation_config.json`.
//!
//! Llama-style and Qwen2-style checkpoints are understood; the directory's files are handed over as bytes.

mod document;
mod files;
mod hyperparameters;
mod neutral;
mod rope;
mod source;

use serde::Deserialize;

use crate::end_ids::{self, EndIds};
use crate::hugging_face::document::Document;
use crate::hugging_face::hyperparameters::Checkpoint;
use crate::hugging_face::source::Source;
use crate::{Decoder, LoadError, Model, TextTokenizer, Weights};

/// The contents of a model directory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Directory<'a> {
    /// `config.json`
    pub config: &'a str,
    /// `generation_config.json`, if there is one.
    pub generation_config: Option<&'a str>,
    /// `tokenizer.json`, if there is one; without it, the model runs on ids and refuses text.
    pub tokenizer: Option<&'a str>,
    /// `model.safetensors.index.json`, if there is one: only the tensors it names are read.
    pub index: Option<&'a str>,
    /// The files that [`weight_files`] names, each with its name.
    pub shards: &'a [(String, Vec<u8>)],
}

/// The part of `config.json` that a tokenizer needs.
#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default)]
    eos_token_id: EndIds,
}

/// The files of a directory that hold the weights of the model in `config` (`config.json`): those that `index`
/// (`model.safetensors.index.json`) names, or, without one, `model.safetensors`, the only file, or a whole set of
/// numbered shards. `present` names all of the directory's `.safetensors` files.
///
/// # Errors
/// [`LoadError`] if the config is of a model that cannot be loaded, or names the files that are missing or too many.
pub fn weight_files(config: &str, index: Option<&str>, present: &[String]) -> Result<Vec<String>, LoadError> {
    Checkpoint::of(&Document::parse("config.json", config)?)?;
    files::choose(index, present)
}

/// Builds the model in a directory.
///
/// # Errors
/// [`LoadError`] names the file, key or tensor that is missing or impossible.
pub fn load(directory: Directory<'_>) -> Result<Model, LoadError> {
    let checkpoint = Checkpoint::of(&Document::parse("config.json", directory.config)?)?;
    let parsed: Config =
        serde_json::from_str(directory.config).map_err(|error| LoadError::File { format: "config.json", reason: error.to_string() })?;
    let ends = end_ids::union(&parsed.eos_token_id, directory.generation_config)?;
    let tokenizer = directory.tokenizer.map_or(Ok(TextTokenizer::missing()), TextTokenizer::from_json)?.ended_by(ends);
    let mut source = Source::new(&checkpoint, directory.shards, directory.index)?;
    let weights = Weights::load(&checkpoint.config, &mut source)?;
    source.check_unread()?;
    Ok(Model { decoder: Decoder::new(checkpoint.config.clone(), weights), tokenizer })
}
