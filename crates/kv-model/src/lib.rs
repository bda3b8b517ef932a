//! A Llama-family decoder in Burn (RMSNorm, rotary embedding, grouped-query attention, SwiGLU) that knows
//! only [`kv_core::KvCache`], and the loaders that fill it.
//!
//! It names no strategy and reads no files: loaders take bytes. It is not a fast inference engine: weights
//! are `f32` and the point is to measure caches around it.
//!
//! Reading order: [`ModelConfig`] and [`Weights`], [`Decoder`] with its [`Sequence`]s, then where models come
//! from: [`gguf`], [`hugging_face`], [`Preset`].
#![forbid(unsafe_code)]

mod config;
mod decoder;
mod error;
mod excerpt;
pub mod gguf;
pub mod hugging_face;
mod preset;
mod rotary;
mod sequence;
mod tokenizer;
mod weights;

pub use config::ModelConfig;
pub use decoder::{Decoder, StepInput, argmax};
pub use error::{LoadError, ModelError};
pub use preset::Preset;
pub use sequence::Sequence;
pub use tokenizer::{TextStream, TextTokenizer};
pub use weights::{Layer, Projection, TensorSource, Weights};

/// A decoder with the tokenizer that belongs to it.
#[derive(Debug)]
pub struct Model {
    /// The network.
    pub decoder: Decoder,
    /// Text to token ids and back.
    pub tokenizer: TextTokenizer,
}
