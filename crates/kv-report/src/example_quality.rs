//! A run of eight instances with quality, for tests: bytes, times and divergences as those of a small model are.

use crate::{CellRecord, Part, Pass, Protocol, QualityPoint, Results, Row, Value, Visit, example};

/// What an instance is, per token and at 2048 tokens.
struct Instance {
    label: &'static str,
    strategy: &'static str,
    guarantee: &'static str,
    bytes_per_token: f64,
    /// Milliseconds per output token.
    tpot: f64,
    verdict: &'static str,
    /// Nats.
    kld: f64,
    attention: f64,
    top1: f64,
    /// The share of needles that is found at each margin, among the newest and among the first.
    found: [f64; 6],
}

const ALL: [f64; 6] = [1.0; 6];
const EXACT: Instance = Instance {
    label: "contiguous f32",
    strategy: "contiguous",
    guarantee: "exact",
    bytes_per_token: 46_100.0,
    tpot: 31.0,
    verdict: "slower",
    kld: 3e-11,
    attention: 2e-7,
    top1: 1.0,
    found: ALL,
};

const INSTANCES: [Instance; 8] = [
    Instance { label: "naive", strategy: "naive", bytes_per_token: 0.25, tpot: 900.0, kld: 2e-11, ..EXACT },
    Instance {
        label: "contiguous f16",
        guarantee: "lossy (K ±0.05 %, V ±0.05 %)",
        bytes_per_token: 23_050.0,
        tpot: 27.0,
        kld: 2e-8,
        attention: 3e-4,
        ..EXACT
    },
    EXACT,
    Instance { label: "paged/16 f32", strategy: "paged", bytes_per_token: 46_900.0, tpot: 31.2, ..EXACT },
    Instance {
        label: "window 512 + 4 sinks",
        strategy: "sliding",
        guarantee: "evicts",
        bytes_per_token: 11_600.0,
        tpot: 21.0,
        verdict: "faster",
        kld: 0.21,
        attention: 0.4,
        top1: 0.79,
        found: [0.25, 0.25, 0.25, 0.25, 1.0, 1.0],
    },
    Instance {
        label: "window 512",
        strategy: "sliding",
        guarantee: "evicts",
        bytes_per_token: 11_500.0,
        tpot: 20.9,
        verdict: "faster",
        kld: 3.1,
        attention: 0.9,
        top1: 0.21,
        found: [0.25, 0.25, 0.25, 0.25, 1.0, 0.0],
    },
    Instance {
        label: "quantized q8_0",
        strategy: "quantized",
        guarantee: "lossy (K ±0.39 %, V ±0.39 %)",
        bytes_per_token: 12_300.0,
        tpot: 26.8,
        verdict: "inconclusive",
        kld: 4.2e-4,
        attention: 0.006,
        top1: 0.991,
        found: [0.98, 1.0, 1.0, 1.0, 1.0, 1.0],
    },
    Instance {
        label: "quantized q4_0",
        strategy: "quantized",
        guarantee: "lossy (K ±6.25 %, V ±6.25 %)",
        bytes_per_token: 6_600.0,
        tpot: 28.5,
        verdict: "slower",
        kld: 0.034,
        attention: 0.09,
        top1: 0.93,
        found: [0.62, 0.88, 0.97, 1.0, 0.9, 0.92],
    },
];

/// The lengths.
const LENGTHS: [usize; 3] = [512, 1024, 2048];
const MARGINS: [f64; 4] = [2.0, 4.0, 8.0, 16.0];

/// Rows at three lengths; contiguous f16 is the baseline; q4_0 is implementation-bound.
pub(crate) fn results() -> Results {
    let mut run = example::run();
    let strategy = |instance: &Instance| serde_json::json!({ "label": instance.label, "use": instance.strategy });
    run.title = "Eight instances with quality".into();
    run.config = serde_json::json!({ "strategy": INSTANCES.iter().map(strategy).collect::<Vec<_>>() });
    run.config["strategy"][4]["config"] = serde_json::json!({ "window": 512, "sinks": 4 });
    run.config["strategy"][5]["config"] = serde_json::json!({ "window": 512 });
    let places = || INSTANCES.iter().flat_map(|instance| LENGTHS.map(|length| (instance, length)));
    run.cells = places().map(|(instance, length)| cell(instance, length)).collect();
    let rows = places().map(|(instance, length)| row(instance, length)).collect();
    let visits = INSTANCES.iter().flat_map(|instance| LENGTHS.map(|length| visit(instance, length))).collect();
    Results { run, rows, visits, against: None }
}

fn cell(instance: &Instance, seq_len: usize) -> CellRecord {
    CellRecord {
        id: format!("{} {seq_len}", instance.label),
        label: instance.label.into(),
        strategy: instance.strategy.into(),
        workload: "decode".into(),
        seq_len,
        batch: 1,
        block: format!("decode at {seq_len}"),
        baseline: (instance.strategy != "naive").then(|| format!("contiguous f16 {seq_len}")),
    }
}

/// How much of its numbers at 2048 tokens an instance has at a length: a window has less to forget.
fn share(length: usize) -> f64 {
    length as f64 / 2048.0
}

fn around(value: f64, half: f64) -> Value {
    Value { interval: Some((value * (1.0 - half), value * (1.0 + half))), ..Value::from(value) }
}

fn row(instance: &Instance, length: usize) -> Row {
    let is_window = instance.strategy == "sliding";
    let heap = instance.bytes_per_token * if is_window { 2048.0 } else { length as f64 };
    let tpot = instance.tpot * (0.5 + 0.5 * share(length));
    let kld = if instance.kld < 1e-9 { instance.kld } else { instance.kld * share(length) };
    let verdict = |value: Value| Value { verdict: Some(instance.verdict.into()), ..value };
    let mut values = vec![
        ("heap_live_bytes", Value::from(heap)),
        ("bytes_per_token", Value::from(heap / length as f64)),
        ("tpot_ms_p50", around(tpot, 0.02)),
        ("attn_rel_l2", Value::from(instance.attention)),
        ("kld_mean", around(kld, 0.3)),
        ("kld_floor", Value::from(1e-10)),
        ("same_top1", Value::from(instance.top1)),
        ("needle_acc", Value::from(instance.found[..4].iter().sum::<f64>() / 4.0)),
        ("needle_acc_dense", Value::from(1.0)),
    ];
    if !matches!(instance.label, "naive" | "contiguous f16") {
        values.push(("tpot_ratio", verdict(around(instance.tpot / 27.0, 0.02))));
    }
    let bound = "implementation-bound: reads 0.20 of the bandwidth";
    Row {
        cell: cell(instance, length),
        model: "tiny".into(),
        guarantee: Some(instance.guarantee.into()),
        launches: 8,
        notes: if instance.label == "quantized q4_0" { vec![bound.into()] } else { vec![] },
        values: values.into_iter().map(|(id, value)| (id.to_owned(), value)).collect(),
        ..Row::default()
    }
}

fn visit(instance: &Instance, length: usize) -> Visit {
    let point =
        |protocol, part, metric: &str, value, count| QualityPoint { protocol, part, metric: metric.into(), value, interval: None, count };
    let place = |place: &str, margin, value| point(Protocol::Planted, Part::Place { place: place.into(), margin }, "needle_acc", value, 32);
    let mut quality = vec![];
    for (margin, found) in MARGINS.iter().zip(instance.found) {
        quality.extend([place("0", *margin, found), place("1", *margin, found)]);
        quality.extend([place("start", *margin, instance.found[5]), place("recent", *margin, instance.found[4])]);
    }
    for step in 0..8 {
        let (width, grown) = (length / 8, (step + 1) as f64 / 8.0);
        let part = Part::Depth { from: step * width, to: (step + 1) * width };
        quality.push(point(Protocol::Streamed, part, "kld_mean", 1.5 * instance.kld * grown, width));
        let part = Part::Depth { from: step * 8, to: (step + 1) * 8 };
        quality.push(point(Protocol::PromptExact, part, "kld_mean", instance.kld * (1.0 + 0.2 * grown), 8));
    }
    Visit { quality, ..Visit::passed(&cell(instance, length).id, Pass::Quality) }
}
