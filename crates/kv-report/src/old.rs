//! Results of version 1: `results.json` and `samples.csv`. They are read to be drawn again.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::run::{default_margin, require_schema};
use crate::spreadsheet::of_text;
use crate::{
    BuildRecord, CellRecord, Environment, FormatBytes, Level, ModelRecord, Pass, ReportError, Results, Row, RunRecord, RunState, Status,
    StepTime, Value, Visit, metric,
};

/// The version of these files.
const SCHEMA: u32 = 1;
/// The name of the file, for messages.
const FILE: &str = "results.json";

/// Reads results of version 1. What that version did not record is empty or `None`.
///
/// # Errors
/// [`ReportError::Schema`] names a schema that this version does not read, [`ReportError::Json`] and [`ReportError::Csv`]
/// say what is wrong and where, and [`ReportError::UnknownMetric`] names a number that no version had.
pub fn read_old(results_json: &[u8], samples_csv: &[u8]) -> Result<Results, ReportError> {
    require_schema(FILE, results_json, SCHEMA)?;
    let old: OldResults = serde_json::from_slice(results_json).map_err(|source| ReportError::Json { file: FILE, source })?;
    let model_name = old.rows.first().map(|row| row.model.clone()).unwrap_or_default();
    let rows = old.rows.into_iter().map(OldRow::into_row).collect::<Result<Vec<_>, _>>()?;
    let mut environment = old.environment;
    let build = build(&mut environment);
    let run = RunRecord {
        schema: SCHEMA,
        run_id: String::new(),
        plan_hash: String::new(),
        machine_id: None,
        state: if old.complete { RunState::Finished } else { RunState::Interrupted },
        title: old.title,
        started: old.started,
        finished: None,
        command: old.command,
        margin: default_margin(),
        order_seed: 0,
        memory_limit_bytes: 0,
        warnings: old.warnings,
        seconds: BTreeMap::new(),
        environment,
        build,
        against: None,
        level: Level::Model,
        model: ModelRecord { name: model_name, ..old.model.map(OldModel::into_record).unwrap_or_default() },
        config: old.config,
        // Which other cells were planned is not recorded.
        cells: rows.iter().map(|row| row.cell.clone()).collect(),
        part: None,
        origins: vec![],
    };
    Ok(Results { run, rows, visits: visits(samples_csv)?, against: None })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldResults {
    #[serde(rename = "schema")]
    _schema: u32,
    title: String,
    started: String,
    command: String,
    complete: bool,
    warnings: Vec<String>,
    environment: Environment,
    model: Option<OldModel>,
    config: serde_json::Value,
    rows: Vec<OldRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldModel {
    model_bytes: u64,
    weight_formats: Vec<FormatBytes>,
    weight_pages: String,
    load_seconds: f64,
}

impl OldModel {
    fn into_record(self) -> ModelRecord {
        let OldModel { model_bytes, weight_formats, weight_pages, load_seconds } = self;
        ModelRecord { model_bytes, weight_formats, weight_pages, load_seconds, ..ModelRecord::default() }
    }
}

#[derive(Deserialize)]
struct OldRow {
    label: String,
    strategy: String,
    model: String,
    workload: String,
    seq_len: usize,
    batch: usize,
    status: Status,
    error: Option<String>,
    guarantee: Option<String>,
    /// Everything else is a metric, under the id that it still has.
    #[serde(flatten)]
    values: BTreeMap<String, Option<f64>>,
}

impl OldRow {
    fn into_row(self) -> Result<Row, ReportError> {
        if let Some(id) = self.values.keys().find(|id| metric(id).is_none()) {
            return Err(ReportError::UnknownMetric { id: id.clone() });
        }
        let values = self.values.into_iter().filter_map(|(id, value)| {
            let statistic = ["p50", "p95"].into_iter().find(|statistic| id.ends_with(statistic)).map(str::to_owned);
            let value = Value { statistic, ..Value::from(value?) };
            Some((id, value))
        });
        let OldRow { status, error, guarantee, model, label, strategy, workload, seq_len, batch, .. } = self;
        let id = id(&label, &workload, seq_len, batch);
        let cell = CellRecord { id, label, strategy, workload, seq_len, batch, block: String::new(), baseline: None };
        Ok(Row { cell, model, status, error, guarantee, values: values.collect(), ..Row::default() })
    }
}

/// Cells had no ids, but labels were unique.
fn id(label: &str, workload: &str, seq_len: usize, batch: usize) -> String {
    format!("{workload} {seq_len} x{batch} {label}")
}

#[derive(Deserialize)]
struct OldSample {
    label: String,
    workload: String,
    seq_len: usize,
    batch: usize,
    phase: String,
    step: usize,
    #[serde(default)]
    warm_up: bool,
    position: usize,
    step_ms: f64,
    cache_ms: f64,
    #[serde(default)]
    seam_ms: f64,
}

/// One latency pass for each cell with samples, in the order of the file.
fn visits(samples_csv: &[u8]) -> Result<Vec<Visit>, ReportError> {
    let mut visits: Vec<Visit> = vec![];
    for sample in csv::Reader::from_reader(samples_csv).deserialize() {
        let OldSample { label, workload, seq_len, batch, phase, step, warm_up, position, step_ms, cache_ms, seam_ms } = sample?;
        let cell = id(of_text(&label), &workload, seq_len, batch);
        let step = StepTime { phase, step, round: 0, warm_up, position, step_ms, cache_ms, seam_ms };
        match visits.last_mut() {
            Some(visit) if visit.cell == cell => visit.steps.push(step),
            _ => visits.push(Visit { steps: vec![step], ..Visit::passed(&cell, Pass::Latency) }),
        }
    }
    Ok(visits)
}

/// Moves the facts about the build to their own record. A fact that does not read as expected stays where it is.
fn build(environment: &mut Environment) -> BuildRecord {
    let mut build = BuildRecord::default();
    environment.facts.retain(|fact| match (fact.name.as_str(), &fact.value) {
        ("compiler", Some(compiler)) => {
            build.compiler = Some(compiler.clone());
            false
        }
        ("commit", Some(commit)) => {
            build.commit = Some(commit.clone());
            false
        }
        ("build", Some(words)) => match words.split(", ").collect::<Vec<_>>().as_slice() {
            [profile, level, target] if profile.starts_with("profile ") && level.starts_with("opt-level ") => {
                build.profile = profile["profile ".len()..].into();
                build.opt_level = level["opt-level ".len()..].into();
                build.target = (*target).into();
                false
            }
            _ => true,
        },
        _ => true,
    });
    build
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULTS: &str = r#"{
        "schema": 1, "title": "Old", "started": "then", "command": "run", "complete": false, "warnings": [],
        "environment": { "facts": [
            { "name": "CPU", "value": "a CPU" },
            { "name": "build", "value": "profile debug, opt-level 3, x86_64" },
            { "name": "commit", "value": "fec607" },
            { "name": "compiler", "value": null, "reason": "the compiler did not report its version" }
        ] },
        "config": {},
        "rows": [
            { "label": "=a", "strategy": "s", "model": "m", "workload": "decode", "seq_len": 128, "batch": 2, "status": "ok", "error": null,
              "guarantee": "exact", "ttft_ms": 1.5, "tpot_ms_p95": 2, "total_ms": null, "heap_live_bytes": 4096 },
            { "label": "b", "strategy": "s", "model": "m", "workload": "decode", "seq_len": 128, "batch": 2, "status": "failed",
              "error": "full", "guarantee": null }
        ]
    }"#;
    const SAMPLES: &str = "label,workload,seq_len,batch,phase,step,position,step_ms,cache_ms\n\
                           '=a,decode,128,2,prefill,0,128,1.5,0.5\n'=a,decode,128,2,decode,0,129,2,0.25\n";

    #[test]
    fn old_results_keep_what_they_recorded() {
        let results = read_old(RESULTS.as_bytes(), SAMPLES.as_bytes()).unwrap();
        assert_eq!((results.run.schema, results.run.state), (1, RunState::Interrupted));
        assert_eq!(results.rows.len(), 2);
        let row = &results.rows[0];
        assert_eq!((row.cell.label.as_str(), row.cell.batch, row.guarantee.as_deref()), ("=a", 2, Some("exact")));
        assert_eq!(["ttft_ms", "heap_live_bytes", "total_ms"].map(|id| row.value(id)), [Some(1.5), Some(4096.0), None]);
        assert_eq!(row.values["tpot_ms_p95"].statistic.as_deref(), Some("p95"));
        assert_eq!((results.rows[1].status, results.rows[1].error.as_deref()), (Status::Failed, Some("full")));
        assert_eq!(results.visits.len(), 1);
        assert_eq!((&results.visits[0].cell, results.visits[0].steps.len()), (&row.cell.id, 2));
    }

    #[test]
    fn facts_about_the_build_become_its_record_and_others_stay() {
        let run = read_old(RESULTS.as_bytes(), SAMPLES.as_bytes()).unwrap().run;
        let BuildRecord { profile, opt_level, target, compiler, commit, dirty, .. } = run.build;
        assert_eq!([profile, opt_level, target], ["debug", "3", "x86_64"]);
        assert_eq!((compiler, commit.as_deref(), dirty), (None, Some("fec607"), None));
        assert_eq!(run.environment.facts.iter().map(|fact| fact.name.as_str()).collect::<Vec<_>>(), ["CPU", "compiler"]);
    }

    #[test]
    fn what_is_not_old_results_is_refused() {
        let read = |results: &str| read_old(results.as_bytes(), SAMPLES.as_bytes()).unwrap_err();
        let other = RESULTS.replacen("\"schema\": 1", "\"schema\": 2", 1);
        assert!(matches!(read(&other), ReportError::Schema { file: "results.json", found: 2, readable: 1 }));
        assert!(matches!(read("{\"schema\": 1}"), ReportError::Json { .. }));
        assert!(matches!(read(&RESULTS.replacen("\"title\"", "\"titel\"", 1)), ReportError::Json { .. }));
        assert!(matches!(read(&RESULTS.replacen("ttft_ms", "ttft", 1)), ReportError::UnknownMetric { id } if id == "ttft"));
        assert!(matches!(read_old(RESULTS.as_bytes(), b"label,workload\nx,y\n"), Err(ReportError::Csv(_))));
    }
}
