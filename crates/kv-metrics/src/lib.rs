//! Instruments: a counting allocator for exact heap bytes, and the statistics of timings.
//!
//! It knows nothing of caches, and it decides nothing: what is measured when, and in which pass, is the
//! runner's business. An instrument that disturbs (the allocator counts only while a [`HeapMeter`] lives) is
//! never on while something else is timed. The allocator counts nothing until a program installs it: see
//! [`CountingAllocator`].

mod allocator;
mod statistics;

pub use allocator::{CountingAllocator, HeapMeter, ThreadMeter, counts_allocations};
pub use statistics::quantile;
