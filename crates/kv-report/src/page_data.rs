//! What the script of a page reads: figures, every pair's comparison, and the raw data.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::charts::Line;
use crate::figure::{escaped, figure, ticks_of_all};
use crate::noise::is_baseline;
use crate::peer_lines::peer_lines;
use crate::{Chart, Pair, Quantity, Results, metrics_csv, quality_csv, results_csv, workload_csv};

/// The tables that a reader can save from the page, with their names.
pub(crate) fn files(results: &Results) -> Vec<(&'static str, String)> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let has_rows = |table: &String| table.lines().count() > 1;
    let all = [
        ("results.csv", text(results_csv(results))),
        ("metrics.csv", text(metrics_csv(results))),
        ("quality.csv", text(quality_csv(results))),
        ("workload.csv", text(workload_csv(results))),
    ];
    all.into_iter().filter(|(name, table)| *name == "results.csv" || has_rows(table)).collect()
}

/// The labels that others are compared with, the run's own first, then those that pairs were made for.
pub(crate) fn baselines(results: &Results, pairs: &[Pair]) -> Vec<String> {
    let label = |id: &str| results.run.cells.iter().find(|cell| cell.id == id).map(|cell| cell.label.clone());
    let own = results.rows.iter().find(|row| is_baseline(row)).map(|row| row.cell.label.clone());
    let mut labels: Vec<String> = own.into_iter().collect();
    let others: BTreeSet<&str> = pairs.iter().map(|pair| pair.baseline.as_str()).collect();
    let in_order = results.run.cells.iter().filter(|cell| others.contains(cell.id.as_str())).filter_map(|cell| label(&cell.id));
    for label in in_order {
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    labels
}

/// Everything that the script reads.
pub(crate) fn data(
    results: &Results,
    lines: &[Line],
    charts: &[Chart],
    pairs: &[Pair],
    baseline: &str,
    files: &[(&'static str, String)],
) -> Value {
    let names: Vec<Value> = lines.iter().map(|line| json!({ "name": line.name, "label": line.label, "batch": line.batch })).collect();
    let cell = |row: &crate::Row| {
        let cell = &row.cell;
        (cell.id.clone(), json!({ "label": cell.label, "workload": cell.workload, "batch": cell.batch, "length": cell.seq_len }))
    };
    let figures: Map<String, Value> = charts.iter().map(|chart| (format!("chart-{}", chart.name), with_views(chart, lines))).collect();
    let mut files: Map<String, Value> = files.iter().map(|(name, table)| ((*name).to_owned(), Value::from(table.as_str()))).collect();
    files.insert("run.json".into(), serde_json::to_value(&results.run).unwrap_or_default());
    json!({
        "baseline": baseline,
        "lines": names,
        "cells": results.rows.iter().map(cell).collect::<Map<String, Value>>(),
        "pairs": by_cell(pairs),
        "figures": figures,
        "files": files,
    })
}

/// A chart's figure, with what it is drawn over, which of its lines it starts without, and the places of those of other engines.
fn with_views(chart: &Chart, lines: &[Line]) -> Value {
    let mut figure = figure(chart);
    let peers: Vec<usize> = peer_lines(chart, lines).map(|(place, _)| place).collect();
    if !peers.is_empty() {
        figure["peers"] = json!(peers);
    }
    if chart.x.quantity == Quantity::SequenceLength {
        figure["over"] = "lengths".into();
    }
    let outliers: Vec<String> = chart.outliers().into_iter().map(escaped).collect();
    if !outliers.is_empty() {
        figure["outliers"] = json!(outliers);
        figure["ticks_all"] = ticks_of_all(chart);
    }
    figure
}

/// By cell, metric and the other cell: the ratio, where it lies, and the verdict.
fn by_cell(pairs: &[Pair]) -> Value {
    let mut all = Map::new();
    for Pair { cell, baseline, metric, value } in pairs {
        let (low, high) = value.interval.unzip();
        let of_cell = all.entry(cell.clone()).or_insert_with(|| json!({}));
        of_cell[metric.as_str()][baseline.as_str()] = json!([value.value, low, high, value.verdict]);
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Value as Measured, example_quality};

    #[test]
    fn the_runs_own_baseline_comes_first_and_every_pair_is_there() {
        let results = example_quality::results();
        assert_eq!(baselines(&results, &[]), ["contiguous f16"]);
        let value = Measured { interval: Some((0.5, 2.0)), verdict: Some("inconclusive".into()), ..Measured::from(1.0) };
        let pair = |cell: &str, baseline: &str| Pair {
            cell: format!("{cell} 2048"),
            baseline: format!("{baseline} 2048"),
            metric: "tpot_ratio".into(),
            value: value.clone(),
        };
        let pairs = vec![pair("contiguous f16", "paged/16 f32"), pair("quantized q8_0", "paged/16 f32")];
        assert_eq!(baselines(&results, &pairs), ["contiguous f16", "paged/16 f32"]);
        let data = data(&results, &[], &[], &pairs, "contiguous f16", &files(&results));
        assert_eq!(data["pairs"]["quantized q8_0 2048"]["tpot_ratio"]["paged/16 f32 2048"], json!([1.0, 0.5, 2.0, "inconclusive"]));
        assert_eq!(data["cells"]["quantized q8_0 2048"]["length"], 2048);
        assert!(data["files"]["results.csv"].as_str().unwrap().starts_with("label,"));
        assert_eq!(data["files"]["run.json"]["title"], results.run.title);
    }
}
