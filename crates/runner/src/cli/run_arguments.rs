//! The arguments of `run`.

use std::path::PathBuf;

use clap::Args;

use super::PagesChoice;
use crate::partition::Partition;
use crate::table::Format;

/// Arguments of `run`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArguments {
    /// The config, for example bench-configs/quickstart.toml.
    pub(crate) config: PathBuf,
    /// Folder for the report; it is created if it does not exist [default: reports/<config name>].
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Run only this one of several models, and draw the overview of all again.
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Run only the strategies whose label matches this glob, for example 'paged*'.
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Option<String>,
    /// Add a strategy, with its default parameters, to those of the config; may be repeated.
    #[arg(long, value_name = "ID")]
    pub(crate) also: Vec<String>,
    /// Replace a value of the config; may be repeated, and a later one replaces an earlier one.
    ///
    /// The key is a path in the config. A strategy is named by its label, with or without TOML's quotes:
    ///
    ///   --set sweep.decode_steps=4
    ///   --set 'strategy.paged q8_0.config.block_size=64'
    ///   --set 'strategy."paged q8_0".config.block_size=64'
    #[arg(verbatim_doc_comment)]
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Measure one part of the plan, for example 3/8: the third of eight. `merge` joins the parts.
    ///
    /// Every comparison block belongs to one part, on whatever machine this runs: by the hash of the plan and by what the blocks
    /// cost by formulas. `memory_limit` in [sweep] says what fits together, and must be given. With --dry-run, all parts are
    /// printed with their time and memory.
    #[arg(long, value_name = "PART/PARTS")]
    pub(crate) partition: Option<Partition>,
    /// Print the blocks with an estimate of their time and memory, and measure nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Seed for the random tokens of the prompts [default: the config's].
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Threads for kernels and matrix products, at most 4 per CPU [default: one per CPU].
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// The memory pages of the weights.
    #[arg(long, value_enum, default_value_t = PagesChoice::Large)]
    pub(crate) pages: PagesChoice,
    /// Time the strategies without running the conformance suite on them first; the report says so.
    #[arg(long)]
    pub(crate) unchecked: bool,
    /// Go on with a run that was interrupted or killed; refused if the plan has changed since.
    ///
    /// A part (--partition) also goes on on another machine, begins if it has not begun, and is left alone if it is finished: a
    /// scheduler may queue its task again at any time.
    #[arg(long, conflicts_with = "overwrite")]
    pub(crate) resume: bool,
    /// Begin again where an unfinished run is in the way; what it measured is lost.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Keep the recorded prompt in the cache folder after the run; a later run of the same prompt uses it.
    #[arg(long)]
    pub(crate) keep_recordings: bool,
    /// Also write light.html: the page with pictures instead of the charts' library, for mail.
    #[arg(long)]
    pub(crate) light: bool,
    /// Another build of this program: its workers take turns with this one's, and the two are compared.
    ///
    /// Everything is measured with both builds, launch by launch, so the run takes twice as long. The rows of the report are
    /// this build's. Both must speak the same protocol between runner and workers.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) against: Option<PathBuf>,
    /// Exit with 3 if this build is worse than the other one by more than this, for example 'slower>5%,bytes>1%,kld>0.001'.
    ///
    /// A cell is slower if the lower end of the interval of its time per output token lies above the threshold. A condition that
    /// cannot be judged is violated.
    ///
    /// A cell whose interval reaches above the threshold without lying above it violates nothing, and is told. One that is gone, or
    /// that has the value on one side only, violates the condition.
    #[arg(long, value_name = "CONDITIONS", requires = "against")]
    pub(crate) fail_on: Option<String>,
    /// How the table at the end is written.
    #[arg(long, value_enum, default_value_t = Format::Plain)]
    pub(crate) format: Format,
}
