//! `import`: another engine's measurements as the CSV that `report --peer` draws.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::print;
use crate::files::write_durably;
use crate::progress::say;
use crate::screen::printable;
use crate::{Problem, exit};

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(
    after_help = "For example:\n  llama-bench -m model.gguf -p 512,4096 -n 32 -d 512,4096 -o jsonl > bench.jsonl\n  runner import llama-bench bench.jsonl --out peers.csv\n  runner report reports/peers --peer peers.csv"
)]
pub(crate) struct ImportArguments {
    /// The program that wrote the file.
    #[arg(value_enum)]
    program: Program,
    /// Its file.
    file: PathBuf,
    /// The CSV to write [default: the standard output].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A program whose measurements can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Program {
    /// llama.cpp's, with `-o json` or `-o jsonl`.
    LlamaBench,
}

pub(crate) fn import(arguments: &ImportArguments) -> Result<ExitCode, Problem> {
    let ImportArguments { program: Program::LlamaBench, file, out } = arguments;
    const HELP: &str =
        "`llama-bench -o json > FILE` or `-o jsonl` writes what can be imported; `-p` times prompts, and `-n` tokens after each of `-d`";
    let unusable = |path: &Path| Problem::new(format!("cannot import `{}`", path.display())).help(HELP);
    let bytes = std::fs::read(file).map_err(|error| unusable(file).caused_by(error))?;
    let imported = kv_report::llama_bench(&bytes).map_err(|error| unusable(file).caused_by(error))?;
    imported.left_out.iter().for_each(|sentence| say(&format!("left out: {sentence}")));
    let csv = kv_report::peers_csv(&imported.peers);
    let Some(out) = out else {
        print(&String::from_utf8_lossy(&csv))?;
        return Ok(exit::OK);
    };
    write_durably(out, &csv).map_err(|error| Problem::new(format!("cannot write `{}`", out.display())).caused_by(error))?;
    print(&format!("{} measurements: {}\n", imported.peers.len(), printable(&out.display().to_string())))?;
    Ok(exit::OK)
}
