//! From the visits of a run to its rows: one per cell.

use std::collections::BTreeMap;

use kv_metrics::{geometric_mean, quantile};
use kv_report::{CellRecord, Fill, Level, Pass, Place, Row, RunRecord, Status, StepTime, TOLD_BEFORE, Value, Visit};

use super::cell_launches::Launches;
use super::level::add_level;
use super::observations::{Part, steady_steps};
use super::workload_values::workload_values;
use crate::config::Workload;

/// The row of a cell. `None` if it was not timed.
pub(super) fn row(run: &RunRecord, cell: &CellRecord, visits: &[Visit]) -> Option<Row> {
    let of_gate = visits.iter().find(|visit| visit.pass == Pass::Gate && visit.cell == cell.label);
    let of = |pass: Pass| visits.iter().filter(move |visit| visit.pass == pass && visit.cell == cell.id && !visit.control);
    let machine = run.machine_of(&cell.block);
    let mut row = Row { cell: cell.clone(), model: run.model.name.clone(), machine, ..Row::default() };
    if run.level == Level::Model {
        row.values.insert("model_bytes".into(), Value::from(run.model.model_bytes as f64));
    }
    if let Some(gate) = of_gate.filter(|gate| gate.status != Status::Ok) {
        fail(&mut row, gate);
        // What the suite found may be long, and is the same for all cells of a strategy: the first one has it.
        let first = run.cells.iter().find(|other| other.label == cell.label).filter(|first| first.id != cell.id);
        row.error = match first {
            Some(first) => Some(format!("{TOLD_BEFORE} {}", Place::of(first))),
            None => gate.error.as_ref().map(|error| format!("not timed: {error}")),
        };
        return Some(row);
    }
    // The check of a composed time is no part of the cell.
    if let Some(failed) = of(Pass::Latency).chain(of(Pass::Memory)).find(|visit| visit.status != Status::Ok) {
        fail(&mut row, failed);
    }
    let Launches { all, counted: launches } = Launches::of(cell, visits);
    let memory = of(Pass::Memory).find(|visit| visit.status == Status::Ok);
    let text = of(Pass::Text).find(|visit| visit.status == Status::Ok);
    if row.status == Status::Ok && launches.is_empty() {
        return None;
    }
    if row.status == Status::Ok && memory.is_none() {
        row.notes.push("bytes were not counted: the run was interrupted before".into());
    }
    if let Some(first) = launches.first() {
        row.guarantee.clone_from(&first.guarantee);
        row.fill = first.fill;
        if !has_model(&row, run) {
            row.values.remove("model_bytes");
        }
        row.ttft_source = all.iter().find_map(|visit| visit.ttft_source);
    }
    let judged: Vec<&Visit> = of(Pass::Attention).chain(of(Pass::Quality)).collect();
    let (well, badly): (Vec<&Visit>, Vec<&Visit>) = judged.into_iter().partition(|visit| visit.status == Status::Ok);
    for visit in badly {
        let what = if visit.pass == Pass::Attention { "attention was not compared" } else { "the text was not read" };
        row.notes.push(format!("{what}: {}", visit.error.as_deref().unwrap_or("no reason")));
    }
    for visit in launches.iter().copied().chain(memory).chain(text).chain(well.iter().copied()) {
        row.notes.extend(visit.notes.iter().filter(|note| !row.notes.contains(note)).cloned().collect::<Vec<_>>());
    }
    row.launches = launches.len();
    row.workload = workload_values(launches.iter().copied().chain(memory));
    add_values(&mut row, &all, memory.into_iter().chain(text).chain(well));
    add_times(&mut row, run, &launches);
    add_working_set(&mut row);
    add_level(&mut row, run);
    if let Some(check) = of(Pass::Check).next() {
        add_check(&mut row, check);
    }
    Some(row)
}

/// Whether a model fed the caches of a row that was timed.
fn has_model(row: &Row, run: &RunRecord) -> bool {
    run.level == Level::Model && row.fill != Some(Fill::Generated)
}

/// Takes over how a pass failed.
fn fail(row: &mut Row, visit: &Visit) {
    row.status = visit.status;
    row.phase.clone_from(&visit.phase);
    row.error.clone_from(&visit.error);
}

/// What launches and the passes over memory say: of several launches the median.
fn add_values<'v>(row: &mut Row, launches: &[&'v Visit], others: impl Iterator<Item = &'v Visit>) {
    let mut by_id: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    // Filling with attention takes longer than filling without: the launches that attended are comparable.
    let attended = launches.iter().any(|visit| visit.ttft_source.is_some());
    let is_comparable =
        |visit: &Visit, id: &str| id != "fill_ms" || !attended || visit.pass != Pass::Latency || visit.ttft_source.is_some();
    let mut intervals = BTreeMap::new();
    for visit in launches.iter().copied().chain(others) {
        intervals.extend(&visit.intervals);
        for (id, value) in visit.values.iter().filter(|(id, _)| is_comparable(visit, id)) {
            by_id.entry(id).or_default().push(*value);
        }
    }
    for (id, values) in by_id {
        let Some(median) = quantile(&values, 0.5) else { continue };
        let statistic = (values.len() > 1).then(|| "p50".to_owned());
        let interval = intervals.get(&id.to_owned()).map(|interval| **interval);
        row.values.insert(id.into(), Value { statistic, samples: Some(values.len()), interval, ..Value::from(median) });
    }
}

/// The share by which a composed time may be off a real one. Beyond it, the row says so.
pub(crate) const MOST_OFF: f64 = 0.1;

/// How far a real prefill is from the composed time.
fn add_check(row: &mut Row, check: &Visit) {
    let Some(real) = check.values.get("ttft_real_ms").copied() else {
        let reason = check.error.as_deref().unwrap_or("no reason");
        row.notes.push(format!("the composed time to first token was not checked: {reason}"));
        return;
    };
    row.values.insert("ttft_real_ms".into(), Value::from(real));
    if let Some(composed) = row.value("ttft_ms").filter(|composed| (composed / real - 1.0).abs() > MOST_OFF) {
        row.notes.push(format!("the composed time to first token is {:.2} times that of a real prefill", composed / real));
    }
}

/// With fewer steps the 95th percentile is next to the maximum.
const LEAST_FOR_P95: usize = 60;

/// Medians and percentiles of the decode steps, over all launches.
fn add_times(row: &mut Row, run: &RunRecord, launches: &[&Visit]) {
    let decode = |part: fn(&StepTime) -> f64| -> Vec<f64> { launches.iter().flat_map(|visit| steady_steps(visit)).map(part).collect() };
    let steps = decode(|step| step.step_ms);
    for (id, samples, quantile_of, name) in [
        ("tpot_ms_p50", steps.clone(), 0.5, "p50"),
        ("tpot_ms_p95", steps, 0.95, "p95"),
        ("cache_ms_p50", decode(|step| step.cache_ms), 0.5, "p50"),
        ("seam_ms_p50", decode(|step| step.seam_ms), 0.5, "p50"),
        ("model_ms_p50", decode(|step| step.step_ms - step.cache_ms - step.seam_ms), 0.5, "p50"),
    ] {
        if id == "model_ms_p50" && !has_model(row, run) {
            continue;
        }
        // So that at least three steps are above it.
        let is_in_the_tail = quantile_of > 0.5;
        if is_in_the_tail && samples.len() < LEAST_FOR_P95 {
            continue;
        }
        if let Some(value) = quantile(&samples, quantile_of) {
            row.values.insert(id.into(), Value { statistic: Some(name.into()), samples: Some(samples.len()), ..Value::from(value) });
        }
    }
    for (id, part) in [("tpot_ms_p50", Part::Step), ("cache_ms_p50", Part::Cache), ("model_ms_p50", Part::Model)] {
        let medians = launches.iter().filter_map(|visit| part.median(visit));
        if let (Some((mean, interval)), Some(value)) = (geometric_mean(&medians.collect::<Vec<_>>()), row.values.get_mut(id)) {
            value.value = mean;
            value.interval = Some(interval);
            value.statistic = Some("p50, geometric mean over launches".into());
        }
    }
    let began_late =
        launches.iter().filter(|visit| steady_steps(visit).map(|step| step.round).min().is_some_and(|round| round > 0)).count();
    if began_late > 0 {
        let all = launches.len();
        row.notes.push(format!("in {began_late} of {all} launches the first rounds were not steady yet, and are left out"));
    }
    let depths = || launches.iter().flat_map(|visit| steady_steps(visit)).map(|step| step.position);
    if let (Some(first), Some(last)) = (depths().min(), depths().max()) {
        row.values.insert("first_depth_tokens".into(), Value::from(first as f64));
        row.values.insert("last_depth_tokens".into(), Value::from(last as f64));
    }
    if let (Some(live), Some(seen)) = (row.value("heap_live_bytes"), row.value("seen_tokens")) {
        row.values.insert("bytes_per_token".into(), Value::from(live / seen.max(1.0)));
    }
    // Caches alone decode nothing, and not every script decodes a batch.
    let decodes = Workload::ALL.iter().filter(|workload| !workload.decodes_batches()).all(|workload| workload.name() != row.cell.workload);
    if let Some(tpot) = row.value("tpot_ms_p50").filter(|_| run.level == Level::Model && decodes) {
        row.values.insert("tokens_per_s".into(), Value::from(row.cell.batch as f64 * 1e3 / tpot));
    }
    if let Some(first) = launches.first() {
        row.values.insert("total_ms".into(), Value::from(first.steps.iter().map(|step| step.step_ms).sum::<f64>()));
    }
}

/// What a step reads, as far as it is known.
fn add_working_set(row: &mut Row) {
    if let Some(read) = row.value("read_bytes").or(row.value("payload_bytes")) {
        let model = row.value("model_bytes").unwrap_or(0.0);
        row.values.insert("working_set_bytes".into(), Value::from(model + read));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use kv_report::{RunState, SCHEMA_VERSION, TtftSource};

    use super::super::results;
    use super::*;

    pub(in crate::sweep) fn run() -> RunRecord {
        let cell = |id: &str, label: &str| CellRecord {
            id: id.into(),
            label: label.into(),
            workload: "decode".into(),
            seq_len: 8,
            batch: 2,
            ..CellRecord::default()
        };
        RunRecord {
            schema: SCHEMA_VERSION,
            run_id: String::new(),
            plan_hash: String::new(),
            machine_id: None,
            state: RunState::Running,
            title: String::new(),
            started: String::new(),
            finished: None,
            command: String::new(),
            warnings: vec![],
            seconds: BTreeMap::new(),
            margin: 0.03,
            order_seed: 0,
            memory_limit_bytes: 0,
            environment: kv_report::Environment::default(),
            build: kv_report::BuildRecord::default(),
            against: None,
            level: Level::Model,
            model: kv_report::ModelRecord::default(),
            config: serde_json::Value::Null,
            cells: vec![cell("a", "first"), cell("b", "second")],
            part: None,
            origins: vec![],
        }
    }

    fn step(step: usize, step_ms: f64) -> StepTime {
        StepTime { phase: "decode".into(), step, round: 0, warm_up: step == 0, position: 9 + step, step_ms, cache_ms: 0.25, seam_ms: 0.5 }
    }

    fn timed(launch: u32, times: &[f64], ttft: Option<f64>) -> Visit {
        let mut visit = Visit { launch, ..Visit::passed("a", Pass::Latency) };
        visit.steps = times.iter().enumerate().map(|(index, time)| step(index, *time)).collect();
        visit.values.insert("seen_tokens".into(), 20.0);
        visit.values.extend(ttft.map(|ttft| ("ttft_ms".to_owned(), ttft)));
        visit.ttft_source = ttft.map(|_| TtftSource::Composed);
        visit
    }

    fn counted(bytes: f64) -> Visit {
        let mut visit = Visit::passed("a", Pass::Memory);
        visit.values.insert("heap_live_bytes".into(), bytes);
        visit
    }

    #[test]
    fn the_first_step_of_each_launch_is_left_out_of_the_medians() {
        let visits = [timed(0, &[9.0, 1.0, 2.0], Some(30.0)), timed(1, &[8.0, 3.0, 4.0], None), counted(640.0)];
        let rows = results(&run(), &visits).rows;
        assert_eq!(rows.len(), 1, "the second cell was not timed");
        let row = &rows[0];
        assert_eq!(row.value("tpot_ms_p50"), Some(2.5));
        assert_eq!(row.values["tpot_ms_p50"].samples, Some(4));
        assert_eq!(row.value("model_ms_p50"), Some(1.75));
        assert_eq!((row.value("cache_ms_p50"), row.value("seam_ms_p50")), (Some(0.25), Some(0.5)));
        assert_eq!(row.value("tokens_per_s"), Some(800.0), "of the whole batch");
        assert_eq!((row.value("ttft_ms"), row.ttft_source), (Some(30.0), Some(TtftSource::Composed)));
        assert_eq!(row.value("bytes_per_token"), Some(32.0));
        assert_eq!(row.value("total_ms"), Some(12.0));
        assert!(row.notes.is_empty() && row.status == Status::Ok);
    }

    /// Two of eight layers were measured.
    #[test]
    fn rows_of_caches_alone_have_no_model_and_the_numbers_of_all_layers() {
        let mut run = run();
        run.level = Level::Attention { rows: kv_report::RowsOrigin::Generated, seed: 7, measured_layers: 2 };
        run.model.geometry.layers = 8;
        run.model.geometry.context = 10;
        let mut visit = timed(0, &[9.0, 1.0, 2.0], None);
        visit.values.extend([("read_bytes".to_owned(), 64.0), ("last_level_cache_bytes".to_owned(), 100.0)]);
        let rows = |run: &RunRecord| results(run, &[visit.clone(), counted(640.0)]).rows.remove(0);
        let row = rows(&run);
        assert_eq!((row.value("tpot_ms_p50"), row.values["tpot_ms_p50"].samples), (Some(6.0), Some(2)));
        assert_eq!((row.value("cache_ms_p50"), row.value("heap_live_bytes")), (Some(1.0), Some(2560.0)));
        assert_eq!((row.value("bytes_per_token"), row.value("read_bytes"), row.value("total_ms")), (Some(128.0), Some(256.0), Some(48.0)));
        assert_eq!((row.value("seen_tokens"), row.value("working_set_bytes"), row.residency()), (Some(20.0), Some(64.0), "resident"));
        for absent in ["model_ms_p50", "model_bytes", "tokens_per_s", "model_ratio"] {
            assert_eq!(row.value(absent), None, "{absent}");
        }
        assert_eq!(
            row.notes,
            [
                "attention level: no model; rows generated with seed 7",
                "2 of 8 layers were measured; times and bytes are scaled by 4",
                "beyond the model's context of 10 tokens",
            ]
        );
        run.level = Level::Attention { rows: kv_report::RowsOrigin::Generated, seed: 7, measured_layers: 8 };
        run.model.geometry.context = 11;
        let row = rows(&run);
        assert_eq!((row.value("tpot_ms_p50"), row.notes.len()), (Some(1.5), 1));
    }

    /// 2 of 8 layers were measured, and what the allocator keeps and nobody explains is the same for all 8.
    #[test]
    fn the_ledger_of_all_layers_adds_up() {
        let mut run = run();
        run.level = Level::Attention { rows: kv_report::RowsOrigin::Generated, seed: 7, measured_layers: 2 };
        run.model.geometry.layers = 8;
        let mut visit = counted(640.0);
        for (id, bytes) in [
            ("usage_bytes", 600.0),
            ("ledger_residual_bytes", 40.0),
            ("untouched_bytes", 100.0),
            ("allocator_kept_bytes", 30.0),
            ("rss_residual_bytes", -7.0),
            ("rss_bytes", 563.0),
            ("pss_bytes", 560.0),
            ("transient_peak_prefill_bytes", 50.0),
            ("transient_peak_decode_bytes", 60.0),
            ("scratch_peak_bytes", 70.0),
        ] {
            visit.values.insert(id.into(), bytes);
        }
        let row = results(&run, &[timed(0, &[9.0, 1.0], None), visit]).rows.remove(0);
        let value = |id: &str| row.value(id).unwrap();
        assert_eq!(["usage_bytes", "heap_live_bytes", "untouched_bytes"].map(value), [2400.0, 2560.0, 400.0]);
        assert_eq!(["transient_peak_prefill_bytes", "transient_peak_decode_bytes"].map(value), [50.0, 60.0]);
        assert_eq!(["allocator_kept_bytes", "rss_residual_bytes", "scratch_peak_bytes"].map(value), [30.0, -7.0, 280.0]);
        assert_eq!(value("heap_live_bytes"), value("usage_bytes") + value("ledger_residual_bytes"));
        let explained = value("heap_live_bytes") + value("allocator_kept_bytes") - value("untouched_bytes");
        assert_eq!(value("rss_bytes"), explained + value("rss_residual_bytes"));
        assert_eq!(value("pss_bytes"), value("rss_bytes") - 4.0 * 3.0);
    }

    #[test]
    fn a_composed_time_is_held_against_a_real_prefill() {
        let mut check = Visit::passed("a", Pass::Check);
        let row = |check: &Visit| results(&run(), &[timed(0, &[9.0, 1.0], Some(30.0)), counted(1.0), check.clone()]).rows.remove(0);
        check.values.insert("ttft_real_ms".into(), 31.0);
        assert!(row(&check).notes.is_empty() && row(&check).value("ttft_real_ms") == Some(31.0));
        check.values.insert("ttft_real_ms".into(), 40.0);
        assert_eq!(row(&check).notes, ["the composed time to first token is 0.75 times that of a real prefill"]);
        let failed = Visit::failed("a", Pass::Check, Status::Failed, "real prefill", "no more");
        assert_eq!((row(&failed).status, row(&failed).notes.len()), (Status::Ok, 1));
    }

    /// Only one launch measures it.
    #[test]
    fn the_time_to_first_token_of_a_disturbed_launch_counts() {
        let mut run = run();
        run.cells[0].block = "block".into();
        run.cells[0].baseline = Some("a".into());
        let mut visits: Vec<Visit> = (0..4).map(|launch| in_turn("a", launch, 1.0)).collect();
        visits[0].values.extend([("run_delay_share".to_owned(), 0.5), ("ttft_ms".to_owned(), 30.0)]);
        visits[0].ttft_source = Some(TtftSource::Composed);
        let row = results(&run, &visits).rows.remove(0);
        assert_eq!((row.launches, row.value("ttft_ms"), row.ttft_source), (3, Some(30.0), Some(TtftSource::Composed)));
    }

    #[test]
    fn filling_with_attention_is_not_mixed_with_filling_without() {
        let (mut attended, mut plain) = (timed(0, &[9.0, 1.0], Some(30.0)), timed(1, &[9.0, 1.0], None));
        attended.values.insert("fill_ms".into(), 100.0);
        plain.values.insert("fill_ms".into(), 2.0);
        assert_eq!(results(&run(), &[attended, plain, counted(1.0)]).rows[0].value("fill_ms"), Some(100.0));
    }

    /// The baseline is timed again beside those that did not fit beside it before.
    #[test]
    fn a_second_visit_of_the_same_launch_does_not_count() {
        let visits = [timed(0, &[9.0, 1.0], None), timed(0, &[9.0, 5.0], None), counted(1.0)];
        assert_eq!(results(&run(), &visits).rows[0].value("tpot_ms_p50"), Some(1.0));
    }

    #[test]
    fn a_failure_is_the_rows_and_what_was_measured_stays() {
        let failed = Visit::failed("a", Pass::Memory, Status::Oom, "count bytes", "no more");
        let row = results(&run(), &[timed(0, &[9.0, 1.0], None), failed]).rows.remove(0);
        assert_eq!((row.status, row.phase.as_deref(), row.error.as_deref()), (Status::Oom, Some("count bytes"), Some("no more")));
        assert_eq!(row.value("tpot_ms_p50"), Some(1.0));
        // Both cells are of strategies that the suite has judged.
        let gate = Visit::failed("second", Pass::Gate, Status::Failed, "guarantee_holds", "wrong");
        let row = results(&run(), std::slice::from_ref(&gate)).rows.remove(0);
        assert_eq!(row.cell.id, "b");
        assert_eq!(row.error.as_deref(), Some("not timed: wrong"));
        let mut run = run();
        let longer = CellRecord { id: "longer".into(), seq_len: 4096, ..run.cells[1].clone() };
        let place = Place::of(&run.cells[1]);
        run.cells.push(longer);
        let errors: Vec<String> = results(&run, &[gate]).rows.into_iter().filter_map(|row| row.error).collect();
        assert_eq!(errors, ["not timed: wrong".to_owned(), format!("{TOLD_BEFORE} {place}")]);
    }

    #[test]
    fn a_cell_whose_bytes_were_not_counted_says_so() {
        let row = results(&run(), &[timed(0, &[9.0, 1.0], None)]).rows.remove(0);
        assert!(row.notes[0].contains("bytes were not counted"), "{:?}", row.notes);
    }

    /// A visit in the block of the two cells, in a process of its launch.
    fn in_turn(cell: &str, launch: u32, ms: f64) -> Visit {
        let mut visit =
            Visit { cell: cell.into(), block: Some("block".into()), process: Some(launch), ..timed(launch, &[9.0, ms, ms], None) };
        visit.values.extend([("read_bytes".to_owned(), 1e6), ("read_bandwidth".to_owned(), 1e10)]);
        visit
    }

    #[test]
    fn a_row_says_how_it_compares_and_what_its_numbers_are_worth() {
        let mut run = run();
        run.cells.iter_mut().for_each(|cell| {
            cell.block = "block".into();
            cell.baseline = Some("a".into());
        });
        let launch = |launch: u32, noise: f64| {
            let control = Visit { control: true, ..in_turn("a", launch, 1.0 - noise) };
            [in_turn("a", launch, 1.0), in_turn("b", launch, 1.5 + noise), control]
        };
        let visits: Vec<Visit> = [launch(0, 0.001), launch(1, 0.0), launch(2, 0.002), launch(3, 0.001)].concat();
        let rows = results(&run, &visits).rows;
        let ratio = &rows[1].values["tpot_ratio"];
        assert!((ratio.value - 1.501).abs() < 1e-3 && ratio.interval.unwrap().0 > 1.49, "{ratio:?}");
        assert_eq!((ratio.verdict.as_deref(), ratio.samples), (Some("slower"), Some(4)));
        assert_eq!(rows[0].values["control_tpot_ratio"].verdict.as_deref(), Some("same"));
        assert!(!rows[0].values.contains_key("tpot_ratio"), "the baseline is not compared with itself");
        assert_eq!(rows[0].launches, 4, "the control is no launch of its own");
        // The cache's part is 0.25 ms of every step, so 4 GB are read a second of 10.
        assert!((rows[1].value("bandwidth_share").unwrap() - 0.4).abs() < 1e-9);
        // 1.5 − 0.25 − 0.5 over 1 − 0.25 − 0.5: the work is the same.
        assert!(rows[1].notes.iter().any(|note| note.starts_with("the model's part took 3.0")), "{:?}", rows[1].notes);
        assert!(rows[0].notes.iter().all(|note| !note.contains("model's part")));
        let few = results(&run, &visits[..6]).rows;
        let ratio = &few[1].values["tpot_ratio"];
        assert_eq!((ratio.interval, ratio.verdict.as_ref()), (None, None));
        assert_eq!(ratio.reason.as_deref(), Some("too few launches for a verdict: 2, and 3 are needed"));
    }
}
