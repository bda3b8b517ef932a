//! Storage formats and attention kernels for key-value caches in host memory: slices in, slices out.
//!
//! It is not a cache: it knows *blocks in a format* and how to attend over them, and leaves *which*
//! tokens lie in which block to the strategies. It knows no tensors, no layers of a model and no files.
//!
//! Reading order: [`Format`] says how rows are encoded, [`KvBlock`] is a run of tokens in a format,
//! [`KvRing`] a bounded run that overwrites its oldest tokens, [`attend()`] the attention over any list
//! of such runs, and [`mod@reference`] the same attention written plainly, against which it is tested.
//! [`KernelPath`] is the instruction set that all of it runs on.

// Dot products of bytes are so far only written for x86-64; elsewhere what they are for is compiled and never run.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

mod attend;
mod block;
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
pub mod reference;
mod ring;
mod rotate;
mod rows;
mod schedule;
mod scores;
mod softmax;
mod tile;

pub use attend::{Attention, HeadShape, Mask, Part, Run, attend, probability_sums};
pub use block::{BlockBytes, KvBlock, RowShape};
pub use format::{Format, FormatError};
pub use formats::Formats;
pub use path::{KernelPath, PathError};
pub use ring::KvRing;
pub use rotate::rotate_row;

/// Whether this crate was compiled with debug assertions: what they cost would be in every timing.
pub const HAS_DEBUG_ASSERTIONS: bool = cfg!(debug_assertions);
