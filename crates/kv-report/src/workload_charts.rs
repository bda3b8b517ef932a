//! The charts of workloads that are scripts of their own.

use crate::metric::Unit;
use crate::noise::is_baseline;
use crate::{Axis, Chart, Form, Interval, Quantity, Results, Row, Scale, Series, Status, workload_metric};

/// A chart of one number of one workload.
struct Spec {
    name: &'static str,
    workload: &'static str,
    /// The id of the metric.
    metric: &'static str,
    title: &'static str,
    caption: &'static str,
    /// What `at` counts.
    x: &'static str,
    y: fn() -> Axis,
    /// The ways of doing the work of which every strategy has a line, in order of preference: the first that a row has. Where a
    /// config sweeps the ways, they are not known here and none is named: it is the one in the middle.
    of_all: &'static [&'static str],
    /// The ways that are set beside them, with the baseline's cache alone. Where a config sweeps the ways, all others.
    beside: &'static [&'static str],
}

/// Of workloads whose ways a config sweeps.
const SWEPT: &[&str] = &[];

/// What is computed once, and forked for each that builds on it; and what is computed again for each.
const FORKED: &[&str] = &["forked"];
const RECOMPUTED: &[&str] = &["recomputed"];

/// There is only one way to serve.
const SERVED: &[&str] = &["served"];

/// How a stream is fed.
const FED: &[&str] = &["in chunks", "one by one"];

const SPECS: &[Spec] = &[
    Spec {
        name: "chat-ttft",
        workload: "chat",
        metric: "ttft_ms",
        title: "Chat: time to first token by turn",
        caption: "From a message to the first token of its answer, with a shared system prompt. Beside it the baseline without sharing, and with nothing kept between turns. Lower is better.",
        x: "turn",
        y: || Axis::new("time to first token (ms)", Scale::Log).of(Quantity::Time),
        of_all: &["shared prefix", "separate"],
        beside: &["separate", "recomputed"],
    },
    Spec {
        name: "chat-time",
        workload: "chat",
        metric: "cumulative_ms",
        title: "Chat: time of all users to the end of each turn",
        caption: "Prompts and answers of all users together, since the start. Lower is better.",
        x: "turn",
        y: || Axis::new("time since the start (ms)", Scale::Linear).of(Quantity::Time),
        of_all: &["shared prefix", "separate"],
        beside: &["separate", "recomputed"],
    },
    Spec {
        name: "chat-bytes",
        workload: "chat",
        metric: "heap_bytes",
        title: "Chat: heap of all users at the end of each turn",
        caption: "Exact bytes, counted by the allocator; turn 0 is after the system prompt was shared or computed for each. Lower is better.",
        x: "turn",
        y: || Axis::new("live heap (MiB)", Scale::Linear),
        of_all: &["shared prefix", "separate"],
        beside: &["separate"],
    },
    Spec {
        name: "classify-time",
        workload: "classify",
        metric: "cumulative_ms",
        title: "Classify: time to score so many labels",
        caption: "Since the start; 0 is when the prefix was computed. Each label is scored in a fork of the prefix. Beside it the baseline with the prefix computed again for each label. Lower is better.",
        x: "labels scored",
        y: || Axis::new("time since the start (ms)", Scale::Log).of(Quantity::Time),
        of_all: FORKED,
        beside: RECOMPUTED,
    },
    Spec {
        name: "classify-bytes",
        workload: "classify",
        metric: "heap_bytes",
        title: "Classify: heap by labels",
        caption: "Exact bytes, counted by the allocator, with the sequences of all labels kept; 0 is after the prefix. A cache that shares counts the prefix once. Beside it the baseline without forks. Lower is better.",
        x: "labels scored",
        y: || Axis::new("live heap (MiB)", Scale::Linear),
        of_all: FORKED,
        beside: RECOMPUTED,
    },
    Spec {
        name: "multimodal-ttft",
        workload: "multimodal",
        metric: "ttft_ms",
        title: "Multimodal: time to first token by question",
        caption: "From a question to the first token of its answer, each in a fork of the image; the first question waits for the image. Beside it the baseline with the image computed again for each question. Lower is better.",
        x: "question",
        y: || Axis::new("time to first token (ms)", Scale::Log).of(Quantity::Time),
        of_all: FORKED,
        beside: RECOMPUTED,
    },
    Spec {
        name: "multimodal-bytes",
        workload: "multimodal",
        metric: "heap_bytes",
        title: "Multimodal: heap by questions",
        caption: "Exact bytes, counted by the allocator, with the sequences of all questions kept; 0 is after the image. A cache that shares counts the image once. Beside it the baseline without forks. Lower is better.",
        x: "questions answered",
        y: || Axis::new("live heap (MiB)", Scale::Linear),
        of_all: FORKED,
        beside: RECOMPUTED,
    },
    Spec {
        name: "serve-running",
        workload: "serve",
        metric: "running",
        title: "Serve: sequences in each step",
        caption: "Requests that are decoded together under the same memory limit. A line ends when all are served: higher and shorter is better. No model runs.",
        x: "step",
        y: || Axis::new("sequences", Scale::Linear),
        of_all: SERVED,
        beside: &[],
    },
    Spec {
        name: "serve-bytes",
        workload: "serve",
        metric: "heap_bytes",
        title: "Serve: heap after each step",
        caption: "Exact bytes of the cache, counted by the allocator: a pool keeps the pages of sequences that have ended. What is admitted is decided by what sequences take, not by this.",
        x: "step",
        y: || Axis::new("live heap (MiB)", Scale::Linear),
        of_all: SERVED,
        beside: &[],
    },
    Spec {
        name: "summarise-time",
        workload: "summarise",
        metric: "step_ms",
        title: "Summarise: time of a decoder's step",
        caption: "The cache's time to append, attend and read the encoder's rows, with the encoder's keys and values kept. Beside it the baseline with them computed again at the first and the last step. No model runs. Lower is better.",
        x: "step",
        y: || Axis::new("time per step (ms)", Scale::Log).of(Quantity::Time),
        of_all: &["encoder kept"],
        beside: RECOMPUTED,
    },
    Spec {
        name: "stream-time",
        workload: "stream",
        metric: "tpot_ms",
        title: "Stream: time per token along the text",
        caption: "Median time of the single steps before each depth. A line ends where the cache is full or reaches no further. Lower is better. A flat line is best.",
        x: "tokens fed",
        y: || Axis::new("time per token (ms)", Scale::Log).of(Quantity::Time),
        of_all: FED,
        beside: &[],
    },
    Spec {
        name: "stream-bytes",
        workload: "stream",
        metric: "heap_bytes",
        title: "Stream: heap along the text",
        caption: "Exact bytes of the cache at each depth, counted by the allocator. Lower is better. A flat line is bounded memory.",
        x: "tokens fed",
        y: || Axis::new("live heap (MiB)", Scale::Log),
        of_all: FED,
        beside: &[],
    },
    Spec {
        name: "stream-perplexity",
        workload: "stream",
        metric: "ppl",
        title: "Stream: perplexity along the text",
        caption: "Of the text's tokens between each depth and the one before, as the model reads them with this cache. All lines read the same tokens: where they part, the cache does it. Lower is better.",
        x: "tokens fed",
        y: || Axis::new("perplexity", Scale::Log),
        of_all: FED,
        beside: &[],
    },
    Spec {
        name: "speculative-speedup",
        workload: "speculative",
        metric: "speedup",
        title: "Speculative decoding: speed-up by the length of a draft",
        caption: "Time per token of plain decoding over that with drafts, rejected tokens taken back; above 1, drafts pay. p is the probability that a drafted token is right. What a draft model itself would cost is not included.",
        x: "tokens of a draft (k)",
        y: || Axis::new("speed-up over plain decoding", Scale::Linear),
        of_all: SWEPT,
        beside: SWEPT,
    },
];

/// The names of all charts of workloads.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    SPECS.iter().map(|spec| spec.name)
}

/// The workloads that a chart shows, by its name, with spaces between them. Quality and bytes are those of both workloads over
/// lengths; only times differ between them.
pub(crate) fn workload_of(chart: &str) -> &'static str {
    match chart {
        "latency" | "ttft" | "relative" | "cache" | "cache-relative" | "bandwidth" | "front-latency" | "speedup" => "decode",
        "steps" | "cumulative" => "generate",
        _ => SPECS.iter().find(|spec| spec.name == chart).map_or("decode generate", |spec| spec.workload),
    }
}

/// The charts for which the results have points. `style` gives a label's name and style.
pub(crate) fn charts(results: &Results, style: impl Fn(&str, usize) -> (String, usize), styles: usize) -> Vec<Chart> {
    let chart = |spec: &Spec| {
        let rows: Vec<&Row> = results.rows.iter().filter(|row| row.status == Status::Ok && row.cell.workload == spec.workload).collect();
        let mut series = vec![];
        for row in &rows {
            if let Some(variant) = spec.way_of_all(row) {
                let (name, style) = style(&row.cell.label, row.cell.batch);
                let name = if spec.of_all.is_empty() { format!("{name}, {variant}") } else { name };
                series.push(line(row, variant, spec, name, style));
            }
        }
        let baseline = rows.iter().find(|row| is_baseline(row)).or(rows.first());
        for (index, variant) in baseline.map(|row| spec.ways_beside(row)).unwrap_or_default().into_iter().enumerate() {
            let Some(row) = baseline else { break };
            let (name, _) = style(&row.cell.label, row.cell.batch);
            series.push(line(row, variant, spec, format!("{name}, {variant}"), styles + index));
        }
        series.retain(|series| !series.points.is_empty());
        Chart {
            name: spec.name,
            title: spec.title.into(),
            caption: spec.caption.into(),
            x: Axis::new(spec.x, Scale::Linear),
            y: (spec.y)(),
            form: Form::Lines,
            series,
        }
    };
    SPECS.iter().map(chart).filter(|chart| !chart.series.is_empty()).collect()
}

impl Spec {
    /// The way of doing the work of which every strategy has a line, for a row that has been measured in it.
    fn way_of_all<'a>(&self, row: &'a Row) -> Option<&'a str> {
        let ways = self.ways(row);
        if self.of_all.is_empty() {
            return ways.get(ways.len() / 2).copied();
        }
        self.of_all.iter().find_map(|wanted| ways.iter().find(|way| *way == wanted).copied())
    }

    /// The ways that are set beside it.
    fn ways_beside<'a>(&self, row: &'a Row) -> Vec<&'a str> {
        let of_all = self.way_of_all(row);
        let is_beside = |way: &&str| if self.of_all.is_empty() { Some(*way) != of_all } else { self.beside.contains(way) };
        self.ways(row).into_iter().filter(is_beside).collect()
    }

    /// The ways in which a row's metric was measured, in order.
    fn ways<'a>(&self, row: &'a Row) -> Vec<&'a str> {
        let mut ways: Vec<&str> = vec![];
        for value in row.workload.iter().filter(|value| value.metric == self.metric) {
            if !ways.contains(&value.variant.as_str()) {
                ways.push(&value.variant);
            }
        }
        ways
    }
}

fn line(row: &Row, variant: &str, spec: &Spec, name: String, style: usize) -> Series {
    const MIB: f64 = 1024.0 * 1024.0;
    let scale = if workload_metric(spec.metric).is_some_and(|metric| metric.unit == Unit::Bytes) { MIB } else { 1.0 };
    let y_scale = (spec.y)().scale;
    let can_be_drawn = |y: f64| y_scale == Scale::Linear || y > 0.0;
    let values: Vec<_> = row.along(variant, spec.metric).filter(|(_, value)| can_be_drawn(value.value)).collect();
    let interval = |(x, value): &(f64, &crate::Value)| {
        let (low, high) = value.interval.filter(|(low, _)| can_be_drawn(*low))?;
        Some(Interval { x: *x, low: low / scale, high: high / scale })
    };
    Series {
        name,
        style,
        points: values.iter().map(|(at, value)| (*at, value.value / scale)).collect(),
        intervals: values.iter().filter_map(interval).collect(),
    }
}
