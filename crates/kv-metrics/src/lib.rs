//! Measurement: a counting allocator for exact heap bytes, and statistics for timings.
//!
//! This crate knows nothing about caches. The runner decides what is measured, and in which pass. The allocator
//! counts process-wide only while a [`HeapMeter`] exists, so that it does not disturb timings. Linking this crate
//! makes its allocator the program's allocator, so that a third-party program is measured without extra code.

mod allocator;
mod statistics;

pub use allocator::{HeapMeter, ThreadMeter};
pub use statistics::quantile;
