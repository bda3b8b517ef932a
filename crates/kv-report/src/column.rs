//! The columns of `results.csv` and of the page's table.

use crate::metric::known;
use crate::quality_metric::QUALITY_METRICS;
use crate::{Better, Metric, Row};

/// A column.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    /// Its name. People's scripts rely on it.
    pub(crate) name: &'static str,
    /// Its meaning.
    pub(crate) meaning: &'static str,
    content: Content,
}

#[derive(Clone, Copy)]
enum Content {
    Text(fn(&Row) -> String),
    Count(fn(&Row) -> usize),
    Metric(&'static Metric),
    Low(&'static Metric),
    High(&'static Metric),
}

/// What a row has in a column.
pub(crate) enum Cell {
    Text(String),
    Count(usize),
    /// A value, or `None` if the cell has none.
    Measured(Option<f64>, &'static Metric),
}

impl Column {
    pub(crate) fn cell(&self, row: &Row) -> Cell {
        match self.content {
            Content::Text(of) => Cell::Text(of(row)),
            Content::Count(of) => Cell::Count(of(row)),
            Content::Metric(metric) => Cell::Measured(row.value(metric.id), metric),
            Content::Low(metric) => Cell::Measured(interval(row, metric).map(|(low, _)| low), metric),
            Content::High(metric) => Cell::Measured(interval(row, metric).map(|(_, high)| high), metric),
        }
    }

    /// Whether the page's table has it. The others are for scripts.
    pub(crate) fn on_page(&self) -> bool {
        const FOR_SCRIPTS: [&str; 27] = [
            "ended_at_tokens",
            "needed_bytes",
            "model_ratio",
            "control_tpot_ratio",
            "control_cache_ratio",
            "last_level_cache_bytes",
            "first_depth_tokens",
            "last_depth_tokens",
            "page_faults",
            "major_page_faults",
            "block",
            "formula_residual_bytes",
            "pss_bytes",
            "allocator_kept_bytes",
            "untouched_bytes",
            "rss_residual_bytes",
            "rss_peak_prefill_bytes",
            "rss_peak_decode_bytes",
            "harness_rows_bytes",
            "allocated_bytes_per_token",
            "heap_open_bytes",
            "heap_closed_bytes",
            "fork_step_bytes",
            "shared_bytes",
            "sequence_bytes",
            "fork_shared_bytes",
            "reserved_bytes",
        ];
        const OF_QUALITY: [&str; 12] = [
            "attn_rel_l2",
            "retained_mass",
            "needle_acc",
            "recency_acc",
            "ppl",
            "ppl_delta",
            "kld_mean",
            "same_top1",
            "model_needle_acc",
            "model_needle_acc_dense",
            "lookup_acc",
            "lookup_acc_dense",
        ];
        let is_quality = QUALITY_METRICS.iter().any(|metric| metric.id == self.name);
        if is_quality && !OF_QUALITY.contains(&self.name) {
            return false;
        }
        !matches!(self.content, Content::Low(_) | Content::High(_)) && !FOR_SCRIPTS.contains(&self.name)
    }

    /// How its numbers compare, in words.
    pub(crate) fn traits(&self) -> Vec<&'static str> {
        let Content::Metric(metric) = self.content else { return vec![] };
        let better = match metric.better {
            Better::Lower => Some("lower is better"),
            Better::Higher => Some("higher is better"),
            Better::Neither => None,
        };
        let bound = metric.machine_bound.then_some("differs from machine to machine");
        let scaled = metric.sums_layers().then_some("scaled where not all layers were measured");
        better.into_iter().chain(bound).chain(scaled).collect()
    }
}

const fn text(name: &'static str, of: fn(&Row) -> String, meaning: &'static str) -> Column {
    Column { name, meaning, content: Content::Text(of) }
}

const fn count(name: &'static str, of: fn(&Row) -> usize, meaning: &'static str) -> Column {
    Column { name, meaning, content: Content::Count(of) }
}

const fn measured(id: &str) -> Column {
    let metric = known(id);
    Column { name: metric.id, meaning: metric.meaning, content: Content::Metric(metric) }
}

const fn low(name: &'static str, id: &str) -> Column {
    Column { name, meaning: "the lower end of the interval of the column without `_low`, 95 %", content: Content::Low(known(id)) }
}

const fn high(name: &'static str, id: &str) -> Column {
    Column { name, meaning: "the upper end of the interval of the column without `_high`, 95 %", content: Content::High(known(id)) }
}

fn interval(row: &Row, metric: &Metric) -> Option<(f64, f64)> {
    row.values.get(metric.id)?.interval
}

fn verdict(row: &Row, id: &str) -> String {
    if row.cell.baseline.as_ref() == Some(&row.cell.id) {
        return "baseline".into();
    }
    row.values.get(id).and_then(|value| value.verdict.clone()).unwrap_or_default()
}

/// Every column, in order. New ones go to the end.
pub(crate) const COLUMNS: [Column; OF_COSTS.len() + QUALITY_METRICS.len() + OF_INTERVALS.len()] = {
    let mut all = [OF_COSTS[0]; OF_COSTS.len() + QUALITY_METRICS.len() + OF_INTERVALS.len()];
    let mut index = 0;
    while index < all.len() {
        let of_quality = index.saturating_sub(OF_COSTS.len());
        all[index] = if index < OF_COSTS.len() {
            OF_COSTS[index]
        } else if of_quality < QUALITY_METRICS.len() {
            measured(QUALITY_METRICS[of_quality].id)
        } else {
            OF_INTERVALS[of_quality - QUALITY_METRICS.len()]
        };
        index += 1;
    }
    all
};

/// Intervals of the metrics of quality, and where the cell was timed.
const OF_INTERVALS: [Column; 29] = [
    low("ppl_delta_low", "ppl_delta"),
    high("ppl_delta_high", "ppl_delta"),
    low("kld_mean_low", "kld_mean"),
    high("kld_mean_high", "kld_mean"),
    low("same_top1_low", "same_top1"),
    high("same_top1_high", "same_top1"),
    low("needle_acc_low", "needle_acc"),
    high("needle_acc_high", "needle_acc"),
    low("recency_acc_low", "recency_acc"),
    high("recency_acc_high", "recency_acc"),
    low("ppl_low", "ppl"),
    high("ppl_high", "ppl"),
    low("kld_p99_low", "kld_p99"),
    high("kld_p99_high", "kld_p99"),
    low("attn_rel_l2_low", "attn_rel_l2"),
    high("attn_rel_l2_high", "attn_rel_l2"),
    low("retained_mass_low", "retained_mass"),
    high("retained_mass_high", "retained_mass"),
    low("needle_acc_dense_low", "needle_acc_dense"),
    high("needle_acc_dense_high", "needle_acc_dense"),
    low("model_needle_acc_low", "model_needle_acc"),
    high("model_needle_acc_high", "model_needle_acc"),
    low("model_needle_acc_dense_low", "model_needle_acc_dense"),
    high("model_needle_acc_dense_high", "model_needle_acc_dense"),
    low("lookup_acc_low", "lookup_acc"),
    high("lookup_acc_high", "lookup_acc"),
    low("lookup_acc_dense_low", "lookup_acc_dense"),
    high("lookup_acc_dense_high", "lookup_acc_dense"),
    text(
        MACHINE,
        |row| row.machine.clone(),
        "the machine that timed the cell: its hashed id, its processor, the threads and the kernels that were used",
    ),
];

/// The column that tells the machines of a joined run apart.
pub(crate) const MACHINE: &str = "machine";

/// The cell, and what it costs.
const OF_COSTS: [Column; 97] = [
    text("label", |row| row.cell.label.clone(), "the strategy instance's label in the config"),
    text("strategy", |row| row.cell.strategy.clone(), "the strategy's id"),
    text("model", |row| row.model.clone(), "the model that used the cache"),
    text(
        "workload",
        |row| row.cell.workload.clone(),
        "decode: a prompt of seq_len tokens, then decode steps at that length; generate: every step from the first token to seq_len",
    ),
    count("seq_len", |row| row.cell.seq_len, "tokens in each sequence: the prompt's length (decode) or the final length (generate)"),
    count("batch", |row| row.cell.batch, "sequences decoded together"),
    text("status", |row| row.status.to_string(), "ok, failed, timed out or out of memory"),
    text("error", |row| row.error.clone().unwrap_or_default(), "why the cell failed"),
    text(
        "guarantee",
        |row| row.guarantee.clone().unwrap_or_default(),
        "the cache's guarantee relative to recomputation; K and V are the largest error of a stored key or value, relative to the largest magnitude in its row or group",
    ),
    measured("ttft_ms"),
    measured("tpot_ms_p50"),
    measured("tpot_ms_p95"),
    measured("cache_ms_p50"),
    measured("seam_ms_p50"),
    measured("model_ms_p50"),
    measured("tokens_per_s"),
    measured("total_ms"),
    measured("payload_bytes"),
    measured("metadata_bytes"),
    measured("slack_bytes"),
    measured("reserved_bytes"),
    measured("scratch_peak_bytes"),
    measured("heap_live_bytes"),
    measured("heap_peak_bytes"),
    measured("bytes_per_token"),
    measured("seen_tokens"),
    measured("resident_tokens"),
    measured("model_bytes"),
    text("cell", |row| row.cell.id.clone(), "the cell's id, which does not depend on where the cell runs"),
    text("block", |row| row.cell.block.clone(), "the comparison block that the cell was measured in"),
    text("phase", |row| row.phase.clone().unwrap_or_default(), "where the cell was when it failed"),
    text(
        "fill",
        |row| worded(row.fill),
        "how the cache came to its depth: prefill (the model ran the prompt), replay (the rows of a recorded, exactly computed prompt were appended), steps (token by token) or generated (generated rows were appended)",
    ),
    text(
        "ttft_source",
        |row| worded(row.ttft_source),
        "where ttft_ms comes from: prefill (a prefill was timed) composed (recorded_model_ms + replayed_cache_ms) or cache (the cache alone, without a model)",
    ),
    measured("predicted_bytes"),
    measured("recorded_model_ms"),
    measured("replayed_cache_ms"),
    measured("ttft_real_ms"),
    measured("fill_ms"),
    text("notes", |row| row.notes.join("; "), "what a reader must know of the row's numbers"),
    low("tpot_ms_p50_low", "tpot_ms_p50"),
    high("tpot_ms_p50_high", "tpot_ms_p50"),
    measured("tpot_ratio"),
    low("tpot_ratio_low", "tpot_ratio"),
    high("tpot_ratio_high", "tpot_ratio"),
    text(
        "tpot_verdict",
        |row| verdict(row, "tpot_ratio"),
        "same (the interval lies within the margin), faster or slower (it excludes 1), or inconclusive",
    ),
    measured("cache_ratio"),
    low("cache_ratio_low", "cache_ratio"),
    high("cache_ratio_high", "cache_ratio"),
    text("cache_verdict", |row| verdict(row, "cache_ratio"), "the same of the cache's part"),
    count("launches", |row| row.launches, "processes in which the cell was timed"),
    measured("model_ratio"),
    measured("control_tpot_ratio"),
    measured("control_cache_ratio"),
    measured("read_bytes"),
    measured("read_bandwidth"),
    measured("bandwidth_share"),
    text(
        "residency",
        |row| row.residency().to_owned(),
        "resident (what a step reads fits the last-level cache) or streamed (it comes from memory)",
    ),
    measured("working_set_bytes"),
    measured("last_level_cache_bytes"),
    measured("first_depth_tokens"),
    measured("last_depth_tokens"),
    measured("run_delay_share"),
    measured("steal_share"),
    measured("page_faults"),
    low("control_tpot_ratio_low", "control_tpot_ratio"),
    high("control_tpot_ratio_high", "control_tpot_ratio"),
    measured("major_page_faults"),
    low("control_cache_ratio_low", "control_cache_ratio"),
    high("control_cache_ratio_high", "control_cache_ratio"),
    measured("formula_bytes"),
    measured("usage_bytes"),
    measured("formula_residual_bytes"),
    measured("ledger_residual_bytes"),
    measured("rss_bytes"),
    measured("pss_bytes"),
    measured("allocator_kept_bytes"),
    measured("untouched_bytes"),
    measured("rss_residual_bytes"),
    measured("rss_peak_prefill_bytes"),
    measured("rss_peak_decode_bytes"),
    measured("transient_peak_prefill_bytes"),
    measured("transient_peak_decode_bytes"),
    measured("harness_rows_bytes"),
    measured("allocs_per_token"),
    measured("allocated_bytes_per_token"),
    measured("effective_bits"),
    measured("heap_open_bytes"),
    measured("heap_closed_bytes"),
    measured("fork_bytes"),
    measured("fork_step_bytes"),
    measured("shared_bytes"),
    measured("sequence_bytes"),
    measured("fork_shared_bytes"),
    measured("heap_slope"),
    measured("heap_intercept_bytes"),
    measured("ended_at_tokens"),
    measured("needed_bytes"),
];

fn worded(of: Option<impl std::fmt::Display>) -> String {
    of.map(|of| of.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::METRICS;

    #[test]
    fn every_metric_has_one_column() {
        for metric in &METRICS {
            assert_eq!(COLUMNS.iter().filter(|column| column.name == metric.id).count(), 1, "{}", metric.id);
        }
    }

    #[test]
    fn a_metric_says_in_words_how_it_compares() {
        let of = |name: &str| COLUMNS.iter().find(|column| column.name == name).unwrap().traits();
        let scaled = "scaled where not all layers were measured";
        assert_eq!(of("tokens_per_s"), ["higher is better", "differs from machine to machine"]);
        assert_eq!(of("tpot_ms_p50"), ["lower is better", "differs from machine to machine", scaled]);
        assert_eq!(of("heap_live_bytes"), ["lower is better", scaled]);
        assert!(of("seen_tokens").is_empty() && of("label").is_empty());
    }
}
