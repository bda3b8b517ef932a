//! `completions`: what a shell needs to complete commands and options.

use std::path::Path;
use std::process::ExitCode;

use clap_complete::Shell;

use super::print;
use crate::{Problem, exit};

/// Prints the completions of a command line for a shell.
///
/// # Errors
/// A [`Problem`] if the standard output cannot be written.
pub(crate) fn completions(mut command: clap::Command, shell: Shell) -> Result<ExitCode, Problem> {
    let mut script = vec![];
    clap_complete::generate(shell, &mut command, program_name(), &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(exit::OK)
}

/// The name under which this program was started: one with strategies of its own has its own.
fn program_name() -> String {
    let started = std::env::args_os().next().unwrap_or_default();
    Path::new(&started).file_name().map_or_else(|| "runner".to_owned(), |name| name.to_string_lossy().into_owned())
}
