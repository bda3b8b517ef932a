//! `run`: a sweep and its report.

use std::path::Path;
use std::process::ExitCode;

use kv_core::Registry;
use kv_report::{ModelRecord, Results, Row, Status};

use super::{checked_threads, print, use_threads};
use crate::cli::{PagesChoice, RunArguments};
use crate::config::{ConfigFile, load_config};
use crate::free_memory::size;
use crate::gate::{self, Beside, Rejected};
use crate::models::{self, ModelFolders, ModelSource};
use crate::plan::{Plan, check_memory, plan};
use crate::progress::{human, say};
use crate::screen::{padded, printable, widest};
use crate::{Problem, build, environment, exit, sweep};

pub(crate) fn run(registry: &Registry, arguments: &RunArguments) -> Result<ExitCode, Problem> {
    let file = load_config(&arguments.config, &arguments.sets, &arguments.also)?;
    let source = ModelSource::of_choice(file.config.model.get_ref(), file.folder(), &ModelFolders::of_environment())
        .map_err(|problem| problem.within(&file, &file.config.model))?;
    // A preset's shape is known, so its plan is checked before its weights are made.
    if let Some(config) = source.known_config() {
        let plan = plan(&file, registry, &config, arguments.only.as_deref())?;
        if arguments.dry_run {
            return dry_run(&plan, &config, source.known_bytes(), arguments.threads);
        }
        check_memory(&plan, &config)?;
    }
    let folder = arguments.out.clone().unwrap_or_else(|| Path::new("reports").join(file.name()));
    if !arguments.dry_run {
        sweep::check_writable(&folder)?;
    }
    build::require_optimised()?;
    use_threads(arguments.threads)?;
    // The name of a file may have anything in it.
    let model_name = printable(&source.label());
    say(&format!("loading {model_name}"));
    let (model, record) = models::load(&source, arguments.pages.pages())?;
    let plan = plan(&file, registry, model.decoder.config(), arguments.only.as_deref())?;
    if arguments.dry_run {
        return dry_run(&plan, model.decoder.config(), Some(model.decoder.weights().bytes()), arguments.threads);
    }
    check_memory(&plan, model.decoder.config())?;

    std::fs::create_dir_all(&folder).map_err(|error| Problem::new(format!("cannot create `{}`", folder.display())).caused_by(error))?;
    let mut results = empty_results(&file, &plan, record, arguments);
    sweep::handle_interrupts()?;
    let rejected = if arguments.unchecked {
        results.warnings.push(
            "The strategies were not checked with the conformance suite (--unchecked): a number may be that of a broken cache.".into(),
        );
        Rejected::new()
    } else {
        say("running the conformance suite over the strategies");
        gate::rejected(&plan.cells, &model.decoder.config().geometry, Beside::Nothing)
    };
    let seed = arguments.seed.unwrap_or(file.config.sweep.seed);
    let samples = sweep::run(&plan, &model.decoder, &model_name, seed, &rejected, &mut results, &folder)?;
    let page = sweep::write_report(&results, &samples, &[], &folder)?;
    print(&summary(&results.rows, &page))?;
    let failed = results.rows.iter().filter(|row| row.status == Status::Failed).count();
    Ok(match failed {
        _ if !results.complete => exit::interrupted(),
        0 => exit::OK,
        _ => exit::some_failed(),
    })
}

fn empty_results(file: &ConfigFile, plan: &Plan, model: ModelRecord, arguments: &RunArguments) -> Results {
    let mut config = serde_json::to_value(&file.table).unwrap_or_default();
    if let (Some(seed), Some(sweep)) = (arguments.seed, config.get_mut("sweep")) {
        sweep["seed"] = seed.into();
    }
    Results {
        schema: 1,
        title: file.config.title.clone().unwrap_or_else(|| file.name()),
        started: jiff::ZonedDateTime::now().strftime("%Y-%m-%d %H:%M:%S %:z").to_string(),
        command: command(arguments),
        complete: false,
        warnings: environment::warnings(plan.decode_steps),
        environment: environment::read(rayon::current_num_threads()),
        model: Some(model),
        config,
        rows: vec![],
    }
}

/// The command that runs the same again, from the workspace's folder.
fn command(arguments: &RunArguments) -> String {
    let RunArguments { config, only, also, sets, seed, threads, pages, .. } = arguments;
    let mut command = format!("cargo run -p runner -- {}", config.display());
    let mut add = |flag: &str, value: &str| command.push_str(&format!(" {flag} '{value}'"));
    only.iter().for_each(|only| add("--only", only));
    also.iter().for_each(|also| add("--also", also));
    sets.iter().for_each(|set| add("--set", set));
    seed.iter().for_each(|seed| add("--seed", &seed.to_string()));
    threads.iter().for_each(|threads| add("--threads", &threads.to_string()));
    if *pages == PagesChoice::Ordinary {
        add("--pages", "ordinary");
    }
    command
}

fn dry_run(plan: &Plan, model: &kv_model::ModelConfig, bytes: Option<usize>, threads: Option<usize>) -> Result<ExitCode, Problem> {
    let threads = checked_threads(threads)?;
    let mut text = String::from("cell  workload  batch  length  about     label\n");
    let mut total = 0.0;
    for (index, cell) in plan.cells.iter().enumerate() {
        let seconds = cell.estimated_seconds(model, plan, threads);
        total += seconds;
        let (workload, batch, length, about, label) = (cell.workload.name(), cell.batch, cell.seq_len, human(seconds), &cell.label);
        text.push_str(&format!("{:<5} {workload:<9} {batch:<6} {length:<7} {about:<9} {label}\n", index + 1));
    }
    text.push_str(&format!(
        "{} cells, about {} on {threads} threads (an order of magnitude; the running sweep corrects it)\n",
        plan.cells.len(),
        human(total)
    ));
    if let Some(bytes) = bytes {
        text.push_str(&format!("weights: {}; the time to load or draw them is not in the estimate\n", size(bytes as u64)));
    }
    print(&text)?;
    Ok(exit::OK)
}

fn summary(rows: &[Row], page: &Path) -> String {
    const MIB: f64 = 1024.0 * 1024.0;
    const LABEL: &str = "label";
    let width = widest(rows.iter().map(|row| row.label.as_str()).chain([LABEL]));
    let mut text = format!(
        "{:<9} {}  {:>7}  {:>5}  {:>11}  {:>11}  {:>11}  {:>11}\n",
        "workload",
        padded(LABEL, width),
        "length",
        "batch",
        "first (ms)",
        "token (ms)",
        "cache (ms)",
        "heap (MiB)"
    );
    for row in rows {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let heap = row.heap_live_bytes.map(|bytes| bytes as f64 / MIB);
        let numbers = [row.ttft_ms, row.tpot_ms_p50, row.cache_ms_p50, heap].map(number);
        text.push_str(&format!("{:<9} {}  {:>7}  {:>5}", row.workload, padded(&row.label, width), row.seq_len, row.batch));
        numbers.iter().for_each(|number| text.push_str(&format!("  {number:>11}")));
        text.push_str(&row.error.as_ref().map_or(String::new(), |error| format!("  failed: {}", printable(error))));
        text.push('\n');
    }
    text.push_str(&format!("\nreport: {}\n", printable(&page.display().to_string())));
    text
}
