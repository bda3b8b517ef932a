//! The commands, one a file.

mod best;
mod calibrate;
mod check;
mod compare;
mod completions;
mod describe;
mod doctor;
mod dry_run;
mod fetch;
mod generate;
mod import;
mod list;
mod man;
mod merge;
mod new;
mod plan;
mod profile;
mod prompt;
mod report;
mod roofline;
mod room;
mod run;
mod run_models;
mod schema;
mod subject;
mod trace;

use std::io::{self, ErrorKind, Write};

use crate::Problem;

pub(crate) use best::{BestArguments, best};
pub(crate) use calibrate::calibrate;
pub(crate) use check::check;
pub(crate) use compare::{CompareArguments, compare};
pub(crate) use completions::completions;
pub(crate) use describe::describe;
pub(crate) use doctor::doctor;
pub(crate) use fetch::fetch;
pub(crate) use generate::generate;
pub(crate) use import::{ImportArguments, import};
pub(crate) use list::list;
pub(crate) use man::man;
pub(crate) use merge::{MergeArguments, merge};
pub(crate) use new::new;
pub(crate) use plan::plan;
pub(crate) use profile::profile;
pub(crate) use report::report;
pub(crate) use roofline::roofline;
pub(crate) use run::run;
pub(crate) use schema::print_schema;
pub use schema::schema;

/// Prints to the standard output.
///
/// # Errors
/// A [`Problem`] if it cannot be written, on a full disk for example. A reader that has gone away is none.
pub(crate) fn print(text: &str) -> Result<(), Problem> {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// What writing to the standard output came to.
///
/// # Errors
/// As [`print`].
pub(crate) fn written(outcome: io::Result<()>) -> Result<(), Problem> {
    match outcome {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Problem::new("cannot write to the standard output").caused_by(error)),
        _ => Ok(()),
    }
}

/// Sets the number of threads for everything that follows.
fn use_threads(threads: Option<usize>) -> Result<(), Problem> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(checked_threads(threads)?);
    pool.build_global().map_err(|error| Problem::new("cannot start the threads").caused_by(error))
}

/// The number of threads asked for, on the command line or in rayon's own `RAYON_NUM_THREADS`; otherwise one per CPU.
fn checked_threads(threads: Option<usize>) -> Result<usize, Problem> {
    /// More only wait for each other, and each takes memory for its stack.
    const MOST_PER_CPU: usize = 4;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let most = MOST_PER_CPU * cpus;
    let from_environment = || std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok().filter(|threads| *threads > 0);
    let name = if threads.is_some() { "`--threads " } else { "`RAYON_NUM_THREADS=" };
    match threads.or_else(from_environment).unwrap_or(cpus) {
        0 => Err(Problem::new("`--threads 0`: at least one thread is needed")),
        threads if threads > most => {
            let message = format!("{name}{threads}`: this machine has {cpus} CPUs, and more than {most} threads would not help");
            Err(Problem::new(message).help(format!("the default is one thread per CPU, {cpus} here")))
        }
        threads => Ok(threads),
    }
}
