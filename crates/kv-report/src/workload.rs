//! What workloads that are scripts of their own came to: numbers at places of the script.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spreadsheet::as_text;
use crate::table::{number, table};
use crate::workload_metric::workload_metric;
use crate::{Results, Row, Value};

/// A number at a place of a workload's script, in one launch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkloadPoint {
    /// The way in which the work was done, such as "shared prefix".
    pub variant: String,
    /// The id of its metric, see [`WORKLOAD_METRICS`](crate::WORKLOAD_METRICS).
    pub metric: String,
    /// Where: a turn, a position, the tokens of a draft. 0 is before the first, or the whole.
    pub at: f64,
    /// The value, in the unit of its metric.
    pub value: f64,
}

impl WorkloadPoint {
    /// Whether another number is of the same metric at the same place.
    pub fn is_where(&self, other: &WorkloadPoint) -> bool {
        (&self.variant, &self.metric, self.at) == (&other.variant, &other.metric, other.at)
    }
}

/// A number at a place of a workload's script, over all launches.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkloadValue {
    /// The way in which the work was done.
    pub variant: String,
    /// The id of its metric.
    pub metric: String,
    /// Where.
    pub at: f64,
    /// The value and what is known of its distribution.
    pub value: Value,
}

impl Row {
    /// The values of a metric in one way of doing the work, in the order of their places.
    pub(crate) fn along<'a>(&'a self, variant: &'a str, metric: &'a str) -> impl Iterator<Item = (f64, &'a Value)> {
        self.workload.iter().filter(move |value| value.variant == variant && value.metric == metric).map(|value| (value.at, &value.value))
    }
}

/// `workload.csv`: one row per number of a workload at a place of its script.
pub fn workload_csv(results: &Results) -> Vec<u8> {
    const COLUMNS: [&str; 13] = [
        "label",
        "workload",
        "seq_len",
        "batch",
        "cell",
        "variant",
        "metric",
        "at",
        "value",
        "interval_low",
        "interval_high",
        "unit",
        "samples",
    ];
    let rows = results.rows.iter().flat_map(|row| {
        row.workload.iter().map(move |WorkloadValue { variant, metric, at, value }| {
            vec![
                as_text(&row.cell.label),
                as_text(&row.cell.workload),
                row.cell.seq_len.to_string(),
                row.cell.batch.to_string(),
                as_text(&row.cell.id),
                as_text(variant),
                as_text(metric),
                number(Some(*at)),
                number(Some(value.value)),
                number(value.interval.map(|(low, _)| low)),
                number(value.interval.map(|(_, high)| high)),
                workload_metric(metric).map(|metric| metric.unit.to_string()).unwrap_or_default(),
                value.samples.map(|samples| samples.to_string()).unwrap_or_default(),
            ]
        })
    });
    table(&COLUMNS, rows)
}
