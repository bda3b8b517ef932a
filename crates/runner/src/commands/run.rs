//! `run`: a sweep and its report.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use kv_core::Registry;
use kv_kernels::KernelPath;
use kv_report::{Build, Pass, Row, RunRecord, RunState, Status, Visit};

use super::dry_run::print_plan;
use super::subject::{Looked, Subject};
use super::{checked_threads, print};
use crate::cli::RunArguments;
use crate::config::{ConfigFile, load_config};
use crate::free_memory::size;
use crate::plan::{Baseline, Plan, plan};
use crate::progress::{Progress, say};
use crate::quality_plan::QualityPlan;
use crate::recording::{Kept, Store};
use crate::run_folder::{Left, RunFolder, Unfinished};
use crate::run_record::{Facts, cell_id, differences, now, record};
use crate::screen::printable;
use crate::summary::{answer, tables};
use crate::sweep::{self, Gate, Prediction, Probes, Setting, Sweep, predict, results};
use crate::table::Format;
use crate::{Problem, against, build, environment, exit, free_memory, interrupt};

pub(crate) fn run(registry: &Registry, arguments: &RunArguments, kernel_path: Option<KernelPath>) -> Result<ExitCode, Problem> {
    run_file(registry, &load_config(&arguments.config, &arguments.sets, &arguments.also)?, arguments, kernel_path, None)
}

/// Runs a config that was read, for the command with these words, or for `run`.
pub(super) fn run_file(
    registry: &Registry,
    file: &ConfigFile,
    arguments: &RunArguments,
    kernel_path: Option<KernelPath>,
    command: Option<Vec<String>>,
) -> Result<ExitCode, Problem> {
    let subject = Subject::of(file, arguments)?;
    // A preset's shape is known, so its plan is checked before anything else is done.
    if let Some(config) = subject.known_config() {
        plan(file, registry, &config, arguments.only.as_deref())?;
    }
    build::require_optimised()?;
    let conditions = arguments.fail_on.as_deref().map(against::conditions).transpose()?;
    let other = arguments.against.as_deref().map(against::program).transpose()?;
    let threads = checked_threads(arguments.threads)?;
    interrupt::handle()?;
    // Taken before the model is looked at: a folder that cannot be written is noticed at once.
    let target = arguments.out.clone().unwrap_or_else(|| Path::new("reports").join(file.name()));
    let taken = if arguments.dry_run { None } else { Some(RunFolder::open(&target, unfinished(arguments))?) };

    let text = QualityPlan::read(file)?;
    let Looked { config: mut model_config, record: model, text } = subject.look_at(arguments, text.as_deref())?;
    let mut plan = plan(file, registry, &model_config, arguments.only.as_deref())?;
    let windows = plan.windows(text.as_deref())?;
    if let Some(conditions) = &conditions {
        against::require_answers(conditions, &plan)?;
    }
    plan.seed = arguments.seed.unwrap_or(plan.seed);
    model_config.geometry.context = plan.context;
    // What was free when the run began decided what fits.
    let limit_before = taken.as_ref().and_then(|(_, left)| Some(left.as_ref()?.run.memory_limit_bytes));
    let setting = Setting {
        rows: subject.rows(file, arguments, &model_config, plan.seed),
        model_config: &model_config,
        windows,
        threads,
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
        return Ok(exit::interrupted());
    };
    let against = match (&setting.other, &arguments.against, &other_probes) {
        (Some(program), Some(given), Some(probes)) => Some(against::record(program, given, probes, arguments.fail_on.as_deref())?),
        _ => None,
    };
    let hash = model.hash.clone().unwrap_or_default();
    require_baseline(&plan, &probes, file)?;
    let prediction = predict(&plan, &probes, &setting, &hash, model.model_bytes);
    let Some((folder, left)) = taken else { return print_plan(&prediction, &setting) };
    require_one_that_fits(&prediction)?;
    require_room_to_record(&prediction, &setting)?;

    let ids: Vec<String> = plan.cells.iter().map(|cell| cell_id(cell, &plan, &hash)).collect();
    let warnings = warnings(arguments);
    let facts = Facts {
        file,
        arguments,
        kernel_path,
        command,
        level: subject.level(&model_config, plan.seed),
        plan: &plan,
        ids: &ids,
        prediction: &prediction,
        against,
        model,
        threads,
        warnings,
        memory_limit: setting.memory_limit,
    };
    let (run, visits) = begin_or_go_on(record(facts), left)?;
    let (other_visits, visits) = visits.into_iter().partition(|visit| visit.build == Build::Other);
    folder.write_run(&run)?;
    let gate = if arguments.unchecked { Gate::Unchecked } else { Gate::Checked };
    let kept = if arguments.keep_recordings { Kept::Always } else { Kept::UntilTheEnd };
    let progress = Progress::new(run.layer_scale());
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
    conclude(sweep.run()?, arguments.format)
}

fn unfinished(arguments: &RunArguments) -> Unfinished {
    match (arguments.resume, arguments.overwrite) {
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

/// Refuses a plan of which nothing fits into memory. If some cells fit, the others are rows with the reason.
fn require_one_that_fits(prediction: &Prediction<'_>) -> Result<(), Problem> {
    let plan = prediction.plan;
    match prediction.too_large.first() {
        Some(too_large) if prediction.too_large.len() == plan.cells.len() => {
            let cell = &plan.cells[too_large.cell];
            let sequences = if cell.batch == 1 { String::new() } else { format!(" with {} sequences at once", cell.batch) };
            let what = format!("`{}` at length {}{sequences}", cell.label, cell.seq_len);
            Err(Problem::new(format!("{what}: {}", prediction.refusal(too_large)))
                .help("shorter `lengths` or a smaller `batch` need less; `max_length` leaves long cells out for one strategy"))
        }
        _ => Ok(()),
    }
}

/// Refuses a prompt that cannot be recorded within the limit: computing it for every strategy instead may take hours.
fn require_room_to_record(prediction: &Prediction<'_>, setting: &Setting<'_>) -> Result<(), Problem> {
    match &prediction.recording {
        Some(recording) if recording.memory_bytes > setting.memory_limit => Err(Problem::new(format!(
            "recording the prompt of {} tokens takes {} of memory, and {} are free for a worker (`memory_limit`)",
            recording.key.tokens.len(),
            size(recording.memory_bytes),
            size(setting.memory_limit)
        ))
        .help("shorter `lengths` need less; `fill = \"prefill\"` in [sweep] records nothing and lets the model compute every prompt")),
        _ => Ok(()),
    }
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

/// The run and its visits so far.
fn begin_or_go_on(now: RunRecord, left: Option<Left>) -> Result<(RunRecord, Vec<Visit>), Problem> {
    let Some(Left { run, visits }) = left else { return Ok((now, vec![])) };
    if run.plan_hash != now.plan_hash {
        let message =
            format!("the unfinished run of {} cannot be resumed: {} changed since", run.started, differences(&run, &now).join(" and "));
        return Err(Problem::new(message).help(format!("`--overwrite` begins again. What was run then: {}", run.command)));
    }
    let mut run = RunRecord { state: RunState::Running, ..run };
    let news: Vec<String> = now.warnings.into_iter().filter(|warning| !run.warnings.contains(warning)).collect();
    run.warnings.extend(news);
    Ok((run, visits))
}

/// What a run says that was interrupted at its beginning.
const NOTHING_MEASURED: &str = "interrupted before anything was measured";

/// Draws the report and puts it where it belongs.
fn conclude(ended: sweep::Ended, format: Format) -> Result<ExitCode, Problem> {
    let sweep::Ended { is_complete: complete, mut run, visits, folder } = ended;
    let has_begun = visits.iter().any(|visit| visit.pass != Pass::Gate);
    if !complete && !has_begun {
        folder.discard();
        say(NOTHING_MEASURED);
        return Ok(exit::interrupted());
    }
    run.state = if complete { RunState::Finished } else { RunState::Interrupted };
    run.finished = complete.then(now);
    run.warnings.extend(composed_warning(&results(&run, &visits).rows));
    folder.write_run(&run)?;
    let results = results(&run, &visits);
    sweep::write_tables(&results, &folder)?;
    // Whatever happens to the page, this has been measured.
    print(&tables(&results, format))?;
    for (name, bytes) in sweep::draw(&results, &[])? {
        folder.write(&name, &bytes)?;
    }
    let page = if complete { folder.finish()? } else { folder.keep() }.join("index.html");
    // A recording of a run that was killed at its end belongs to nobody now.
    if let Ok(store) = Store::of_user() {
        store.remove_stale();
    }
    print(&format!("\n{}\nreport: {}\n", answer(&results), printable(&page.display().to_string())))?;
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
