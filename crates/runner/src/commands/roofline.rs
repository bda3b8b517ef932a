//! `roofline`: how much of the machine's read bandwidth decode attention uses.

use std::process::ExitCode;
use std::time::Duration;

use kv_core::Geometry;
use kv_kernels::KernelPath;
use kv_model::Preset;

use super::{checked_threads, print};
use crate::cli::RooflineArguments;
use crate::config::HugePages;
use crate::problem::did_you_mean;
use crate::progress::Steps;
use crate::roofline::{Launch, RooflineTask, as_table, bytes_beside, bytes_of_all, summarise};
use crate::worker::process::{self, How, OnInterrupt, Program};
use crate::worker::protocol::{Job, Message, PROTOCOL, Task};
use crate::{Problem, exit, free_memory, hash, interrupt};

/// Beyond these the medians do not move.
const MOST_ROUNDS: usize = 10_000;
const MOST_LAUNCHES: u32 = 1000;

pub(crate) fn roofline(arguments: &RooflineArguments) -> Result<ExitCode, Problem> {
    let RooflineArguments { models, tokens, rounds, launches, huge_pages, seed, threads, json } = arguments;
    if *tokens == 0 || !(1..=MOST_ROUNDS).contains(rounds) {
        return Err(Problem::new(format!(
            "`--tokens {tokens} --rounds {rounds}`: there must be at least 1 token, and 1 to {MOST_ROUNDS} rounds"
        )));
    }
    if !(1..=MOST_LAUNCHES).contains(launches) {
        return Err(Problem::new(format!("`--launches {launches}`: there must be 1 to {MOST_LAUNCHES} launches, and 3 for intervals")));
    }
    let models: Vec<(String, Geometry)> = models.iter().map(|name| shape_of(name)).collect::<Result<_, _>>()?;
    for (name, geometry) in &models {
        free_memory::require(
            bytes_of_all(geometry, *tokens).saturating_add(bytes_beside()),
            &format!("{name} with {tokens} tokens in every format and layout"),
        )?;
    }
    let threads = checked_threads(*threads)?;
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
    let pages = serde_json::to_value(huge_pages).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    let result = summarise(&measured, *tokens, *rounds, &pages, *seed);
    let text = if *json { serde_json::to_string_pretty(&result).unwrap_or_default() + "\n" } else { as_table(&result) };
    print(&text)?;
    Ok(exit::OK)
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
