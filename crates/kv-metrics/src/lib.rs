//! Measurement: a counting allocator for exact heap bytes and for heap profiles, the process's memory, and statistics with which
//! times are compared.
//!
//! This crate knows nothing about caches. The runner decides what is measured, and in which pass. The allocator
//! counts process-wide only while a [`HeapMeter`] exists, so that it does not disturb timings, and hands over to
//! dhat only while a [`HeapProfile`] exists. It does neither in a program that does not install it: see
//! [`CountingAllocator`].

mod allocator;
mod book;
mod buffers;
mod comparison;
mod ledger;
mod process_memory;
mod profile;
mod statistics;
mod steady;

pub use allocator::{AllocatorMode, CountingAllocator, HeapMeter, ThreadMeter, allocator_mode, counts_allocations};
pub use buffers::{BufferPages, LARGE_BUFFER_BYTES, set_buffer_pages};
pub use comparison::{
    Comparison, Estimate, Judgement, LEAST_LAUNCHES, Pooled, Verdict, geometric_mean, half_width, launch_observation, pool,
};
pub use ledger::{heap_margin, resident_margin};
pub use process_memory::{ProcessMemory, begin_resident_peak, give_back_free_memory, map_large_buffers_alone};
pub use profile::HeapProfile;
pub use statistics::{quantile, straight_line, student_quantile};
pub use steady::first_steady_round;
