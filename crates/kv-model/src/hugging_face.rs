//! Models from a Hugging Face directory: `config.json`, one or several safetensors files, `tokenizer.json`,
//! `generation_config.json`, `tokenizer_config.json`.
//!
//! Checkpoints of Llama, Mistral, Qwen2 and Qwen3 are understood; the directory's small files are handed over as text, and
//! its weights as open files.

mod description;
mod document;
mod edges;
mod end_ids;
mod family;
mod files;
mod generation;
mod hyperparameters;
mod neutral;
mod rope;
mod shards;
mod source;

pub use crate::hugging_face::description::{Description, describe};
use crate::hugging_face::document::Document;
use crate::hugging_face::hyperparameters::Checkpoint;
use crate::hugging_face::shards::Shards;
use crate::hugging_face::source::Source;
use crate::{Decoder, LoadError, LoadOptions, Model, ReadSeek, TextTokenizer, Weights};

/// The contents of a model directory.
#[derive(Default)]
pub struct Directory<'a> {
    /// `config.json`
    pub config: &'a str,
    /// `generation_config.json`, if there is one.
    pub generation_config: Option<&'a str>,
    /// `tokenizer.json`, if there is one; without it, the model runs on ids and refuses text.
    pub tokenizer: Option<&'a str>,
    /// `tokenizer_config.json`, if there is one: only compared with what the tokenizer does.
    pub tokenizer_config: Option<&'a str>,
    /// `model.safetensors.index.json`, if there is one: only the tensors it names are read.
    pub index: Option<&'a str>,
    /// The files that [`weight_files`] names, each with its name. Only what is needed is read.
    pub shards: Vec<(String, Box<dyn ReadSeek + 'a>)>,
}

/// Checks that the model in `config` (`config.json`) can be loaded, as far as it says.
///
/// # Errors
/// [`LoadError`] names the key that is missing or asks for another network.
pub fn check(config: &str) -> Result<(), LoadError> {
    Checkpoint::of(&Document::parse("config.json", config)?).map(drop)
}

/// Checks that greedy text is what a `generation_config.json` asks for.
///
/// # Errors
/// [`LoadError::Key`] names a key that would change it.
pub fn check_generation(generation_config: &str) -> Result<(), LoadError> {
    generation::check(&generation::parse(generation_config)?)
}

/// The files of a directory that hold the weights of the model in `config` (`config.json`): those that `index`
/// (`model.safetensors.index.json`) names, or, without one, `model.safetensors`, the only file, or a whole set of
/// numbered shards. `present` names all of the directory's `.safetensors` files.
///
/// # Errors
/// [`LoadError`] if the config is of a model that cannot be loaded, or names the files that are missing or too many.
pub fn weight_files(config: &str, index: Option<&str>, present: &[String]) -> Result<Vec<String>, LoadError> {
    check(config)?;
    files::choose(index, present)
}

/// Builds the model in a directory.
///
/// # Errors
/// [`LoadError`] names the file, key or tensor that is missing or impossible.
pub fn load(directory: Directory<'_>, options: LoadOptions<'_>) -> Result<Model, LoadError> {
    let config = Document::parse("config.json", directory.config)?;
    let checkpoint = Checkpoint::of(&config)?;
    let generation_config = directory.generation_config.map(generation::parse).transpose()?;
    let ends = end_ids::union([&config].into_iter().chain(&generation_config))?;
    let tokenizer = directory.tokenizer.map_or(Ok(TextTokenizer::missing()), TextTokenizer::from_json)?.ended_by(ends);
    let mut text_notes: Vec<String> = generation_config.as_ref().map(generation::note).transpose()?.flatten().into_iter().collect();
    text_notes.extend(directory.tokenizer_config.map_or(Ok(vec![]), |config| edges::notes(config, &tokenizer))?);
    let mut source = Source::new(&checkpoint, Shards::new(directory.shards), directory.index)?;
    source.check_unnamed()?;
    let weights = Weights::load(&checkpoint.config, &mut source, options)?;
    source.check_unread()?;
    Ok(Model { decoder: Decoder::new(checkpoint.config.clone(), weights), tokenizer, text_notes })
}
