//! Instruments: a counting allocator for exact heap bytes, and the statistics of timings.
//!
//! It knows nothing of caches, and it decides nothing: what is measured when, and in which pass, is the
//! runner's business. An instrument that disturbs (the allocator counts only while a [`HeapMeter`] lives) is
//! never on while something else is timed. Linking this crate makes its allocator the program's, so that a
//! stranger's program is measured without doing anything.

mod allocator;
mod statistics;

pub use allocator::{HeapMeter, ThreadMeter};
pub use statistics::quantile;
