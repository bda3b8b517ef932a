//! Measurement: a counting allocator for exact heap bytes, and statistics for timings.
//!
//! This crate knows nothing about caches. The runner decides what is measured, and in which pass. The allocator
//! counts process-wide only while a [`HeapMeter`] exists, so that it does not disturb timings. It counts nothing in a
//! program that does not install it: see [`CountingAllocator`].

mod allocator;
mod statistics;

pub use allocator::{CountingAllocator, HeapMeter, ThreadMeter, counts_allocations};
pub use statistics::quantile;
