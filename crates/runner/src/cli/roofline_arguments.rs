//! The arguments of `roofline`.

use std::path::PathBuf;

use clap::Args;

use crate::config::HugePages;

/// Arguments of `roofline`.
#[derive(Debug, Args)]
pub(crate) struct RooflineArguments {
    /// Model shapes to measure: presets, as `list` shows them.
    #[arg(default_values = ["smollm2-135m", "llama-3.2-1b"], value_name = "PRESET")]
    pub(crate) models: Vec<String>,
    /// Tokens in the cache.
    #[arg(long, default_value_t = 8192)]
    pub(crate) tokens: usize,
    /// Number of rounds of a launch; each measures everything once, in an order drawn at random.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Number of processes, one after the other; with fewer than 3 there are no intervals, and with few they are wide: differences of some percent take 8 or more.
    #[arg(long, default_value_t = 5)]
    pub(crate) launches: u32,
    /// Seed of the order in which everything takes its turn.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u32,
    /// The memory pages of the caches.
    #[arg(long, value_enum, default_value_t = HugePages::Advise)]
    pub(crate) huge_pages: HugePages,
    /// Threads, at most 4 per CPU [default: one per CPU].
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// Leave a report in this folder: a page with charts, the numbers, and what is needed to trust them.
    ///
    /// index.html has what was found in sentences, the charts and the table, roofline.csv the table in full precision, and roofline.json
    /// what --json prints, with the command, the machine and the build. The charts are PNG and SVG files for light and dark paper:
    /// roofline.png, or roofline-MODEL.png of several models. The folder is created if it does not exist. An earlier report of `roofline`
    /// in it is replaced as a whole when the new one is complete; a folder that holds anything else is refused.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}
