//! One run from the parts of a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use kv_report::{
    Build, CellRecord, Environment, Fact, OriginRecord, PartRecord, Pass, RunRecord, RunState, Status, Tolerance, Visit, metric,
};

use crate::{Problem, hash};

/// A part, and the folder that it was found in.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) folder: PathBuf,
    pub(crate) run: RunRecord,
    pub(crate) visits: Vec<Visit>,
}

/// What becomes of a plan of which parts are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Refused,
    /// What is there is joined, and warnings say what is not.
    Allowed,
}

/// Joins parts. The run's cells and visits are in the order of the plan. `command` is what joins them again.
///
/// # Errors
/// A [`Problem`] that names the folders if they hold no parts of one plan, measured with one build and one model, if a part is
/// there twice, unfinished or missing, or if two measurements disagree on what does not depend on the machine.
pub(crate) fn join(mut found: Vec<Found>, missing: Missing, command: String) -> Result<(RunRecord, Vec<Visit>), Problem> {
    found.iter().try_for_each(|each| part_of(each).map(|_| ()))?;
    found.sort_by_key(|each| each.run.part.as_ref().map(|part| part.part));
    let Some(first) = found.first() else { return Err(Problem::new("there is no part to join")) };
    let plan = part_of(first)?.clone();
    found[1..].iter().try_for_each(|other| require_same(first, other))?;
    require_once(&found)?;
    let absent = absent(&found, &plan);
    if missing == Missing::Refused && !absent.is_empty() {
        return Err(Problem::new(absent.join(" ")).help(
            "the command of that part with `--resume` measures it; `--allow-missing` joins what is there, and the report says what is not",
        ));
    }
    require_one_verdict(&found)?;
    require_agreement(&found, &plan)?;
    Ok((record(&found, plan, absent, command), visits(&found)))
}

fn part_of(found: &Found) -> Result<&PartRecord, Problem> {
    found.run.part.as_ref().ok_or_else(|| {
        Problem::new(format!("`{}` holds a whole run, and no part of one", found.folder.display()))
            .help("parts are measured with `run CONFIG --partition PART/PARTS`")
    })
}

/// Refuses parts that were not measured with the same build, the same model and the same plan.
fn require_same(first: &Found, other: &Found) -> Result<(), Problem> {
    let differ = |what: &str, one: String, two: String, help: &str| {
        let (first, other) = (first.folder.display(), other.folder.display());
        Err(Problem::new(format!("`{first}` and `{other}` cannot be joined: {what}, {one} and {two}")).help(help))
    };
    let (one, two) = (&first.run, &other.run);
    if one.build != two.build {
        return differ("they were measured by different builds", build(one), build(two), "all parts must be measured by one program file");
    }
    if one.model.hash != two.model.hash {
        let name = |run: &RunRecord| format!("{} ({})", run.model.name, run.model.hash.as_deref().unwrap_or("unknown"));
        return differ("they measured different models", name(one), name(two), "all parts must measure one model");
    }
    let (one_part, two_part) = (part_of(first)?, part_of(other)?);
    if one_part.of != two_part.of {
        let of = |part: &PartRecord| format!("one of {} parts", part.of);
        return differ(
            "they belong to different partitions",
            of(one_part),
            of(two_part),
            "all parts must have the same `--partition …/PARTS`",
        );
    }
    if one.plan_hash == two.plan_hash && one_part.cells == two_part.cells && one_part.blocks == two_part.blocks {
        return Ok(());
    }
    let what = match () {
        () if one.config != two.config => "the config differs",
        () if one_part.cells != two_part.cells => "the cells differ",
        () => "the text, or arguments such as `--threads`, `--kernel-path` or `--pages`, differ",
    };
    let plans = (format!("plan {}", one.plan_hash), format!("plan {}", two.plan_hash));
    differ(&format!("they belong to different plans ({what})"), plans.0, plans.1, "all parts must come from the same command")
}

fn build(run: &RunRecord) -> String {
    let build = &run.build;
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
    let program: String = known(&build.program).chars().take(16).collect();
    let dirty = if build.dirty == Some(true) { " with uncommitted changes" } else { "" };
    format!("kvlab {} of commit {}{dirty} for {} (program {program})", build.version, known(&build.commit), build.target)
}

/// Refuses a part that is there twice.
fn require_once(found: &[Found]) -> Result<(), Problem> {
    for pair in found.windows(2) {
        let (one, two) = (part_of(&pair[0])?, part_of(&pair[1])?);
        if one.part == two.part {
            let folders = (pair[0].folder.display(), pair[1].folder.display());
            return Err(Problem::new(format!("part {} of {} is there twice, in `{}` and in `{}`", one.part, one.of, folders.0, folders.1))
                .help("leave one of them out"));
        }
    }
    Ok(())
}

/// The parts that are unfinished or not there, in sentences.
fn absent(found: &[Found], plan: &PartRecord) -> Vec<String> {
    let of = plan.of;
    let sentence = |part: u32| match found.iter().find(|each| each.run.part.as_ref().is_some_and(|own| own.part == part)) {
        Some(each) if each.run.state == RunState::Finished => None,
        Some(each) => {
            Some(format!("Part {part} of {of} is unfinished, in `{}`: what it has measured is not all of it.", each.folder.display()))
        }
        None => {
            let blocks: Vec<&str> = plan.blocks.iter().filter(|block| block.part == part).map(|block| block.name.as_str()).collect();
            let blocks = if blocks.is_empty() { "none".to_owned() } else { blocks.join("; ") };
            Some(format!("Part {part} of {of} is missing: its blocks were not measured ({blocks})."))
        }
    };
    (1..=of).filter_map(sentence).collect()
}

/// Refuses a strategy that passes the conformance suite in one part and fails it in another.
fn require_one_verdict(found: &[Found]) -> Result<(), Problem> {
    let mut passed: BTreeMap<(&str, bool), (bool, &Found)> = BTreeMap::new();
    for each in found {
        for gate in each.visits.iter().filter(|visit| visit.pass == Pass::Gate) {
            let has_passed = gate.status == Status::Ok;
            let (before, other) = *passed.entry((&gate.cell, is_other(gate))).or_insert((has_passed, each));
            if before != has_passed {
                let (well, badly) = if before { (other, each) } else { (each, other) };
                let message = format!(
                    "`{}` passed the conformance suite in `{}` and failed it in `{}`",
                    gate.cell,
                    well.folder.display(),
                    badly.folder.display()
                );
                return Err(
                    Problem::new(message).help("a guarantee does not depend on the machine: find out why, and measure the part again")
                );
            }
        }
    }
    Ok(())
}

/// Refuses measurements of the same cell that are farther apart than their metric allows: what does not depend on the machine is
/// the same in all of them.
fn require_agreement(found: &[Found], plan: &PartRecord) -> Result<(), Problem> {
    let mut known: BTreeMap<(&str, bool, Pass, &str), (f64, &Found)> = BTreeMap::new();
    for each in found {
        for visit in each.visits.iter().filter(|visit| visit.status == Status::Ok) {
            for (id, value) in &visit.values {
                let Some(tolerance) = metric(id).and_then(|metric| metric.tolerance) else { continue };
                let tolerance = Tolerance { absolute: tolerance.absolute + one_answer(id, visit), ..tolerance };
                let (before, other) = *known.entry((&visit.cell, is_other(visit), visit.pass, id)).or_insert((*value, each));
                if !tolerance.covers(before, *value) {
                    let cell = plan.cells.iter().find(|cell| cell.id == visit.cell);
                    let cell = cell.map_or_else(|| visit.cell.clone(), |cell| format!("{} at {}", cell.label, cell.seq_len));
                    let (one, two) = (other.folder.display(), each.folder.display());
                    let message =
                        format!("`{id}` of {cell} is {before} in `{one}` and {value} in `{two}`: it does not depend on the machine");
                    return Err(Problem::new(message).help(format!(
                        "it may differ by {} and by {} % of it; find out why, and measure one of the parts again",
                        tolerance.absolute,
                        tolerance.relative * 100.0
                    )));
                }
            }
        }
    }
    Ok(())
}

/// What a share of answers changes by if one of them is another: kernels that add in another order decide what is nearly tied.
/// Nothing for other numbers.
fn one_answer(id: &str, visit: &Visit) -> f64 {
    /// Planted needles are few.
    const OF_NEEDLES: f64 = 0.05;
    let one_of = |count: &str| visit.values.get(count).filter(|count| **count >= 1.0).map_or(0.0, |count| count.recip());
    match id {
        "needle_acc" | "needle_acc_dense" | "needle_acc_tight" | "recency_acc" | "start_acc" => OF_NEEDLES,
        "same_top1" | "tied_top1" => one_of("quality_tokens"),
        "streamed_same_top1" | "streamed_tied_top1" => one_of("streamed_tokens"),
        "model_needle_acc" | "model_needle_acc_dense" => one_of("model_needle_questions"),
        "lookup_acc" | "lookup_acc_dense" => one_of("lookup_questions"),
        _ => 0.0,
    }
}

/// Whether a visit is of the build that took turns with the run's own.
fn is_other(visit: &Visit) -> bool {
    visit.build == Build::Other
}

/// The visits of all parts, in the order of the plan: cells that could not be measured, the conformance suite, blocks.
fn visits(found: &[Found]) -> Vec<Visit> {
    let Some(plan) = found.first().and_then(|first| first.run.part.as_ref()) else { return vec![] };
    let place = |name: &str| plan.blocks.iter().position(|block| block.name == name).map(|at| at + 2);
    let block_of = |visit: &Visit| plan.cells.iter().find(|cell| cell.id == visit.cell).map(|cell| cell.block.clone());
    let rank = |visit: &Visit| match visit.pass {
        Pass::Gate => 1,
        _ => visit.block.clone().or_else(|| block_of(visit)).and_then(|block| place(&block)).unwrap_or(0),
    };
    let mut checked = BTreeSet::new();
    let mut visits: Vec<Visit> = found.iter().flat_map(|each| each.visits.clone()).collect();
    // All parts have checked the strategies, and agree on them.
    visits.retain(|visit| visit.pass != Pass::Gate || checked.insert((visit.cell.clone(), is_other(visit))));
    visits.sort_by_key(rank);
    visits
}

/// The record of the whole run.
fn record(found: &[Found], plan: PartRecord, absent: Vec<String>, command: String) -> RunRecord {
    let first = &found[0].run;
    let runs = || found.iter().map(|each| &each.run);
    let ids: Vec<&str> = runs().map(|run| run.run_id.as_str()).collect();
    let run_id = hash::short(ids.join(" ").as_bytes());
    let is_whole = absent.is_empty();
    let one_machine = runs().all(|run| run.machine_id == first.machine_id && run.origins.is_empty());
    let mut warnings = absent;
    warnings.extend(all_warnings(found));
    RunRecord {
        order_seed: hash::number(run_id.as_bytes()),
        run_id,
        machine_id: first.machine_id.clone().filter(|_| one_machine),
        state: if is_whole { RunState::Finished } else { RunState::Interrupted },
        started: runs().map(|run| run.started.clone()).min_by_key(|time| moment(time)).unwrap_or_default(),
        finished: runs().filter_map(|run| run.finished.clone()).max_by_key(|time| moment(time)).filter(|_| is_whole),
        command,
        warnings,
        environment: common(&runs().map(|run| &run.environment).collect::<Vec<_>>()),
        // A part that measured nothing loaded none.
        model: runs().map(|run| &run.model).find(|model| !model.weight_pages.is_empty()).unwrap_or(&first.model).clone(),
        seconds: seconds(runs().map(|run| &run.seconds)),
        origins: runs().flat_map(origins).collect(),
        part: None,
        cells: plan.cells,
        ..first.clone()
    }
}

/// Seconds of the processes of all parts.
fn seconds<'a>(parts: impl Iterator<Item = &'a BTreeMap<String, f64>>) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for (kind, seconds) in parts.flatten() {
        *all.entry(kind.clone()).or_default() += seconds;
    }
    all
}

/// Where the blocks of a part were timed.
fn origins(run: &RunRecord) -> Vec<OriginRecord> {
    let mut own: Vec<String> = run.cells.iter().map(|cell: &CellRecord| cell.block.clone()).collect();
    own.dedup();
    own.retain(|block| run.origin_of(block).is_none());
    let here = OriginRecord {
        part: run.part.as_ref().map(|part| part.part),
        run_id: run.run_id.clone(),
        order_seed: run.order_seed,
        machine_id: run.machine_id.clone(),
        environment: run.environment.clone(),
        blocks: own,
    };
    run.origins.iter().cloned().chain([here]).filter(|origin| !origin.blocks.is_empty()).collect()
}

/// What all machines have in common. What differs is with each origin.
fn common(environments: &[&Environment]) -> Environment {
    let Some((first, others)) = environments.split_first() else { return Environment::default() };
    let facts = first.facts.iter().map(|fact| match others.iter().all(|other| other.facts.contains(fact)) {
        true => fact.clone(),
        false => Fact { name: fact.name.clone(), value: None, reason: Some("not the same in all parts; run.json has it of each".into()) },
    });
    Environment { facts: facts.collect() }
}

/// The warnings of all parts: those that all have once, and others with their part.
fn all_warnings(found: &[Found]) -> Vec<String> {
    let is_common = |warning: &String| found.iter().all(|each| each.run.warnings.contains(warning));
    let mut warnings: Vec<String> = found[0].run.warnings.iter().filter(|warning| is_common(warning)).cloned().collect();
    for run in found.iter().map(|each| &each.run) {
        let part = run.part.as_ref().map_or(0, |part| part.part);
        warnings.extend(run.warnings.iter().filter(|warning| !is_common(warning)).map(|warning| format!("Part {part}: {warning}")));
    }
    warnings
}

/// A time of a record, to compare it with others. One that cannot be read goes first.
fn moment(time: &str) -> Option<jiff::Timestamp> {
    jiff::Timestamp::strptime("%Y-%m-%d %H:%M:%S %:z", time).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use kv_report::{AssignedBlock, BuildRecord, ModelRecord, SCHEMA_VERSION};
    use serde_json::json;

    use super::*;

    /// One of two parts, with numbers of the quality of a cell that both have measured.
    pub(crate) fn part(number: u32, values: &[(&str, f64)]) -> Found {
        let block = |part: u32| AssignedBlock { name: format!("decode at {part}"), part };
        let cells =
            [CellRecord { id: "a".into(), label: "paged".into(), seq_len: 1, block: "decode at 1".into(), ..CellRecord::default() }];
        let run = json!({
            "schema": SCHEMA_VERSION,
            "run_id": format!("run {number}"),
            "plan_hash": "plan",
            "machine_id": format!("machine {number}"),
            "state": RunState::Finished,
            "title": "",
            "started": "2026-11-26 03:00:00 +00:00",
            "finished": "2026-11-26 03:05:00 +00:00",
            "command": "",
            "warnings": [],
            "seconds": { "latency": 1.5, format!("only in {number}"): 1.0 },
            "memory_limit_bytes": 0,
            "environment": Environment::default(),
            "build": BuildRecord::default(),
            "model": ModelRecord::default(),
            "config": {},
            "cells": cells,
            "part": PartRecord { part: number, of: 2, blocks: vec![block(1), block(2)], cells: cells.to_vec() },
        });
        let values = values.iter().map(|(id, value)| ((*id).to_owned(), *value)).collect();
        let visit = Visit { values, ..Visit::passed("a", Pass::Quality) };
        Found { folder: format!("part-{number}").into(), run: serde_json::from_value(run).unwrap(), visits: vec![visit] }
    }

    fn joined(one: &[(&str, f64)], two: &[(&str, f64)]) -> Result<(RunRecord, Vec<Visit>), Problem> {
        join(vec![part(1, one), part(2, two)], Missing::Refused, String::new())
    }

    #[test]
    fn quality_is_joined_within_its_tolerance() {
        let tokens = ("quality_tokens", 100.0);
        for (id, one, two, far) in [
            ("kld_mean", 0.1, 0.10005, 0.102),
            ("kld_max", 2.0, 2.05, 2.5),
            ("ppl", 3.0, 3.001, 3.1),
            ("ppl_delta", 0.001, 0.009, 0.05),
            ("same_top1", 0.95, 0.96, 0.98),
            ("needle_acc", 0.9, 0.86, 0.8),
            ("first_difference_tokens", 12.0, 13.0, 14.0),
            ("quality_windows", 8.0, 8.0, 9.0),
            ("attn_rel_l2", 0.02, 0.02001, 0.021),
        ] {
            let (_, visits) = joined(&[(id, one), tokens], &[(id, two), tokens]).unwrap();
            assert_eq!(visits.len(), 2, "{id}");
            let problem = joined(&[(id, one), tokens], &[(id, far), tokens]).unwrap_err().to_string();
            assert!(problem.contains(&format!("`{id}` of paged at 1 is {one} in `part-1` and {far} in `part-2`")), "{problem}");
        }
        assert!(joined(&[("kld_floor", 1e-12)], &[("kld_floor", 1e-7)]).is_ok(), "of threads, which machines do not share");
    }

    #[test]
    fn seconds_are_those_of_all_parts() {
        let (run, _) = joined(&[], &[]).unwrap();
        let all: Vec<(&str, f64)> = run.seconds.iter().map(|(kind, seconds)| (kind.as_str(), *seconds)).collect();
        assert_eq!(all, [("latency", 3.0), ("only in 1", 1.0), ("only in 2", 1.0)]);
    }
}
