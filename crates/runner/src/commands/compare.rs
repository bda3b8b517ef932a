//! `compare`: a run beside an earlier one.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use kv_report::{Comparison, comparison_html};

use super::print;
use super::report::stored;
use crate::files::write_durably;
use crate::screen::printable;
use crate::table::Format;
use crate::{Problem, against, compare as comparing, exit};

/// Arguments of `compare`.
#[derive(Debug, Args)]
#[command(
    after_help = "For example, in a pull request:\n  runner compare reports/main reports/branch --fail-on 'slower>5%,bytes>1%' --format markdown --out comment.md"
)]
pub(crate) struct CompareArguments {
    /// The folder of the earlier run, finished or not.
    a: PathBuf,
    /// The folder of the later run, finished or not.
    b: PathBuf,
    /// Exit with 3 if B is worse than A by more than this, for example 'slower>5%,bytes>1%,kld>0.001'.
    ///
    /// A cell is slower if its time per output token grew, over how the baseline's changed, and the lower end of the interval
    /// lies above the threshold. `bytes` is the live heap, and `kld` the mean KL divergence in nats; they are compared as they
    /// are. A cell that was measured in A and fails in B violates any condition, and so does one that cannot be judged, other than
    /// what recomputes, which has no baseline beside it.
    ///
    /// A cell whose interval reaches above the threshold without lying above it violates nothing, and is told. One that is gone, or
    /// that has the value on one side only, violates the condition.
    #[arg(long, value_name = "CONDITIONS")]
    fail_on: Option<String>,
    /// How the comparison is written.
    #[arg(long, value_enum, default_value_t = ComparisonFormat::Plain)]
    format: ComparisonFormat,
    /// Write it to this file, and what was found to the standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// How a comparison is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ComparisonFormat {
    /// Tables for a terminal.
    Plain,
    /// Markdown, for a pull request.
    Markdown,
    /// A page that works offline.
    Html,
}

pub(crate) fn compare(arguments: &CompareArguments) -> Result<ExitCode, Problem> {
    let CompareArguments { a, b, fail_on, format, out } = arguments;
    let conditions = fail_on.as_deref().map(against::conditions).transpose()?;
    let comparison = comparing::between_runs(&stored(a)?, &stored(b)?)?;
    let comparison = match &conditions {
        Some(conditions) => comparison.judged(conditions),
        None => comparison,
    };
    let written = written(&comparison, *format)?;
    match out {
        None => print(&written)?,
        Some(path) => {
            let shown = path.display();
            write_durably(path, written.as_bytes()).map_err(|error| Problem::new(format!("cannot write `{shown}`")).caused_by(error))?;
            let found =
                comparison.violations.iter().chain(&comparison.sentences()).map(|sentence| printable(sentence) + "\n").collect::<String>();
            print(&format!("{found}\ncomparison: {}\n", printable(&shown.to_string())))?;
        }
    }
    Ok(if comparison.violations.is_empty() { exit::OK } else { exit::condition_violated() })
}

fn written(comparison: &Comparison, format: ComparisonFormat) -> Result<String, Problem> {
    const TITLE: &str = "Two runs compared";
    match format {
        ComparisonFormat::Plain => Ok(comparing::text(TITLE, comparison, Format::Plain)),
        ComparisonFormat::Markdown => Ok(comparing::text(TITLE, comparison, Format::Markdown)),
        ComparisonFormat::Html => {
            comparison_html(TITLE, comparison).map_err(|error| Problem::new("cannot write the page").caused_by(error))
        }
    }
}
