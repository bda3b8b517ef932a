//! Measurement: a counting allocator for exact heap bytes, and statistics with which times are compared.
//!
//! This crate knows nothing about caches. The runner decides what is measured, and in which pass. The allocator
//! counts process-wide only while a [`HeapMeter`] exists, so that it does not disturb timings. It counts nothing in a
//! program that does not install it: see [`CountingAllocator`].

mod allocator;
mod buffers;
mod comparison;
mod statistics;
mod steady;

pub use allocator::{CountingAllocator, HeapMeter, ThreadMeter, counts_allocations};
pub use buffers::{BufferPages, LARGE_BUFFER_BYTES, set_buffer_pages};
pub use comparison::{
    Comparison, Estimate, Judgement, LEAST_LAUNCHES, Pooled, Verdict, geometric_mean, half_width, launch_observation, pool,
};
pub use statistics::quantile;
pub use steady::first_steady_round;
