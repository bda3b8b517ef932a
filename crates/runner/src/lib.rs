//! The command line of kvlab: sweeps KV-cache strategies over sequence lengths and writes a report.
//!
//! This is the only crate that reads files, arguments and the environment, and the only one that names the
//! built-in strategies, in [`builtin()`]. A program with its own strategy is one line, and one more to measure memory:
//!
//! ```no_run
//! # mod my_crate { pub type MyCache = kv_naive::Naive; }
//! #[global_allocator]
//! static ALLOCATOR: runner::CountingAllocator = runner::CountingAllocator;
//!
//! fn main() -> std::process::ExitCode {
//!     runner::main(kv_core::Registry::new().with::<my_crate::MyCache>())
//! }
//! ```
//!
//! Use `runner::builtin().with::<…>()` to compare it with the built-in strategies.
#![forbid(unsafe_code)]

mod against;
mod attention_level;
mod block;
mod build;
mod cli;
mod commands;
mod compare;
mod config;
mod drivers;
mod environment;
mod estimate;
mod files;
mod footprint;
mod free_memory;
mod hash;
mod heap_sites;
mod interrupt;
mod invisible;
mod join;
mod ledger_table;
mod models;
mod overview_folder;
mod partition;
mod plan;
mod problem;
mod progress;
mod quality_plan;
mod quality_table;
mod recall_table;
mod recall_texts;
mod recording;
mod resume;
mod roofline;
mod run_folder;
mod run_record;
mod screen;
mod sizes;
mod speed_up_table;
mod summary;
mod sweep;
mod table;
mod text_file;
mod timed;
mod varied;
mod whole_folder;
mod worker;
mod workloads;

use std::process::ExitCode;

/// Some unit tests count bytes.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

pub use cli::main;
pub use commands::schema;
pub use config::{
    Config, ConfigFile, FillChoice, Instance, Lengths, Level, ModelChoice, OneOrMany, Quality, Sweep, Workload, load_config, load_configs,
};
pub use kv_metrics::CountingAllocator;
pub use models::fetched;
pub use plan::{Cell, Plan, plan};
pub use problem::Problem;
pub use quality_plan::QualityPlan;
pub use workloads::{Chat, Classify, EncoderDecoder, Multimodal, Serve, Speculative, Steps, Stream, Summarise};

use kv_core::Registry;

/// The built-in strategies.
pub fn builtin() -> Registry {
    Registry::new()
        .with::<kv_naive::Naive>()
        .with::<kv_contiguous::Contiguous>()
        .with::<kv_paged::Paged>()
        .with::<kv_sliding::Sliding>()
        .with::<kv_quantized::Quantized>()
}

/// The exit codes of all commands.
pub(crate) mod exit {
    use super::ExitCode;

    /// Success.
    pub(crate) const OK: ExitCode = ExitCode::SUCCESS;

    /// The arguments or the config are wrong. Nothing was run.
    pub(crate) fn usage() -> ExitCode {
        ExitCode::from(1)
    }

    /// Some cells failed. The others were measured.
    pub(crate) fn some_failed() -> ExitCode {
        ExitCode::from(2)
    }

    /// A condition of `--fail-on` is violated, or cannot be judged.
    pub(crate) fn condition_violated() -> ExitCode {
        ExitCode::from(3)
    }

    /// Ctrl-C. Results so far are kept.
    pub(crate) fn interrupted() -> ExitCode {
        ExitCode::from(130)
    }
}
