//! The record of a run: what was planned, where and with what program.

use std::collections::BTreeMap;

use kv_core::Geometry;
use kv_kernels::KernelPath;
use kv_model::ModelConfig;
use kv_report::{
    BuildRecord, CellRecord, FormatBytes, GeometryRecord, Level, ModelRecord, OtherBuild, RunRecord, RunState, SCHEMA_VERSION,
};

use crate::cli::{PagesChoice, RunArguments};
use crate::config::ConfigFile;
use crate::models::ModelSource;
use crate::plan::{Cell, Plan};
use crate::sweep::Prediction;
use crate::{build, environment, hash};

/// What a run's record is made of.
pub(crate) struct Facts<'a> {
    pub(crate) file: &'a ConfigFile,
    pub(crate) arguments: &'a RunArguments,
    pub(crate) kernel_path: Option<KernelPath>,
    /// The words of the command after the program's, if it is not `run`.
    pub(crate) command: Option<Vec<String>>,
    pub(crate) level: Level,
    pub(crate) plan: &'a Plan,
    pub(crate) ids: &'a [String],
    pub(crate) plan_hash: String,
    /// What of the plan is run.
    pub(crate) prediction: &'a Prediction<'a>,
    /// The build that takes turns with this one.
    pub(crate) against: Option<OtherBuild>,
    pub(crate) model: ModelRecord,
    pub(crate) threads: usize,
    pub(crate) warnings: Vec<String>,
    pub(crate) memory_limit: u64,
}

/// The record of a run that begins now.
pub(crate) fn record(facts: Facts<'_>) -> RunRecord {
    let Facts { file, arguments, kernel_path, command: other, level, plan, ids, plan_hash, prediction, against, model, threads, .. } =
        facts;
    let mut config = serde_json::to_value(&file.table).unwrap_or_default();
    if let (Some(seed), Some(sweep)) = (arguments.seed, config.get_mut("sweep")) {
        sweep["seed"] = seed.into();
    }
    let block_of = |index: usize| {
        let block = prediction.blocks.iter().find(|block| block.cells.contains(&index));
        block.map_or_else(|| "none".to_owned(), |block| block.name.clone())
    };
    let baseline_of = |index: usize| {
        let block = prediction.blocks.iter().find(|block| block.cells.contains(&index))?;
        block.baseline.map(|baseline| ids[baseline].clone())
    };
    let cell = |(index, (cell, id)): (usize, (&Cell, &String))| CellRecord {
        id: id.clone(),
        label: cell.label.clone(),
        strategy: cell.strategy.id().to_owned(),
        workload: cell.workload.name().to_owned(),
        seq_len: cell.seq_len,
        batch: cell.batch,
        block: block_of(index),
        baseline: baseline_of(index),
    };
    let all: Vec<CellRecord> = plan.cells.iter().zip(ids).enumerate().map(cell).collect();
    let own = all.iter().enumerate().filter(|(index, _)| prediction.is_own(*index)).map(|(_, cell)| cell.clone());
    let started = jiff::ZonedDateTime::now();
    let run_id = hash::short(format!("{plan_hash} {started} {}", std::process::id()).as_bytes());
    RunRecord {
        schema: SCHEMA_VERSION,
        margin: plan.margin,
        order_seed: hash::number(run_id.as_bytes()),
        run_id,
        plan_hash,
        machine_id: machine_id(),
        state: RunState::Running,
        title: file.title(),
        started: shown(&started),
        finished: None,
        command: command(arguments, kernel_path, other),
        memory_limit_bytes: facts.memory_limit,
        warnings: facts.warnings,
        seconds: BTreeMap::new(),
        environment: environment::of_run(threads, plan.huge_pages),
        build: build_record(),
        against,
        level,
        model,
        config,
        cells: own.collect(),
        part: prediction.part_record(&all),
        origins: vec![],
    }
}

/// The present time as records have it.
pub(crate) fn now() -> String {
    shown(&jiff::ZonedDateTime::now())
}

fn shown(time: &jiff::ZonedDateTime) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// The id of a cell: what it is, and not where it runs.
pub(crate) fn cell_id(cell: &Cell, plan: &Plan, model_hash: &str) -> String {
    let config = serde_json::to_value(&cell.config).unwrap_or_default();
    let script = plan.script(cell);
    let all = serde_json::json!([model_hash, cell.label, cell.strategy.id(), config, script]);
    hash::short(all.to_string().as_bytes())
}

/// A hash of everything that the measurements depend on and that a user can change. It is the same on every machine.
pub(crate) fn plan_hash(
    plan: &Plan,
    prediction: &Prediction<'_>,
    ids: &[String],
    model: &ModelRecord,
    against: Option<&OtherBuild>,
    arguments: &RunArguments,
    kernel_path: Option<KernelPath>,
) -> String {
    let mut all = serde_json::json!({
        "cells": ids,
        "fill": plan.fill,
        "launches": plan.launches,
        "rounds": plan.rounds,
        "margin": plan.margin,
        "memory_limit": plan.memory_limit,
        "huge_pages": plan.huge_pages,
        "ttft_launches": plan.ttft_launches,
        "baseline": plan.baseline,
        "quality": format!("{:?}", plan.quality),
        "text": prediction.text_hash,
        "model": model.hash,
        "threads": arguments.threads,
        "kernel_path": kernel_path.map(|path| path.to_string()),
        "pages": arguments.pages,
        "unchecked": arguments.unchecked,
    });
    if let Some(against) = against {
        all["against"] = against.hash.clone().into();
    }
    hash::short(all.to_string().as_bytes())
}

/// In which respects two runs' plans differ, in words.
pub(crate) fn differences(before: &RunRecord, now: &RunRecord) -> Vec<String> {
    let mut differences = vec![];
    let mut note = |differs: bool, what: &str| {
        if differs {
            differences.push(what.to_owned());
        }
    };
    note(before.config != now.config, "the config");
    note(before.model.hash != now.model.hash, "the model");
    let ids = |run: &RunRecord| run.cells.iter().map(|cell| cell.id.clone()).collect::<Vec<_>>();
    note(before.config == now.config && before.model.hash == now.model.hash && ids(before) != ids(now), "the cells");
    let fact =
        |run: &RunRecord, name: &str| run.environment.facts.iter().find(|fact| fact.name == name).and_then(|fact| fact.value.clone());
    note(fact(before, "threads used") != fact(now, "threads used"), "the number of threads");
    note(fact(before, "attention kernels") != fact(now, "attention kernels"), "the kernel path");
    note(before.build != now.build, "the build");
    note(before.against != now.against, "the build that it is compared with");
    note(before.machine_id != now.machine_id, "the machine");
    note(before.part != now.part, "the part of the plan");
    if differences.is_empty() {
        differences.push("the program or its arguments".into());
    }
    differences
}

/// A hash of the machine's own id and its host name, so that results of one machine can be told from another's without naming it:
/// nodes that were cloned share the id. A container has no id of its own; then it is that of the system's start, which all
/// containers of a machine share, whatever their host names.
pub(crate) fn machine_id() -> Option<String> {
    let read = |path: &str| Some(std::fs::read_to_string(path).ok()?.trim().to_owned()).filter(|id| !id.is_empty());
    let host = || read("/proc/sys/kernel/hostname").unwrap_or_default();
    let of_start = || read("/proc/sys/kernel/random/boot_id").map(|id| hashed(&id, ""));
    read("/etc/machine-id").map(|id| hashed(&id, &host())).or_else(of_start)
}

fn hashed(id: &str, host: &str) -> String {
    hash::short(format!("kvlab {id} {host}").trim_end().as_bytes())
}

/// How this program was built.
pub(crate) fn build_record() -> BuildRecord {
    let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    BuildRecord {
        version: env!("CARGO_PKG_VERSION").into(),
        profile: build::PROFILE.into(),
        opt_level: build::OPT_LEVEL.into(),
        target: build::TARGET.into(),
        compiler: known(build::RUSTC),
        commit: known(build::COMMIT),
        dirty: build::DIRTY.parse().ok(),
        program: known(&build::program_hash()),
    }
}

/// The shape of a model.
pub(crate) fn geometry_record(config: &ModelConfig) -> GeometryRecord {
    let Geometry { layers, heads, kv_heads, key_dim, value_dim, context, .. } = config.geometry;
    GeometryRecord { layers, heads, kv_heads, key_dim, value_dim, context, vocabulary: config.vocabulary, parameters: config.weights() }
}

/// What is known of a model before a worker has loaded it.
pub(crate) fn model_record(source: &ModelSource, name: String, hash: String, config: &ModelConfig) -> ModelRecord {
    let weights = source.known_weights();
    ModelRecord {
        name,
        hash: Some(hash),
        geometry: geometry_record(config),
        model_bytes: weights.map_or(0, |(_, bytes)| bytes as u64),
        weight_formats: weights.iter().map(|(format, bytes)| FormatBytes { format: format.to_string(), bytes: *bytes as u64 }).collect(),
        weight_pages: String::new(),
        load_seconds: 0.0,
    }
}

/// The command that runs the same again, quoted for a shell.
fn command(arguments: &RunArguments, kernel_path: Option<KernelPath>, other: Option<Vec<String>>) -> String {
    let RunArguments { config, out, model, only, also, sets, partition, seed, threads, pages, unchecked, .. } = arguments;
    let RunArguments { keep_recordings, against, fail_on, .. } = arguments;
    let mut words = vec![];
    let mut add = |flag: &str, value: &dyn ToString| words.extend([flag.to_owned(), value.to_string()]);
    kernel_path.iter().for_each(|path| add("--kernel-path", path));
    if let Some(other) = other {
        words.extend(other);
        return quoted(words);
    }
    words.extend(["run".to_owned(), config.display().to_string()]);
    let mut add = |flag: &str, value: &dyn ToString| words.extend([flag.to_owned(), value.to_string()]);
    out.iter().for_each(|out| add("--out", &out.display()));
    model.iter().for_each(|model| add("--model", model));
    only.iter().for_each(|only| add("--only", only));
    also.iter().for_each(|also| add("--also", also));
    sets.iter().for_each(|set| add("--set", set));
    partition.iter().for_each(|partition| add("--partition", partition));
    seed.iter().for_each(|seed| add("--seed", seed));
    threads.iter().for_each(|threads| add("--threads", threads));
    against.iter().for_each(|program| add("--against", &program.display()));
    fail_on.iter().for_each(|conditions| add("--fail-on", conditions));
    if *pages == PagesChoice::Ordinary {
        add("--pages", &"ordinary");
    }
    for (is_given, flag) in [(*unchecked, "--unchecked"), (*keep_recordings, "--keep-recordings")] {
        if is_given {
            words.push(flag.into());
        }
    }
    quoted(words)
}

/// The command with these words after the program's, quoted for a shell.
pub(crate) fn quoted(words: impl IntoIterator<Item = String>) -> String {
    let all: Vec<String> = program().into_iter().chain(words).collect();
    shlex::try_join(all.iter().map(String::as_str)).unwrap_or_else(|_| all.join(" "))
}

/// How this program was started: by cargo, which says the package's name, or by its path.
fn program() -> Vec<String> {
    match std::env::var("CARGO_PKG_NAME") {
        Ok(package) => {
            let release: &[&str] = if build::PROFILE == "release" { &["--release"] } else { &[] };
            [&["cargo", "run"], release, &["-p", &package, "--"]].concat().into_iter().map(str::to_owned).collect()
        }
        Err(_) => vec![std::env::args().next().unwrap_or_else(|| "runner".into())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_that_were_cloned_are_told_apart_by_their_names() {
        assert_eq!(machine_id(), machine_id());
        assert_ne!(hashed("id", "node-1"), hashed("id", "node-2"));
        assert_ne!(hashed("id", ""), hashed("other", ""));
    }
}
