//! The commands, one a file.

mod check;
mod describe;
mod fetch;
mod generate;
mod list;
mod new;
mod report;
mod roofline;
mod run;
mod schema;
mod trace;

use std::io::Write;

use crate::Problem;

pub(crate) use check::check;
pub(crate) use describe::describe;
pub(crate) use fetch::fetch;
pub(crate) use generate::generate;
pub(crate) use list::list;
pub(crate) use new::new;
pub(crate) use report::report;
pub(crate) use roofline::roofline;
pub(crate) use run::run;
pub(crate) use schema::print_schema;
pub use schema::schema;

/// Prints to the standard output; a reader that has gone away is not an error of ours.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Sets the number of threads for everything that follows.
fn use_threads(threads: Option<usize>) -> Result<(), Problem> {
    if threads == Some(0) {
        return Err(Problem::new("`--threads 0`: at least one thread is needed"));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0));
    pool.build_global().map_err(|error| Problem::new("cannot start the threads").caused_by(error))
}
