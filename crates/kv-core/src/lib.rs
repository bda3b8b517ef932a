//! The contract between a decoder and a KV-cache strategy, and what both sides need to implement it.
//!
//! This crate contains no cache and no model. It has the traits, the geometry, the errors, the bookkeeping of
//! sequences and steps that all strategies share, and the reference attention that they are tested against.
//!
//! One cache object serves all layers and all sequences of one model. This is a step:
//!
//! ```
//! # use kv_core::{CacheError, Geometry, KvCache, SeqId, Tensor};
//! # fn step(cache: &mut dyn KvCache, seq: SeqId, geometry: &Geometry, rows: impl Fn(usize, usize, usize) -> Tensor<3>) -> Result<(), CacheError> {
//! let seen = cache.seen(seq)?;
//! let run = cache.begin(seq, seen..seen + 1)?; // which positions must the model run?
//! for layer in 0..geometry.layers {
//!     let keys = rows(run.len(), geometry.kv_heads, geometry.key_dim); // rotated to their absolute positions
//!     let values = rows(run.len(), geometry.kv_heads, geometry.value_dim);
//!     let queries = rows(run.len(), geometry.heads, geometry.key_dim);
//!     cache.append(seq, layer, keys, values)?;
//!     let _out = cache.attend(seq, layer, queries)?;
//! }
//! cache.commit(seq)?; // eviction, sealing and quantization happen here, never earlier
//! # Ok(())
//! # }
//! ```
//!
//! Rows that were committed can also be read without a step ([`KvCache::read`]), as cross-attention does.
//!
//! Reading order: [`Geometry`], [`KvCache`], [`CacheError`], [`Usage`], [`Guarantee`]. Then [`Strategy`] and
//! [`Registry`], which name, configure and build a cache. Then [`Sequences`] for the bookkeeping, or
//! [`HeldRows`] for strategies that differ only in which tokens they keep, and [`forward!`] for what wraps a cache.
#![forbid(unsafe_code)]

mod cache;
mod error;
mod forward;
mod geometry;
mod guarantee;
mod held_rows;
mod misfit;
mod predicted_bytes;
pub mod reference;
mod registry;
mod rope;
mod rows;
mod sequences;
mod strategy;
mod usage;

pub use burn::Tensor;
pub use cache::{KvCache, SeqId, View};
pub use error::{CacheError, ConfigError, RegistryError};
pub use geometry::{Geometry, GeometryError};
pub use guarantee::{ErrorBound, Guarantee};
pub use held_rows::HeldRows;
pub use misfit::misfit;
pub use predicted_bytes::PredictedBytes;
pub use registry::{Entry, Registry};
pub use rope::Rope;
pub use rows::{Rows, device};
pub use sequences::{Fresh, Sequences, Step};
pub use strategy::Strategy;
pub use usage::Usage;
