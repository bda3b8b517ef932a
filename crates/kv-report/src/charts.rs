//! The charts of a sweep.

use std::collections::BTreeMap;

use crate::{Axis, Chart, Peer, Results, Row, Sample, Scale, Series};

/// Every chart for which the results have points. Peers appear in the charts that they have measurements for.
pub fn charts(results: &Results, samples: &[Sample], peers: &[Peer]) -> Vec<Chart> {
    let names = Names::of(results);
    let depth = Axis { label: "sequence length (tokens)".into(), scale: Scale::Log };
    let milliseconds = |what: &str| Axis { label: format!("{what} (ms)"), scale: Scale::Log };
    let by_length =
        |of: fn(&Row) -> Option<f64>, workload: &str| names.series(results, |row| if row.workload == workload { of(row) } else { None });
    let mut charts = vec![
        Chart {
            name: "latency",
            title: "Time per output token at depth".into(),
            caption: "Median time of one decode step with this many tokens already in the cache. Lower is better. A flat line is best."
                .into(),
            x: depth.clone(),
            y: milliseconds("time per output token"),
            series: by_length(|row| row.tpot_ms_p50, "decode"),
        },
        Chart {
            name: "ttft",
            title: "Time to first token".into(),
            caption: "Time from a prompt of this many tokens to the first generated token. Lower is better.".into(),
            x: depth.clone(),
            y: milliseconds("time to first token"),
            series: by_length(|row| row.ttft_ms, "decode"),
        },
        Chart {
            name: "memory",
            title: "Heap held by the cache".into(),
            caption: memory_caption(results),
            x: depth,
            y: Axis { label: "live heap between steps (MiB)".into(), scale: Scale::Log },
            series: names
                .series(results, |row| row.heap_live_bytes.filter(|bytes| *bytes >= NEXT_TO_NOTHING).map(|bytes| bytes as f64 / MIB)),
        },
        Chart {
            name: "cumulative",
            title: "Time to generate this many tokens".into(),
            caption:
                "Time since the start, token by token. Without a cache, every token reruns all tokens before it, so the curve bends upward."
                    .into(),
            x: Axis { label: "tokens generated".into(), scale: Scale::Linear },
            y: Axis { label: "time since the start (s)".into(), scale: Scale::Linear },
            series: names.cumulative(samples),
        },
    ];
    add_peers(&mut charts[0], peers, names.lines.len(), |peer| peer.tpot_ms_p50);
    add_peers(&mut charts[1], peers, names.lines.len(), |peer| peer.ttft_ms);
    charts.retain(|chart| chart.series.iter().any(|series| !series.points.is_empty()));
    charts
}

/// Adds a line for each peer, in the styles that follow those of kvlab's lines.
fn add_peers(chart: &mut Chart, peers: &[Peer], first_style: usize, y: fn(&Peer) -> Option<f64>) {
    let mut labels: Vec<&str> = vec![];
    for peer in peers {
        if !labels.contains(&peer.peer.as_str()) {
            labels.push(&peer.peer);
        }
    }
    for (index, label) in labels.into_iter().enumerate() {
        let of_peer = peers.iter().filter(|peer| peer.peer == label);
        let mut points: Vec<(f64, f64)> = of_peer.filter_map(|peer| Some((peer.seq_len as f64, y(peer)?))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        if !points.is_empty() {
            chart.series.push(Series { name: label.to_owned(), style: first_style + index, points });
        }
    }
}

const MIB: f64 = 1024.0 * 1024.0;
/// A cache with fewer bytes holds no tokens, only bookkeeping. A logarithmic axis cannot show it.
const NEXT_TO_NOTHING: i64 = 4096;

fn memory_caption(results: &Results) -> String {
    let mut empty: Vec<&str> = (results.rows.iter())
        .filter(|row| row.heap_live_bytes.is_some_and(|bytes| bytes < NEXT_TO_NOTHING))
        .map(|row| row.label.as_str())
        .collect();
    empty.dedup();
    let counted = "Exact bytes after the last step, counted by the allocator. Lower is better.";
    match empty.as_slice() {
        [] => counted.into(),
        labels => format!("{counted} Caches that hold nothing between steps are not drawn: {}.", labels.join(", ")),
    }
}

/// The lines of a report: one per label, workload and batch, named by what distinguishes them.
struct Names {
    /// In the order of the config.
    lines: Vec<(String, usize)>,
    several_batches: bool,
}

impl Names {
    fn of(results: &Results) -> Names {
        let mut lines: Vec<(String, usize)> = vec![];
        for row in &results.rows {
            let line = (row.label.clone(), row.batch);
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        let several_batches = lines.iter().any(|(_, batch)| *batch != lines[0].1);
        Names { lines, several_batches }
    }

    fn name(&self, label: &str, batch: usize) -> String {
        if self.several_batches { format!("{label} ×{batch}") } else { label.to_owned() }
    }

    fn series(&self, results: &Results, y: impl Fn(&Row) -> Option<f64>) -> Vec<Series> {
        let line = |(style, (label, batch)): (usize, &(String, usize))| {
            let rows = results.rows.iter().filter(|row| row.label == *label && row.batch == *batch);
            let mut points: Vec<(f64, f64)> = rows.filter_map(|row| Some((row.seq_len as f64, y(row)?))).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            points.dedup_by_key(|point| point.0);
            Series { name: self.name(label, *batch), style, points }
        };
        self.lines.iter().enumerate().map(line).filter(|series| !series.points.is_empty()).collect()
    }

    /// Running totals of the longest `generate` cell of each line.
    fn cumulative(&self, samples: &[Sample]) -> Vec<Series> {
        let mut longest: BTreeMap<(&str, usize), usize> = BTreeMap::new();
        let generated = || samples.iter().filter(|sample| sample.workload == "generate");
        for sample in generated() {
            let seq_len = longest.entry((&sample.label, sample.batch)).or_default();
            *seq_len = sample.seq_len.max(*seq_len);
        }
        let line = |(style, (label, batch)): (usize, &(String, usize))| {
            let seq_len = longest.get(&(label.as_str(), *batch))?;
            let of_line = generated().filter(|sample| sample.label == *label && sample.batch == *batch && sample.seq_len == *seq_len);
            let mut seconds = 0.0;
            let points = of_line
                .map(|sample| {
                    seconds += sample.step_ms / 1e3;
                    (sample.position as f64, seconds)
                })
                .collect();
            Some(Series { name: self.name(label, *batch), style, points })
        };
        self.lines.iter().enumerate().filter_map(line).collect()
    }
}
