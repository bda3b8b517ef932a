//! `doctor`: what is known of the machine and the build, and what to do before trusting timings.

use std::process::ExitCode;

use super::print;
use crate::environment::{self, Remedy};
use crate::screen::printable;
use crate::{Problem, exit};

pub(crate) fn doctor() -> Result<ExitCode, Problem> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let facts = environment::read(threads).facts;
    let width = facts.iter().map(|fact| fact.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for fact in &facts {
        let unknown = || format!("unknown: {}", fact.reason.as_deref().unwrap_or("no reason"));
        text.push_str(&format!("{:<width$}  {}\n", fact.name, printable(&fact.value.clone().unwrap_or_else(unknown))));
    }
    let remedies = environment::remedies();
    text.push_str(if remedies.is_empty() { "\nNothing speaks against trusting timings.\n" } else { "\nBefore trusting timings:\n" });
    for Remedy { finding, advice } in remedies {
        text.push_str(&format!("- {finding} {advice}\n"));
    }
    text.push_str("`runner calibrate` states the smallest difference that this machine can show.\n");
    print(&text)?;
    Ok(exit::OK)
}
