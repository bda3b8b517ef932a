//! A small run with everything that a run can have, for tests.

use std::collections::BTreeMap;

use crate::{
    BuildRecord, CellRecord, Environment, Fact, Fill, FormatBytes, GeometryRecord, Level, ModelRecord, Pass, Results, Row, RunRecord,
    RunState, SCHEMA_VERSION, Status, StepTime, TtftSource, Value, Visit,
};

pub(crate) fn results() -> Results {
    let cells = cells();
    let measured = |cell: &CellRecord| Row {
        cell: cell.clone(),
        model: "tiny".into(),
        guarantee: Some("exact".into()),
        fill: Some(Fill::Prefill),
        ttft_source: Some(TtftSource::Prefill),
        values: [
            ("ttft_ms".into(), Value::from(20.0)),
            ("tpot_ms_p50".into(), Value { statistic: Some("p50".into()), samples: Some(2), ..Value::from(1.25) }),
            ("heap_live_bytes".into(), Value::from(4096.0)),
        ]
        .into(),
        ..Row::default()
    };
    let failed = |cell: &CellRecord, status, phase: &str, error: &str| Row {
        cell: cell.clone(),
        model: "tiny".into(),
        status,
        phase: Some(phase.into()),
        error: Some(error.into()),
        ..Row::default()
    };
    let rows = vec![
        measured(&cells[0]),
        measured(&cells[1]),
        failed(&cells[2], Status::Timeout, "prefill", "no answer for 60 s"),
        failed(&cells[3], Status::Oom, "fill", "3 GiB asked for, 2 GiB allowed"),
    ];
    Results { run: run(), rows, visits: visits(), against: None }
}

pub(crate) fn run() -> RunRecord {
    let known = |name: &str, value: &str| Fact { name: name.into(), value: Some(value.into()), reason: None };
    RunRecord {
        schema: SCHEMA_VERSION,
        run_id: "0192-a".into(),
        plan_hash: "91c0".into(),
        machine_id: Some("77ab".into()),
        state: RunState::Finished,
        title: "A small run".into(),
        started: "2026-11-26 03:00:00 +00:00".into(),
        finished: Some("2026-11-26 03:05:00 +00:00".into()),
        command: "cargo run -p runner -- 'a config.toml' --kernel-path portable".into(),
        margin: 0.03,
        order_seed: 7,
        memory_limit_bytes: 8 << 30,
        warnings: vec!["The machine was busy.".into()],
        seconds: BTreeMap::from([("latency".into(), 41.25), ("quality".into(), 180.0)]),
        environment: Environment {
            facts: vec![
                known("CPU", "a CPU"),
                Fact { name: "kernel".into(), value: None, reason: Some("the system does not tell".into()) },
            ],
        },
        build: BuildRecord {
            version: "0.1.0".into(),
            profile: "debug".into(),
            opt_level: "3".into(),
            target: "x86_64-unknown-linux-gnu".into(),
            compiler: Some("rustc 1.95.0".into()),
            commit: Some("313960b".into()),
            dirty: Some(true),
            program: Some("c0de".into()),
        },
        against: None,
        level: Level::Model,
        model: ModelRecord {
            name: "tiny".into(),
            hash: Some("5e1f".into()),
            geometry: GeometryRecord {
                layers: 4,
                heads: 8,
                kv_heads: 2,
                key_dim: 64,
                value_dim: 32,
                context: 4096,
                vocabulary: 512,
                parameters: 1_500_000,
            },
            model_bytes: 6_000_000,
            weight_formats: vec![FormatBytes { format: "f32".into(), bytes: 6_000_000 }],
            weight_pages: "ordinary pages".into(),
            load_seconds: 0.5,
        },
        config: serde_json::json!({ "model": { "preset": "tiny" } }),
        cells: cells(),
        part: None,
        origins: vec![],
    }
}

fn cells() -> Vec<CellRecord> {
    let cell = |id: &str, label: &str, workload: &str, seq_len| CellRecord {
        id: id.into(),
        label: label.into(),
        strategy: "contiguous".into(),
        workload: workload.into(),
        seq_len,
        batch: 1,
        block: format!("{workload} {seq_len}"),
        baseline: (workload == "decode").then(|| "a".to_owned()),
    };
    vec![
        cell("a", "contiguous", "decode", 128),
        cell("b", "contiguous", "generate", 3),
        cell("c", "slow", "decode", 128),
        cell("d", "large", "decode", 128),
    ]
}

pub(crate) fn visits() -> Vec<Visit> {
    let step = |phase: &str, step: usize, warm_up, position| StepTime {
        phase: phase.into(),
        step,
        round: step as u32,
        warm_up,
        position,
        step_ms: 2.5,
        cache_ms: 0.5,
        seam_ms: 0.125,
    };
    let steps = vec![step("prefill", 0, false, 128), step("decode", 0, true, 129), step("decode", 1, false, 130)];
    let latency = Visit {
        block: Some("decode at 128".into()),
        guarantee: Some("exact".into()),
        fill: Some(Fill::Replay),
        ttft_source: Some(TtftSource::Composed),
        notes: vec!["a note".into()],
        values: [("tpot_ms_p50".into(), 1.25), ("seen_tokens".into(), 130.0)].into(),
        process: Some(4711),
        turns: vec![2, 0],
        steps,
        ..Visit::passed("a", Pass::Latency)
    };
    let generated = Visit {
        cell: "b".into(),
        fill: Some(Fill::Steps),
        ttft_source: Some(TtftSource::Prefill),
        steps: vec![step("prefill", 0, false, 1), step("decode", 0, true, 2), step("decode", 1, false, 3)],
        ..latency.clone()
    };
    let memory = Visit { pass: Pass::Memory, values: [("heap_live_bytes".into(), 4096.0)].into(), ..latency.clone() };
    vec![
        latency,
        Visit { launch: 1, ..generated.clone() },
        generated,
        memory,
        Visit::failed("c", Pass::Latency, Status::Timeout, "prefill", "no answer for 60 s"),
        Visit::failed("d", Pass::Memory, Status::Oom, "fill", "3 GiB asked for, 2 GiB allowed"),
    ]
}
