//! The contract between a decoder and a key-value cache strategy, and what both sides need to keep it.
//!
//! It is not a cache and not a model: it holds the traits, the geometry, the errors, the bookkeeping of
//! sequences and steps that every strategy shares, and the reference attention they are tested against.
//!
//! One cache object serves all layers and all sequences of one model. A step is
//!
//! ```
//! # use kv_core::{CacheError, Geometry, KvCache, SeqId, Tensor};
//! # fn step(cache: &mut dyn KvCache, seq: SeqId, geometry: &Geometry, rows: impl Fn(usize, usize, usize) -> Tensor<3>) -> Result<(), CacheError> {
//! let seen = cache.seen(seq)?;
//! let run = cache.begin(seq, seen..seen + 1)?; // which positions must the model run?
//! for layer in 0..geometry.layers {
//!     let keys = rows(run.len(), geometry.kv_heads, geometry.key_dim); // rotated, at absolute positions
//!     let values = rows(run.len(), geometry.kv_heads, geometry.value_dim);
//!     let queries = rows(run.len(), geometry.heads, geometry.key_dim);
//!     cache.append(seq, layer, keys, values)?;
//!     let _out = cache.attend(seq, layer, queries)?;
//! }
//! cache.commit(seq)?; // the step is over: evict, seal and quantise now, never earlier
//! # Ok(())
//! # }
//! ```
//!
//! Reading order: [`Geometry`], [`KvCache`], [`CacheError`], [`Usage`], [`Guarantee`], then [`Strategy`] and
//! [`Registry`] for how a cache is named, configured and built, and [`Sequences`] for the bookkeeping, or
//! [`HeldRows`] if a strategy's point is which tokens are kept and not how they lie.
#![forbid(unsafe_code)]

mod cache;
mod error;
mod geometry;
mod guarantee;
mod held_rows;
mod misfit;
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
pub use registry::{Entry, Registry};
pub use rope::Rope;
pub use rows::{Rows, device};
pub use sequences::{Fresh, Sequences, Step};
pub use strategy::Strategy;
pub use usage::Usage;
