//! `roofline`: how much of the machine's read bandwidth decode attention uses.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use kv_core::Geometry;
use kv_kernels::KernelPath;
use kv_model::Preset;
use kv_report::RooflineReport;

use super::{checked_threads, print};
use crate::cli::RooflineArguments;
use crate::config::HugePages;
use crate::environment::{self, Remedy};
use crate::problem::did_you_mean;
use crate::progress::{Steps, say};
use crate::roofline::{Launch, RooflineFolder, RooflineTask, as_table, bytes_beside, bytes_of_all, summarise};
use crate::run_record::{build_record, machine_id, now, quoted};
use crate::screen::printable;
use crate::worker::process::{self, How, OnInterrupt, Program};
use crate::worker::protocol::{Job, Message, PROTOCOL, Task};
use crate::{Problem, exit, free_memory, hash, interrupt};

/// Beyond these the medians do not move.
const MOST_ROUNDS: usize = 10_000;
const MOST_LAUNCHES: u32 = 1000;

pub(crate) fn roofline(arguments: &RooflineArguments, kernel_path: Option<KernelPath>) -> Result<ExitCode, Problem> {
    let RooflineArguments { models, tokens, rounds, launches, huge_pages, seed, threads, out, json } = arguments;
    if *tokens == 0 || !(1..=MOST_ROUNDS).contains(rounds) {
        return Err(Problem::new(format!(
            "`--tokens {tokens} --rounds {rounds}`: there must be at least 1 token, and 1 to {MOST_ROUNDS} rounds"
        )));
    }
    if !(1..=MOST_LAUNCHES).contains(launches) {
        return Err(Problem::new(format!("`--launches {launches}`: there must be 1 to {MOST_LAUNCHES} launches, and 3 for intervals")));
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = models.iter().find(|name| !names.insert(*name)) {
        return Err(Problem::new(format!("`{twice}` is given twice, and a shape is measured once")));
    }
    let models: Vec<(String, Geometry)> = models.iter().map(|name| shape_of(name)).collect::<Result<_, _>>()?;
    for (name, geometry) in &models {
        free_memory::require(
            bytes_of_all(geometry, *tokens).saturating_add(bytes_beside()),
            &format!("{name} with {tokens} tokens in every format and layout"),
        )?;
    }
    let threads = checked_threads(*threads)?;
    let folder = out.as_deref().map(RooflineFolder::open).transpose()?;
    let (started, environment) = (now(), environment::of_run(threads, *huge_pages));
    let warnings = environment::remedies().into_iter().map(|Remedy { finding, advice }| format!("{finding} {advice}")).collect();
    interrupt::handle()?;
    let steps = Steps::new("roofline", *launches as usize * models.len() * rounds);
    let mut measured = vec![];
    for launch in 0..*launches {
        let order_seed = hash::number(format!("roofline {seed} {launch}").as_bytes());
        let task = RooflineTask { models: models.clone(), tokens: *tokens, rounds: *rounds, order_seed, huge_pages: *huge_pages };
        let what = format!("launch {} of {launches}", launch + 1);
        match measure(task, threads, || steps.advance(&what))? {
            Some(launch) => measured.push(launch),
            None => {
                steps.clear();
                return Ok(exit::interrupted());
            }
        }
    }
    steps.clear();
    let roofline = summarise(&measured, *tokens, *rounds, &in_words(*huge_pages), *seed);
    // Whatever happens to the folder, this has been measured.
    print(&if *json { serde_json::to_string_pretty(&roofline).unwrap_or_default() + "\n" } else { as_table(&roofline) })?;
    if let Some(folder) = folder {
        let command = command(arguments, kernel_path);
        let report = RooflineReport { command, started, machine_id: machine_id(), build: build_record(), environment, warnings, roofline };
        let path = format!("report: {}", printable(&folder.finish(&report)?.display().to_string()));
        // Scripts read nothing but JSON.
        if *json { say(&path) } else { print(&format!("\n{path}\n"))? }
    }
    Ok(exit::OK)
}

fn in_words(pages: HugePages) -> String {
    serde_json::to_value(pages).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The command that measures the same again: with the values of the defaults, which may change.
fn command(arguments: &RooflineArguments, kernel_path: Option<KernelPath>) -> String {
    let RooflineArguments { models, tokens, rounds, launches, huge_pages, seed, threads, out, .. } = arguments;
    let options = [
        ("--tokens", Some(tokens.to_string())),
        ("--rounds", Some(rounds.to_string())),
        ("--launches", Some(launches.to_string())),
        ("--seed", Some(seed.to_string())),
        ("--huge-pages", Some(in_words(*huge_pages))),
        ("--threads", threads.map(|threads| threads.to_string())),
        ("--out", out.as_ref().map(|out| out.display().to_string())),
    ];
    let given = |(flag, value): (&str, Option<String>)| value.map(|value| [flag.to_owned(), value]);
    let path = given(("--kernel-path", kernel_path.map(|path| path.to_string())));
    let words = path.into_iter().flatten().chain(["roofline".to_owned()]).chain(models.iter().cloned());
    quoted(words.chain(options.into_iter().filter_map(given).flatten()))
}

/// One launch, in a process of its own. `None` if it was interrupted.
fn measure(task: RooflineTask, threads: usize, mut advance: impl FnMut()) -> Result<Option<Launch>, Problem> {
    /// Filling every cache may take long on a slow machine, and says nothing meanwhile.
    const PATIENCE: Duration = Duration::from_secs(3600);
    let job = Job {
        protocol: PROTOCOL,
        kernel_path: KernelPath::current().to_string(),
        threads,
        memory_limit: None,
        untouched_bytes: 0,
        huge_pages: HugePages::System,
        task: Task::Roofline(task),
    };
    let mut launch = None;
    let ended = process::run(&Program::Own, &job, PATIENCE, OnInterrupt::AtOnce, |message| {
        match message {
            Message::Progress { .. } => advance(),
            Message::Roofline(measured) => launch = Some(measured),
            _ => {}
        }
        Ok(())
    })?;
    match (ended.how, launch) {
        (How::Interrupted, _) => Ok(None),
        (_, Some(launch)) => Ok(Some(launch)),
        (How::Finished, None) => Err(Problem::new("the process that measures answered nothing")),
        (How::Died(_, reason, _), None) => Err(Problem::new(format!("the process that measures died: {reason}"))),
    }
}

/// A preset, with its name.
///
/// # Errors
/// A [`Problem`] that says what was probably meant.
pub(super) fn shape_of(name: &str) -> Result<(String, Geometry), Problem> {
    let preset = Preset::find(name).ok_or_else(|| {
        let known = Preset::ALL.map(|preset| preset.name);
        let help = did_you_mean(name, known).unwrap_or_else(|| format!("known: {}", known.join(", ")));
        Problem::new(format!("unknown model shape `{name}`")).help(help)
    })?;
    Ok((name.to_owned(), preset.config(None).geometry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roofline_command_repeats_what_was_measured() {
        let arguments = RooflineArguments {
            models: vec!["tiny".into()],
            tokens: 256,
            rounds: 3,
            launches: 4,
            seed: 7,
            huge_pages: HugePages::Never,
            threads: Some(2),
            out: Some("a folder".into()),
            json: true,
        };
        let command = command(&arguments, Some(KernelPath::Portable));
        let expected = "--kernel-path portable roofline tiny --tokens 256 --rounds 3 --launches 4 --seed 7 --huge-pages never --threads 2 --out 'a folder'";
        assert!(command.ends_with(expected), "{command}");
    }
}
