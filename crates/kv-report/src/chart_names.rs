//! The names of all charts.

use crate::workload_charts;

/// The charts of workloads over lengths.
const OF_LENGTHS: [&str; 23] = [
    "front-bytes",
    "front-latency",
    "quality",
    "quality-depth",
    "quality-streamed",
    "needles",
    "needles-depth",
    "lookups",
    "lookups-depth",
    "retrieval",
    "latency",
    "ttft",
    "relative",
    "cache",
    "cache-relative",
    "bandwidth",
    "memory",
    "ledger",
    "heap-text",
    "time-text",
    "speedup",
    "steps",
    "cumulative",
];

/// The names of all charts that a report can have.
pub fn chart_names() -> impl Iterator<Item = &'static str> {
    OF_LENGTHS.into_iter().chain(workload_charts::names())
}
