//! `run`: a sweep and its report.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use kv_core::Registry;
use kv_kernels::KernelPath;
use kv_report::{Build, ModelRecord, Pass, Row, RunRecord, RunState, Status};

use super::dry_run::print_plan;
use super::room::require_room;
use super::run_models::run_models;
use super::subject::{Looked, Subject};
use super::{checked_threads, print};
use crate::cli::RunArguments;
use crate::config::{ConfigFile, load_configs};
use crate::partition::{PLANNED_THREADS, Partition};
use crate::plan::{Baseline, Plan, plan};
use crate::progress::{Progress, say};
use crate::quality_plan::QualityPlan;
use crate::recall_texts::recall_texts;
use crate::recording::{Kept, Store};
use crate::resume::{GoneOn, go_on, same_plan};
use crate::run_folder::{RunFolder, Unfinished};
use crate::run_record::{Facts, cell_id, differences, now, plan_hash, record};
use crate::screen::printable;
use crate::summary::{answer, tables};
use crate::sweep::{self, Gate, Probes, Setting, Sweep, predict, results};
use crate::{Problem, against, build, environment, exit, free_memory, interrupt, run_folder};

pub(crate) fn run(registry: &Registry, arguments: &RunArguments, kernel_path: Option<KernelPath>) -> Result<ExitCode, Problem> {
    let files = load_configs(&arguments.config, &arguments.sets, &arguments.also)?;
    prepare()?;
    match files.as_slice() {
        [file] if file.one_of().is_none() => match &arguments.model {
            None => run_file(registry, file, arguments, kernel_path, None).map(Ran::code),
            Some(name) => Err(Problem::new(format!("`--model {name}` chooses one of several models, and the config has a table [model]"))
                .help("leave it out, or write [[model]]")),
        },
        files => run_models(registry, files, arguments, kernel_path),
    }
}

/// What every command that measures needs, once.
///
/// # Errors
/// A [`Problem`] if this build would measure nothing of worth.
pub(super) fn prepare() -> Result<(), Problem> {
    build::require_optimised()?;
    interrupt::handle()
}

/// What came of a config.
pub(super) enum Ran {
    /// It was planned, and takes about this long.
    Planned { seconds: f64 },
    /// It was run.
    Ended(ExitCode),
}

impl Ran {
    /// The exit code of a command that runs nothing else.
    pub(super) fn code(self) -> ExitCode {
        match self {
            Ran::Planned { .. } => exit::OK,
            Ran::Ended(code) => code,
        }
    }
}

/// Refuses a config or arguments that cannot be run, as far as that is known before a model is read.
///
/// # Errors
/// A [`Problem`] that says what would be right.
pub(super) fn check_config(registry: &Registry, file: &ConfigFile, arguments: &RunArguments) -> Result<Subject, Problem> {
    let subject = Subject::of(file, arguments)?;
    // A preset's shape is known, so its plan is checked before anything else is done.
    if let Some(config) = subject.known_config() {
        plan(file, registry, &config, arguments.only.as_deref())?;
    }
    checked_threads(arguments.threads)?;
    Ok(subject)
}

/// Runs a config that was read, for the command with these words, or for `run`. One of several models has a folder of its own in that
/// of all.
pub(super) fn run_file(
    registry: &Registry,
    file: &ConfigFile,
    arguments: &RunArguments,
    kernel_path: Option<KernelPath>,
    command: Option<Vec<String>>,
) -> Result<Ran, Problem> {
    let subject = check_config(registry, file, arguments)?;
    let conditions = arguments.fail_on.as_deref().map(against::conditions).transpose()?;
    let other = arguments.against.as_deref().map(against::program).transpose()?;
    let threads = checked_threads(arguments.threads)?;
    // Taken before the model is looked at: a folder that cannot be written is noticed at once.
    let out = arguments.out.clone().unwrap_or_else(|| Path::new("reports").join(folder_name(file, arguments.partition)));
    let target = file.one_of().map_or_else(|| out.clone(), |one| out.join(&one.name));
    let taken = if arguments.dry_run { None } else { Some(RunFolder::open(&target, unfinished(arguments))?) };

    let text = QualityPlan::read(file)?;
    let Looked { config: mut model_config, record: model, tokenizer } = subject.look_at(arguments)?;
    let model = ModelRecord { name: file.named(model.name), ..model };
    let mut plan = plan(file, registry, &model_config, arguments.only.as_deref())?;
    if let Some(conditions) = &conditions {
        against::require_answers(conditions, &plan)?;
    }
    let seen_before = plan.quality.as_ref().and_then(|quality| quality.seen_before(file));
    seen_before.iter().for_each(|warning| say(warning));
    plan.seed = arguments.seed.unwrap_or(plan.seed);
    let (windows, recall, text) = match text.zip(tokenizer) {
        Some((text, tokenizer)) => {
            let tokens = tokenizer.encode(&text);
            let tokens = tokens.map_err(|error| Problem::new("the text in [quality] cannot be tokenized").caused_by(error))?;
            (plan.windows(&tokens)?, recall_texts(&plan, &text, &tokenizer)?, plan.text(&tokens)?)
        }
        None => (vec![], vec![], vec![]),
    };
    model_config.geometry.context = plan.context;
    let planned_threads = planned_threads(file, &plan, arguments, threads)?;
    // What was free when the run began decided what fits.
    let limit_before = taken.as_ref().and_then(|(_, left)| Some(left.as_ref()?.run.memory_limit_bytes));
    let setting = Setting {
        rows: subject.rows(file, arguments, &model_config, plan.seed),
        model_config: &model_config,
        windows,
        text,
        recall,
        threads,
        planned_threads,
        memory_limit: plan.memory_limit.or(limit_before).unwrap_or_else(free_memory::share),
        huge_pages: plan.huge_pages,
        timeout_s: plan.timeout_s,
        other,
    };
    let ask = |build| Probes::ask(&setting, &plan, file, build);
    let asked = setting.builds().iter().map(|build| ask(*build)).collect::<Result<Option<Vec<Probes>>, Problem>>()?;
    let (Some(probes), other_probes) = asked.map_or((None, None), |asked| {
        let mut asked = asked.into_iter();
        (asked.next(), asked.next())
    }) else {
        say(NOTHING_MEASURED);
        return Ok(Ran::Ended(exit::interrupted()));
    };
    let against = match (&setting.other, &arguments.against, &other_probes) {
        (Some(program), Some(given), Some(probes)) => Some(against::record(program, given, probes, arguments.fail_on.as_deref())?),
        _ => None,
    };
    let hash = model.hash.clone().unwrap_or_default();
    require_baseline(&plan, &probes, file)?;
    let mut prediction = predict(&plan, &probes, &setting, &hash, model.model_bytes);
    let ids: Vec<String> = plan.cells.iter().map(|cell| cell_id(cell, &plan, &hash)).collect();
    let plan_hash = plan_hash(&plan, &prediction, &ids, &model, against.as_ref(), arguments, kernel_path);
    if let Some(partition) = arguments.partition {
        prediction.take_part(partition, &plan_hash, &setting, &hash);
    }
    let room = require_room(&prediction, &setting);
    let Some((mut folder, left)) = taken else {
        return print_plan(&prediction, &setting, room.err()).map(|seconds| Ran::Planned { seconds });
    };
    room?;

    let warnings = warnings(arguments).into_iter().chain(seen_before).collect();
    let facts = Facts {
        file,
        arguments,
        kernel_path,
        command,
        level: subject.level(&model_config, plan.seed),
        plan: &plan,
        ids: &ids,
        plan_hash,
        prediction: &prediction,
        against,
        model,
        threads,
        warnings,
        memory_limit: setting.memory_limit,
    };
    let now = record(facts);
    if left.is_none() && may_be_finished(arguments) && is_finished(&target, &now)? {
        folder.discard();
        say(&format!("this part is finished already: {}", printable(&target.display().to_string())));
        return Ok(Ran::Ended(exit::OK));
    }
    let GoneOn { run, mut visits, gave_up } = match left {
        Some(left) => go_on(now, left)?,
        None => GoneOn { run: now, visits: vec![], gave_up: false },
    };
    if gave_up {
        visits = folder.replace_visits(&visits)?;
    }
    let (other_visits, visits) = visits.into_iter().partition(|visit| visit.build == Build::Other);
    folder.write_run(&run)?;
    let gate = if arguments.unchecked { Gate::Unchecked } else { Gate::Checked };
    let kept = if arguments.keep_recordings { Kept::Always } else { Kept::UntilTheEnd };
    let progress = Progress::new(run.layer_scale(), file.one_of());
    let sweep = Sweep {
        setting: &setting,
        plan: &plan,
        ids: &ids,
        probes: &probes,
        other_probes: other_probes.as_ref(),
        prediction: &prediction,
        gate,
        kept,
        run,
        visits,
        other_visits,
        build: Build::Own,
        folder,
        progress,
        recording_is_due: prediction.recording.is_some(),
        due: RefCell::default(),
    };
    conclude(sweep.run()?, arguments).map(Ran::Ended)
}

/// What the arguments say of an unfinished run.
pub(super) fn unfinished(arguments: &RunArguments) -> Unfinished {
    match (arguments.resume, arguments.overwrite) {
        (true, _) if arguments.partition.is_some() => Unfinished::ResumeOrBegin,
        (true, _) => Unfinished::Resume,
        (false, true) => Unfinished::Overwrite,
        (false, false) => Unfinished::Refuse,
    }
}

/// Refuses a marked baseline that recomputes: it is timed apart from the others, so nothing can be compared with it.
fn require_baseline(plan: &Plan, probes: &Probes, file: &ConfigFile) -> Result<(), Problem> {
    let Some(label) = plan.baseline.as_ref().filter(|_| plan.baseline_is == Baseline::Marked) else { return Ok(()) };
    let others = || plan.cells.iter().map(|cell| &cell.label).filter(|other| probes.broken(other).is_none() && !probes.recomputes(other));
    if !probes.recomputes(label) || others().next().is_none() {
        return Ok(());
    }
    let message = format!("the baseline `{label}` recomputes: its steps take as long as a prefill, and it is timed in a block of its own");
    let instance = file.config.strategies.iter().find(|instance| instance.label.get_ref() == label);
    let mark = instance.and_then(|instance| instance.baseline.as_ref());
    let problem = mark.map_or_else(|| Problem::new(message.clone()), |mark| file.problem(mark, message.clone()));
    let labels: BTreeSet<&String> = others().collect();
    let labels: Vec<&str> = labels.into_iter().map(String::as_str).collect();
    Err(problem.help(format!(
        "mark another one ({}), or none: then it is contiguous in f16, or the first that does not recompute",
        labels.join(", ")
    )))
}

fn warnings(arguments: &RunArguments) -> Vec<String> {
    let mut warnings = environment::warnings();
    if arguments.unchecked {
        warnings.push(
            "The strategies were not checked with the conformance suite (--unchecked): a number may be that of a broken cache.".into(),
        );
    }
    warnings
}

/// The folder of a run of this config.
fn folder_name(file: &ConfigFile, partition: Option<Partition>) -> String {
    let of_part = partition.map_or(String::new(), |Partition { part, of }| format!("-part-{part}-of-{of}"));
    format!("{}{of_part}", file.name())
}

/// The threads that blocks are packed for. What machines share does not depend on them.
fn planned_threads(file: &ConfigFile, plan: &Plan, arguments: &RunArguments, threads: usize) -> Result<usize, Problem> {
    let Some(partition) = arguments.partition else { return Ok(threads) };
    if plan.memory_limit.is_none() {
        let message = format!(
            "`--partition {partition}` needs `memory_limit` in [sweep]: what fits together decides what the blocks are, and they must be the same on every machine"
        );
        return Err(file
            .problem_at(None, message)
            .help("for example `--set 'sweep.memory_limit=\"8 GiB\"'`: what the smallest of the machines has for a task"));
    }
    match arguments.threads.unwrap_or(PLANNED_THREADS) {
        planned if threads <= planned => Ok(planned),
        planned => Err(Problem::new(format!("this machine would use {threads} threads, and parts are planned for {planned} at most"))
            .help("give all parts the same `--threads`")),
    }
}

/// Whether a task may have been queued again after it had done its work.
fn may_be_finished(arguments: &RunArguments) -> bool {
    arguments.resume && arguments.partition.is_some()
}

/// Whether a folder holds the finished run of this plan.
fn is_finished(target: &Path, now: &RunRecord) -> Result<bool, Problem> {
    match run_folder::read(target)? {
        Some(there) if there.run.state == RunState::Finished && same_plan(&there.run, now) => Ok(true),
        Some(there) => {
            let (folder, changed) = (target.display(), differences(&there.run, now).join(" and "));
            Err(Problem::new(format!("`{folder}` holds another run, of {}: {changed} changed since", there.run.started))
                .help("`--overwrite` instead of `--resume` measures the part again; or give another folder with `--out`"))
        }
        None => Ok(false),
    }
}

/// What a run says that was interrupted at its beginning.
const NOTHING_MEASURED: &str = "interrupted before anything was measured";

/// Draws the report and puts it where it belongs.
fn conclude(ended: sweep::Ended, arguments: &RunArguments) -> Result<ExitCode, Problem> {
    let sweep::Ended { is_complete: complete, mut run, visits, folder } = ended;
    let has_begun = visits.iter().any(|visit| visit.pass != Pass::Gate);
    if !complete && !has_begun {
        folder.discard();
        say(NOTHING_MEASURED);
        return Ok(exit::interrupted());
    }
    run.state = if complete { RunState::Finished } else { RunState::Interrupted };
    run.finished = complete.then(now);
    let rows = results(&run, &visits).rows;
    run.warnings.extend(composed_warning(&rows).into_iter().chain(disturbed_warning(&rows)));
    folder.write_run(&run)?;
    let results = results(&run, &visits);
    sweep::write_tables(&results, &folder)?;
    // Whatever happens to the page, this has been measured.
    print(&tables(&results, arguments.format))?;
    let editions = if arguments.light { sweep::WITH_LIGHT_PAGE } else { sweep::PAGE };
    for (name, bytes) in sweep::draw(&results, &[], editions)? {
        folder.write(&name, &bytes)?;
    }
    let page = if complete { folder.finish()? } else { folder.keep() }.join("index.html");
    // A recording of a run that was killed at its end belongs to nobody now.
    if let Ok(store) = Store::of_user() {
        store.remove_stale();
    }
    let times = run.times().map_or(String::new(), |times| format!("time of the processes: {times}\n"));
    print(&format!("\n{}\n{times}report: {}\n", answer(&results), printable(&page.display().to_string())))?;
    if !complete {
        say("interrupted: the same command with `--resume` goes on");
    }
    let is_failed = |row: &&Row| !matches!(row.status, Status::Ok | Status::Unsupported);
    let failed = results.rows.iter().filter(is_failed).count();
    let is_violated = results.against.as_ref().is_some_and(|against| !against.violations.is_empty());
    Ok(match failed {
        _ if !complete => exit::interrupted(),
        _ if is_violated => exit::condition_violated(),
        0 => exit::OK,
        _ => exit::some_failed(),
    })
}

/// A warning if verdicts rest on launches that were disturbed.
fn disturbed_warning(rows: &[Row]) -> Option<String> {
    let is_judged =
        |row: &&Row| ["tpot_ratio", "cache_ratio"].iter().any(|id| row.values.get(*id).is_some_and(|ratio| ratio.verdict.is_some()));
    let judged: Vec<&Row> = rows.iter().filter(is_judged).collect();
    let disturbed = judged.iter().filter(|row| row.notes.iter().any(|note| note.contains(sweep::COUNTED_DISTURBED))).count();
    (disturbed > 0).then(|| {
        format!(
            "{disturbed} of {} rows {} verdicts that rest on disturbed launches, because too few others were left: the machine was busy, so treat faster and slower there with care.",
            judged.len(),
            if disturbed == 1 { "has" } else { "have" }
        )
    })
}

/// A warning if composing the time to first token did not hold in some block: it is composed alike in all rows of a block.
fn composed_warning(rows: &[Row]) -> Option<String> {
    let ratio = |row: &Row| Some(row.value("ttft_ms")? / row.value("ttft_real_ms")?);
    let checked: Vec<f64> = rows.iter().filter_map(ratio).collect();
    let off = checked.iter().filter(|ratio| (*ratio - 1.0).abs() > sweep::MOST_OFF).count();
    (off > 0).then(|| {
        format!(
            "In {off} of {} blocks, the composed time to first token is more than 10 % off a real prefill's: treat ttft_ms there with care.",
            checked.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use kv_report::Value;

    use super::*;

    #[test]
    fn verdicts_from_disturbed_launches_are_a_warning() {
        let judged = |note: &str| Row {
            notes: vec![note.to_owned()],
            values: [("tpot_ratio".to_owned(), Value { verdict: Some("slower".into()), ..Value::from(1.2) })].into(),
            ..Row::default()
        };
        let disturbed = judged(&format!("3 of 8 launches were disturbed and are {}: and so on", sweep::COUNTED_DISTURBED));
        let left_out = judged("1 of 8 launches were disturbed and are left out: and so on");
        let unjudged = Row { values: [].into(), ..disturbed.clone() };
        let warning = disturbed_warning(&[disturbed, left_out.clone(), unjudged]).unwrap();
        assert!(warning.starts_with("1 of 2 rows has verdicts that rest on disturbed launches"), "{warning}");
        assert_eq!(disturbed_warning(&[left_out]), None);
    }
}
