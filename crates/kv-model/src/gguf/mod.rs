//! Models from GGUF files (llama.cpp's format): metadata, tensors and tokenizer in one file.
//!
//! The reader is strict: it trusts no count, length or offset of the file, allocates nothing that the file's
//! own size does not justify, and names the key or tensor it refuses. Format: `gguf.md` of ggml, versions 2
//! and 3, little-endian; tensors in the encodings of [`kv_kernels::WeightFormat`].

mod cursor;
mod head;
mod model;
mod neutral;
mod reader;
mod rope;
mod special;
mod splitting;
mod tensor_type;
mod vocabulary;

pub use model::{describe, load};
pub use reader::{Array, File, TensorInfo, Value};
