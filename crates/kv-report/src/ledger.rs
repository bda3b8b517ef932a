//! The memory ledger as stacked bars.

use crate::metric::known;
use crate::{Arrangement, Axis, Chart, Form, Metric, Results, Row, Scale, Series};

const USAGE: &Metric = known("usage_bytes");
const PAYLOAD: &Metric = known("payload_bytes");
const METADATA: &Metric = known("metadata_bytes");
const SLACK: &Metric = known("slack_bytes");
const UNTOUCHED: &Metric = known("untouched_bytes");
const BEYOND_ACCOUNT: &Metric = known("ledger_residual_bytes");
const KEPT: &Metric = known("allocator_kept_bytes");
const BEYOND_HEAP: &Metric = known("rss_residual_bytes");
const MIB: f64 = 1024.0 * 1024.0;

/// A part of a bar.
type Part = (&'static str, fn(&Row) -> f64);

const PARTS: [Part; 7] = [
    ("payload: codes of keys and values", |row| of(row, PAYLOAD)),
    ("metadata: scales and tables", |row| of(row, METADATA)),
    ("slack: reserved and touched", |row| (of(row, SLACK) - of(row, UNTOUCHED)).max(0.0)),
    ("slack: never touched", |row| of(row, UNTOUCHED)),
    ("heap beyond the cache's account", |row| of(row, BEYOND_ACCOUNT)),
    ("freed, kept by the allocator", |row| of(row, KEPT)),
    ("resident beyond the heap", |row| of(row, BEYOND_HEAP)),
];

/// One bar for each strategy instance, workload and batch, at its longest length.
pub(crate) fn bars(results: &Results) -> Chart {
    let rows = longest(results);
    let lengths: Vec<usize> = rows.iter().map(|row| row.cell.seq_len).collect();
    let batches: Vec<usize> = rows.iter().map(|row| row.cell.batch).collect();
    let workloads: Vec<&str> = rows.iter().map(|row| row.cell.workload.as_str()).collect();
    let name = |row: &&Row| {
        let workload = if is_same(&workloads) { String::new() } else { format!(", {}", row.cell.workload) };
        let length = if is_same(&lengths) { String::new() } else { format!(" at {}", row.cell.seq_len) };
        let batch = if is_same(&batches) { String::new() } else { format!(" ×{}", row.cell.batch) };
        format!("{}{workload}{length}{batch}", row.cell.label)
    };
    let series = |(style, (name, part)): (usize, &Part)| {
        let points = rows.iter().enumerate().map(|(bar, row)| (bar as f64, part(row).max(0.0) / MIB)).collect();
        Series { name: (*name).to_owned(), style, points, intervals: vec![] }
    };
    let at = lengths.first().filter(|_| is_same(&lengths)).map_or(String::new(), |length| format!(", {length} tokens"));
    Chart {
        name: "ledger",
        title: format!("Where the bytes are{at}"),
        caption: "Bytes between steps at exactly this length, in a process of its own: what the cache reports, what the heap holds beyond that, and what else is resident. Less is better. A part below zero is left out: results.csv has it."
            .into(),
        x: Axis::new("", Scale::Linear),
        y: Axis::new("memory (MiB)", Scale::Linear),
        form: Form::Bars { names: rows.iter().map(name).collect(), arrangement: Arrangement::Stacked },
        series: PARTS.iter().enumerate().map(series).filter(|series| series.points.iter().any(|(_, value)| *value > 0.0)).collect(),
    }
}

fn is_same<T: PartialEq>(values: &[T]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}

fn of(row: &Row, metric: &Metric) -> f64 {
    row.value(metric.id).unwrap_or(0.0)
}

/// Of each label, workload and batch the row with the longest length whose cache holds anything.
fn longest(results: &Results) -> Vec<&Row> {
    let mut longest: Vec<&Row> = vec![];
    // Older results have the parts of the cache's account, and nothing to hold them against.
    let has_ledger = |row: &&Row| row.values.contains_key(USAGE.id) && of(row, PAYLOAD) > 0.0;
    for row in results.rows.iter().filter(has_ledger) {
        let key = |row: &Row| (row.cell.label.clone(), row.cell.workload.clone(), row.cell.batch);
        match longest.iter_mut().find(|other| key(other) == key(row)) {
            Some(other) if other.cell.seq_len < row.cell.seq_len => *other = row,
            Some(_) => {}
            None => longest.push(row),
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Value, example};

    #[test]
    fn parts_add_up_to_the_heap_and_what_is_kept() {
        let mut results = example::results();
        for (id, bytes) in [
            ("usage_bytes", 8.0),
            ("payload_bytes", 4.0),
            ("metadata_bytes", 1.0),
            ("slack_bytes", 3.0),
            ("untouched_bytes", 2.0),
            ("ledger_residual_bytes", 0.5),
            ("allocator_kept_bytes", 0.25),
            ("heap_live_bytes", 8.5),
            ("rss_bytes", 6.5),
            ("rss_residual_bytes", -0.25),
        ] {
            results.rows[0].values.insert(id.into(), Value::from(bytes * MIB));
        }
        let chart = bars(&results);
        let parts: Vec<(&str, f64)> = chart.series.iter().map(|series| (series.name.as_str(), series.points[0].1)).collect();
        assert_eq!(
            parts,
            [
                ("payload: codes of keys and values", 4.0),
                ("metadata: scales and tables", 1.0),
                ("slack: reserved and touched", 1.0),
                ("slack: never touched", 2.0),
                ("heap beyond the cache's account", 0.5),
                ("freed, kept by the allocator", 0.25),
            ]
        );
        let value = |id: &str| results.rows[0].value(id).unwrap() / MIB;
        let sum: f64 = parts.iter().map(|(_, mib)| mib).sum();
        assert_eq!(sum, value("heap_live_bytes") + value("allocator_kept_bytes"));
        // Resident is all of it that was touched, and what nobody explains, which is below zero here.
        assert_eq!(sum - value("untouched_bytes") + value("rss_residual_bytes"), value("rss_bytes"));
        assert!(matches!(&chart.form, Form::Bars { names, .. } if names == &[results.rows[0].cell.label.clone()]));
    }

    #[test]
    fn a_bar_names_its_workload_where_there_are_several() {
        let mut results = example::results();
        results.rows.truncate(1);
        for id in ["usage_bytes", "payload_bytes"] {
            results.rows[0].values.insert(id.into(), Value::from(MIB));
        }
        let mut other = results.rows[0].clone();
        other.cell.workload = "generate".into();
        results.rows.push(other);
        let label = &results.rows[0].cell.label;
        let expected = [format!("{label}, decode"), format!("{label}, generate")];
        assert!(matches!(bars(&results).form, Form::Bars { names, .. } if names == expected));
    }
}
