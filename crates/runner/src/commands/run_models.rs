//! `run` of a config with several models: one run after the other, and an overview of all.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kv_core::Registry;
use kv_kernels::KernelPath;
use kv_report::counted;

use super::print;
use super::run::{Ran, check_config, run_file, unfinished};
use crate::cli::RunArguments;
use crate::config::{ConfigFile, OneOf};
use crate::overview_folder::{self, Entry, Models, OverviewFolder, State};
use crate::partition::Partition;
use crate::problem::did_you_mean;
use crate::progress::{human, say, tell};
use crate::run_folder::{RunFolder, Unfinished, unfinished_folder};
use crate::screen::printable;
use crate::speed_up_table::speed_up_table;
use crate::table::Format;
use crate::{Problem, build, exit, hash, run_folder, run_record};

/// A model and the file that is read for it.
struct Turn<'a> {
    file: &'a ConfigFile,
    one: &'a OneOf,
    /// What to do with an unfinished run of it.
    unfinished: Unfinished,
}

/// Runs every model of a config, or the one that `--model` names. A model that cannot be loaded does not keep the others from running.
///
/// # Errors
/// A [`Problem`] if the config or the arguments are wrong, or the folder cannot be used: nothing was run then. Several models have
/// no part of a plan in common.
pub(super) fn run_models(
    registry: &Registry,
    files: &[ConfigFile],
    arguments: &RunArguments,
    kernel_path: Option<KernelPath>,
) -> Result<ExitCode, Problem> {
    let all: Vec<(&ConfigFile, &OneOf)> = files.iter().filter_map(|file| Some((file, file.one_of()?))).collect();
    let chosen = chosen(&all, arguments.model.as_deref())?;
    if let Some(partition) = arguments.partition {
        return run_part(registry, &chosen, partition, arguments, kernel_path);
    }
    for (file, _) in &chosen {
        check_config(registry, file, arguments)?;
    }
    if arguments.dry_run {
        return dry_run(registry, &chosen, arguments, kernel_path);
    }
    let out = out(files, arguments);
    let entries = all.iter().map(|(file, one)| entry(file, one, arguments)).collect();
    let now = Models::new(title(files), entries);
    let (models, turns) = plan_turns(&out, now, &chosen, arguments)?;
    let mut folder = OverviewFolder::open(&out, models)?;
    // A folder that cannot be written, or that somebody else writes to, is noticed before anything is run.
    let usable = turns.iter().try_for_each(|turn| RunFolder::open(&out.join(&turn.one.name), turn.unfinished).map(drop));
    if let Err(problem) = usable {
        folder.discard_if_empty();
        return Err(problem);
    }
    folder.save()?;
    let (mut problems, mut some_failed, mut is_violated, mut was_interrupted) = (0, false, false, false);
    for Turn { file, one, unfinished } in &turns {
        heading(one, arguments.format)?;
        let of_model = RunArguments {
            model: Some(one.name.clone()),
            out: Some(out.clone()),
            resume: *unfinished == Unfinished::Resume,
            overwrite: *unfinished == Unfinished::Overwrite,
            ..arguments.clone()
        };
        match run_file(registry, file, &of_model, kernel_path, None).map(Ran::code) {
            Ok(code) if code == exit::interrupted() => was_interrupted = true,
            Ok(code) => {
                is_violated |= code == exit::condition_violated();
                some_failed |= code != exit::OK;
                folder.set(&one.name, State::Finished)?;
                overview_folder::draw(&out, &overview_folder::overview(&out, &folder.models)?)?;
            }
            Err(problem) => {
                folder.set(&one.name, State::Failed(problem.line()))?;
                problems += 1;
                tell(problem);
            }
        }
        if was_interrupted {
            break;
        }
    }
    let measured = conclude(folder, &out, arguments.format)?;
    Ok(match () {
        () if was_interrupted => {
            if measured {
                say("interrupted: the same command with `--resume` goes on");
            }
            exit::interrupted()
        }
        () if problems == turns.len() => exit::usage(),
        () if is_violated => exit::condition_violated(),
        () if problems > 0 || some_failed => exit::some_failed(),
        () => exit::OK,
    })
}

/// The models that are to be run.
fn chosen<'a>(all: &[(&'a ConfigFile, &'a OneOf)], name: Option<&str>) -> Result<Vec<(&'a ConfigFile, &'a OneOf)>, Problem> {
    let Some(name) = name else { return Ok(all.to_vec()) };
    let found: Vec<_> = all.iter().filter(|(_, one)| one.name == name).copied().collect();
    if found.is_empty() {
        let names: Vec<&str> = all.iter().map(|(_, one)| one.name.as_str()).collect();
        let help = did_you_mean(name, names.iter().copied()).unwrap_or_else(|| format!("there are {}", names.join(", ")));
        return Err(Problem::new(format!("`--model {name}`: the config has no model of this name")).help(help));
    }
    Ok(found)
}

/// Runs a part of the plan of one model, as that of a config with one. Every model has a plan of its own, and `merge` joins the parts
/// of one plan.
fn run_part(
    registry: &Registry,
    chosen: &[(&ConfigFile, &OneOf)],
    partition: Partition,
    arguments: &RunArguments,
    kernel_path: Option<KernelPath>,
) -> Result<ExitCode, Problem> {
    if let [(file, _)] = chosen {
        return run_file(registry, file, arguments, kernel_path, None).map(Ran::code);
    }
    let names: Vec<&str> = chosen.iter().map(|(_, one)| one.name.as_str()).collect();
    Err(Problem::new(format!("`--partition {partition}` shares the plan of one model, and the config has {}", names.len()))
        .help(format!("`--model NAME` chooses one of them, and each is joined on its own: there are {}", names.join(", "))))
}

/// The folder of all reports.
fn out(files: &[ConfigFile], arguments: &RunArguments) -> PathBuf {
    let name = files.first().map(ConfigFile::name).unwrap_or_default();
    arguments.out.clone().unwrap_or_else(|| Path::new("reports").join(name))
}

fn title(files: &[ConfigFile]) -> String {
    files.first().map(ConfigFile::config_title).unwrap_or_default()
}

/// What is noted of a model that is to be run.
fn entry(file: &ConfigFile, one: &OneOf, arguments: &RunArguments) -> Entry {
    let RunArguments { only, seed, threads, pages, unchecked, .. } = arguments;
    let all = serde_json::json!({
        "config": file.table,
        "only": only,
        "seed": seed,
        "threads": threads,
        "kernel_path": kv_kernels::KernelPath::current().to_string(),
        "pages": pages,
        "unchecked": unchecked,
        "program": build::program_hash(),
        "machine": run_record::machine_id(),
    });
    Entry { name: one.name.clone(), plan: hash::short(all.to_string().as_bytes()), state: State::Due }
}

/// What each chosen model's turn begins with, and what is noted of all models then.
fn plan_turns<'a>(
    out: &Path,
    now: Models,
    chosen: &[(&'a ConfigFile, &'a OneOf)],
    arguments: &RunArguments,
) -> Result<(Models, Vec<Turn<'a>>), Problem> {
    let before = overview_folder::read(out)?;
    let turn = |(file, one): &(&'a ConfigFile, &'a OneOf), unfinished| Turn { file, one, unfinished };
    if !arguments.resume {
        let is_chosen = |entry: &Entry| chosen.iter().any(|(_, one)| one.name == entry.name);
        if let Some(before) = before.as_ref().filter(|_| !arguments.overwrite) {
            refuse_unfinished(out, before, &is_chosen)?;
        }
        let kept = |entry: Entry| match before.as_ref().and_then(|before| before.entry(&entry.name)) {
            Some(known) if !is_chosen(&entry) => known.clone(),
            _ => entry,
        };
        let models = Models { models: now.models.into_iter().map(kept).collect(), ..now };
        return Ok((models, chosen.iter().map(|chosen| turn(chosen, unfinished(arguments))).collect()));
    }
    let nothing = || {
        Problem::new(format!("there is no unfinished run in `{}` to resume", out.display()))
            .help("without `--resume` the run starts from the beginning")
    };
    let before = before.ok_or_else(nothing)?;
    let mut turns = vec![];
    for chosen in chosen {
        let (_, one) = chosen;
        let is_begun = unfinished_folder(&out.join(&one.name)).and_then(|folder| run_folder::read(&folder))?.is_some();
        let known = before.entry(&one.name);
        let is_finished = known.is_some_and(|entry| entry.state == State::Finished);
        if (is_finished || is_begun) && known.map(|entry| &entry.plan) != now.entry(&one.name).map(|entry| &entry.plan) {
            let message = format!(
                "the runs in `{}` cannot be resumed: the config, the arguments, the program or the machine changed since {} was run",
                out.display(),
                one.name
            );
            return Err(Problem::new(message).help("`--overwrite` begins again"));
        }
        if !is_finished {
            turns.push(turn(chosen, if is_begun { Unfinished::Resume } else { Unfinished::Refuse }));
        }
    }
    if turns.is_empty() {
        return Err(nothing());
    }
    let kept = |entry: Entry| match before.entry(&entry.name) {
        Some(known) if known.state == State::Finished => known.clone(),
        _ => entry,
    };
    Ok((Models { models: now.models.into_iter().map(kept).collect(), ..now }, turns))
}

/// Refuses to begin where some of the chosen models are finished and others are not: what was measured would be lost.
fn refuse_unfinished(out: &Path, before: &Models, is_chosen: &dyn Fn(&Entry) -> bool) -> Result<(), Problem> {
    let (finished, due): (Vec<&Entry>, Vec<&Entry>) = before
        .models
        .iter()
        .filter(|entry| is_chosen(entry))
        .filter(|entry| !matches!(entry.state, State::Failed(_)))
        .partition(|entry| entry.state == State::Finished);
    if finished.is_empty() || due.is_empty() {
        return Ok(());
    }
    let names = |entries: &[&Entry]| entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>().join(", ");
    Err(Problem::new(format!(
        "`{}` holds an unfinished run of several models: {} finished, {} to be run",
        out.display(),
        names(&finished),
        names(&due)
    ))
    .help("`--resume` goes on with it; `--overwrite` begins again"))
}

/// Prints the plan of every model, and the time of all.
fn dry_run(
    registry: &Registry,
    chosen: &[(&ConfigFile, &OneOf)],
    arguments: &RunArguments,
    kernel_path: Option<KernelPath>,
) -> Result<ExitCode, Problem> {
    let mut total = 0.0;
    for (file, one) in chosen {
        heading(one, Format::Plain)?;
        match run_file(registry, file, arguments, kernel_path, None)? {
            Ran::Planned { seconds } => total += seconds,
            Ran::Ended(code) => return Ok(code),
        }
    }
    print(&format!("\n{}, about {} in all\n", counted(chosen.len(), "model"), human(total)))?;
    Ok(exit::OK)
}

/// Says on the standard output which model follows.
fn heading(one: &OneOf, format: Format) -> Result<(), Problem> {
    match format {
        Format::Plain => print(&format!("\n{one}\n\n")),
        Format::Markdown => print(&format!("\n## {one}\n\n")),
    }
}

/// Draws the overview and prints what the models show together. Answers whether anything was measured.
fn conclude(folder: OverviewFolder, out: &Path, format: Format) -> Result<bool, Problem> {
    let overview = overview_folder::overview(out, &folder.models)?;
    if overview.results().is_empty() {
        folder.discard_if_empty();
        return Ok(false);
    }
    overview_folder::draw(out, &overview)?;
    print(&format!("\n{}", speed_up_table(&overview).text(format)))?;
    print(&format!("\noverview: {}\n", printable(&out.join("index.html").display().to_string())))?;
    Ok(true)
}
