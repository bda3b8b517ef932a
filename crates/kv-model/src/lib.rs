//! A Llama-family decoder (RMSNorm, rotary embedding, grouped-query attention, SwiGLU), and the loaders for its weights:
//! Llama, Mistral without a sliding window, Qwen2, and Qwen3, which also norms queries and keys. The decoder uses caches only
//! through [`kv_core::KvCache`].
//!
//! This crate names no strategy and opens no files: loaders take what the caller opened. Matrices stay in the encoding of
//! their file, and no copy of them in `f32` exists. Keys, values and queries go to the cache as Burn tensors. It is not an
//! inference engine: its purpose is to measure caches.
//!
//! Reading order: [`ModelConfig`] and [`Weights`], [`Decoder`] with its [`Sequence`]s, then the sources of models:
//! [`gguf`], [`hugging_face`] and [`Preset`].
#![forbid(unsafe_code)]

mod activations;
mod config;
mod decoder;
mod error;
mod excerpt;
mod fed;
pub mod gguf;
pub mod hugging_face;
mod preset;
mod random_weights;
mod relatives;
mod rotary;
mod sequence;
mod small;
mod tokenizer;
mod weights;

pub use config::ModelConfig;
pub use decoder::{Decoder, StepInput, argmax};
pub use error::{LoadError, ModelError};
pub use fed::{Fed, Fresh};
pub use preset::Preset;
pub use sequence::Sequence;
pub use small::{HELD_OUT_TEXT, SMALL, SMALL_GGUF};
pub use tokenizer::{TextStream, TextTokenizer, panic_becomes_error};
pub use weights::{LoadOptions, Pages, TensorSource, Weights};

/// A file that is read where it is needed.
pub trait ReadSeek: std::io::Read + std::io::Seek {}

impl<F: std::io::Read + std::io::Seek> ReadSeek for F {}

/// A decoder and its tokenizer.
#[derive(Debug)]
pub struct Model {
    /// The network.
    pub decoder: Decoder,
    /// Text to token ids and back.
    pub tokenizer: TextTokenizer,
    /// Sentences about what the files ask of a text and do not get; nothing a measurement needs.
    pub text_notes: Vec<String>,
}
