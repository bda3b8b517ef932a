//! Storage formats and attention kernels for KV caches in host memory, and the product of encoded weights with
//! activations. The API takes and returns slices.
//!
//! This crate is not a cache. It implements *blocks in a format* and attention over them. The strategies decide
//! *which* tokens are in which block. It knows no tensors, no model layers and no files.
//!
//! Reading order: [`Format`] defines how rows are encoded. [`KvBlock`] is a run of tokens in a format, and
//! [`KvRing`] a bounded run that overwrites its oldest tokens. [`attend()`] is attention over any list of such
//! runs, and [`mod@reference`] the plain implementation that it is tested against. [`multiply()`] is the product of encoded
//! weights, and [`awake()`] keeps threads awake during a step. [`KernelPath`] is the instruction set that the kernels use.

// Integer dot products exist only for x86-64 so far. On other architectures, the code around them is dead.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

mod attend;
mod awake;
mod block;
mod block_bytes;
mod channel_scores;
mod codec;
mod column_sums;
mod exponential;
mod factors;
mod format;
mod formats;
mod group_heads;
mod integer_channel_scores;
mod integer_products;
mod integer_scores;
mod key_block;
mod lanes;
#[cfg(test)]
mod noise;
mod path;
mod products;
mod queries;
mod read_bytes;
pub mod reference;
mod ring;
mod rotate;
mod rows;
mod run;
mod schedule;
mod scores;
mod softmax;
mod tile;
mod weights;

pub use attend::{Attention, HeadShape, Mask, Part, attend, probability_sums};
pub use awake::awake;
pub use block::{KvBlock, RowShape};
pub use block_bytes::BlockBytes;
pub use format::{Format, FormatError};
pub use formats::Formats;
pub use path::{KernelPath, PathError};
pub use read_bytes::read_bytes;
pub use ring::KvRing;
pub use rotate::rotate_row;
pub use run::{PageTable, Run};
pub use weights::{Matrix, Product, WeightFormat, multiply};

/// Whether this crate was compiled with debug assertions: what they cost would be in every timing.
pub const HAS_DEBUG_ASSERTIONS: bool = cfg!(debug_assertions);
