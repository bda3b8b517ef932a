//! The charts of workloads that are scripts of their own.

use crate::metric::Unit;
use crate::noise::is_baseline;
use crate::{Axis, Chart, Form, Interval, Results, Row, Scale, Series, Status, workload_metric};

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
    x_scale: Scale,
    y: &'static str,
    y_scale: Scale,
    /// The ways of doing the work of which every strategy has a line, in order of preference: the first that a row has.
    of_all: &'static [&'static str],
    /// The ways that are set beside them, with the baseline's cache alone.
    beside: &'static [&'static str],
}

const SPECS: &[Spec] = &[
    Spec {
        name: "chat-ttft",
        workload: "chat",
        metric: "ttft_ms",
        title: "Chat: time to first token by turn",
        caption: "From a message to the first token of its answer, with a shared system prompt. Beside it the baseline without sharing, and with nothing kept between turns. Lower is better.",
        x: "turn",
        x_scale: Scale::Linear,
        y: "time to first token (ms)",
        y_scale: Scale::Log,
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
        x_scale: Scale::Linear,
        y: "time since the start (ms)",
        y_scale: Scale::Linear,
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
        x_scale: Scale::Linear,
        y: "live heap (MiB)",
        y_scale: Scale::Linear,
        of_all: &["shared prefix", "separate"],
        beside: &["separate"],
    },
];

/// The names of all charts of workloads.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    SPECS.iter().map(|spec| spec.name)
}

/// The workloads that a chart shows, by its name.
pub(crate) fn workload_of(chart: &str) -> &'static str {
    SPECS.iter().find(|spec| spec.name == chart).map_or("decode generate", |spec| spec.workload)
}

/// The charts for which the results have points. `style` gives a label's name and style.
pub(crate) fn charts(results: &Results, style: impl Fn(&str, usize) -> (String, usize), styles: usize) -> Vec<Chart> {
    let chart = |spec: &Spec| {
        let rows: Vec<&Row> = results.rows.iter().filter(|row| row.status == Status::Ok && row.cell.workload == spec.workload).collect();
        let mut series = vec![];
        for row in &rows {
            let has = |variant: &&&str| row.along(variant, spec.metric).next().is_some();
            if let Some(variant) = spec.of_all.iter().find(has) {
                let (name, style) = style(&row.cell.label, row.cell.batch);
                series.push(line(row, variant, spec, name, style));
            }
        }
        let baseline = rows.iter().find(|row| is_baseline(row)).or(rows.first());
        for (index, variant) in spec.beside.iter().enumerate() {
            let Some(row) = baseline else { break };
            let (name, _) = style(&row.cell.label, row.cell.batch);
            series.push(line(row, variant, spec, format!("{name}, {variant}"), styles + index));
        }
        series.retain(|series| !series.points.is_empty());
        Chart {
            name: spec.name,
            title: spec.title.into(),
            caption: spec.caption.into(),
            x: Axis { label: spec.x.into(), scale: spec.x_scale },
            y: Axis { label: spec.y.into(), scale: spec.y_scale },
            form: Form::Lines,
            series,
        }
    };
    SPECS.iter().map(chart).filter(|chart| !chart.series.is_empty()).collect()
}

fn line(row: &Row, variant: &str, spec: &Spec, name: String, style: usize) -> Series {
    const MIB: f64 = 1024.0 * 1024.0;
    let scale = if workload_metric(spec.metric).is_some_and(|metric| metric.unit == Unit::Bytes) { MIB } else { 1.0 };
    let can_be_drawn = |x: f64, y: f64| (spec.x_scale == Scale::Linear || x > 0.0) && (spec.y_scale == Scale::Linear || y > 0.0);
    let values: Vec<_> = row.along(variant, spec.metric).filter(|(at, value)| can_be_drawn(*at, value.value)).collect();
    let interval = |(x, value): &(f64, &crate::Value)| {
        let (low, high) = value.interval.filter(|(low, _)| spec.y_scale == Scale::Linear || *low > 0.0)?;
        Some(Interval { x: *x, low: low / scale, high: high / scale })
    };
    Series {
        name,
        style,
        points: values.iter().map(|(at, value)| (*at, value.value / scale)).collect(),
        intervals: values.iter().filter_map(interval).collect(),
    }
}
