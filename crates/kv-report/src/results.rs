//! The results of a run, from which all views are drawn.

use std::collections::{BTreeMap, BTreeSet};

use crate::{CellRecord, Comparison, Fill, RunRecord, Status, TtftSource, Visit, WorkloadValue};

/// A run with what its cells came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// The run.
    pub run: RunRecord,
    /// One row for each finished cell.
    pub rows: Vec<Row>,
    /// The passes that the rows sum up.
    pub visits: Vec<Visit>,
    /// How the build compares with another one that took turns with it.
    pub against: Option<Comparison>,
}

/// A cell compared with another that was timed beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The id of the cell.
    pub cell: String,
    /// The id of the cell that it is compared with.
    pub baseline: String,
    /// The id of the metric: a ratio of times.
    pub metric: String,
    /// The ratio, with its interval and verdict.
    pub value: Value,
}

impl Results {
    /// Whether every planned cell has a row.
    pub fn complete(&self) -> bool {
        self.planned_with_row() == self.run.cells.len()
    }

    /// How many planned cells have a row.
    pub(crate) fn planned_with_row(&self) -> usize {
        let finished: BTreeSet<&str> = self.rows.iter().map(|row| row.cell.id.as_str()).collect();
        self.run.cells.iter().filter(|cell| finished.contains(cell.id.as_str())).count()
    }
}

/// How a note begins that says why a row's KL divergence is not ranked: the model does not know the text even with an exact
/// cache.
pub const UNRANKED: &str = "quality is not ranked";

/// How a note begins that says that a row's kernels bound its time, and not memory.
pub const IMPLEMENTATION_BOUND: &str = "implementation-bound";

/// A finished cell: the sum of the passes over it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// The cell.
    pub cell: CellRecord,
    /// The model that used the cache.
    pub model: String,
    /// How it ended.
    pub status: Status,
    /// Where it was when it failed.
    pub phase: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// The cache's guarantee relative to recomputation.
    pub guarantee: Option<String>,
    /// How the cache came to its depth.
    pub fill: Option<Fill>,
    /// Where the time to first token comes from.
    pub ttft_source: Option<TtftSource>,
    /// The machine that timed it, in words. Empty in older results.
    pub machine: String,
    /// Processes in which it was timed.
    pub launches: usize,
    /// What a reader must know of its numbers.
    pub notes: Vec<String>,
    /// Its numbers by the id of their metric, see [`METRICS`](crate::METRICS).
    pub values: BTreeMap<String, Value>,
    /// Numbers at places of its script, of a workload that is one.
    pub workload: Vec<WorkloadValue>,
}

impl Row {
    /// The value of the metric with an id.
    pub fn value(&self, id: &str) -> Option<f64> {
        self.values.get(id).map(|value| value.value)
    }

    /// Why its KL divergence is not ranked, if it is not.
    pub fn unranked(&self) -> Option<&str> {
        self.notes.iter().find(|note| note.starts_with(UNRANKED)).map(String::as_str)
    }

    /// Whether its cache evicts tokens.
    pub fn evicts(&self) -> bool {
        self.guarantee.as_ref().is_some_and(|guarantee| guarantee.starts_with("evicts"))
    }

    /// Whether its kernels bound its time, and not memory.
    pub fn is_implementation_bound(&self) -> bool {
        self.notes.iter().any(|note| note.starts_with(IMPLEMENTATION_BOUND))
    }

    /// Whether what a step reads fits the last-level cache: "resident" or "streamed", or nothing if one of the two is unknown.
    pub fn residency(&self) -> &'static str {
        match (self.value("working_set_bytes"), self.value("last_level_cache_bytes")) {
            (Some(read), Some(cache)) if read <= cache => "resident",
            (Some(_), Some(_)) => "streamed",
            _ => "",
        }
    }
}

/// A value and what is known of its distribution.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Value {
    /// The value, in the unit of its metric.
    pub value: f64,
    /// What it is of its samples, such as "p50". `None` for a number that is simply counted.
    pub statistic: Option<String>,
    /// How many samples it was made of.
    pub samples: Option<usize>,
    /// The interval that it lies in.
    pub interval: Option<(f64, f64)>,
    /// The degrees of freedom of the variance behind the interval.
    pub degrees_of_freedom: Option<f64>,
    /// What it says in comparison.
    pub verdict: Option<String>,
    /// Why it says that.
    pub reason: Option<String>,
}

impl From<f64> for Value {
    /// A number without samples.
    fn from(value: f64) -> Value {
        Value { value, ..Value::default() }
    }
}

#[cfg(test)]
mod tests {
    use crate::example;

    #[test]
    fn a_run_is_complete_when_every_planned_cell_has_a_row() {
        let mut results = example::results();
        assert!(results.complete());
        assert_eq!(results.rows[0].value("tpot_ms_p50"), Some(1.25));
        assert_eq!(results.rows[0].value("total_ms"), None);
        // Two rows of one cell are no row of another.
        results.rows[1] = results.rows[0].clone();
        assert_eq!((results.complete(), results.planned_with_row()), (false, 3));
    }
}
