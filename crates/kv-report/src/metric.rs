//! The metrics: every number that a cell can have, with its unit and its meaning.

use crate::Tolerance;
use crate::quality_metric::QUALITY_METRICS;

/// A quantity that is measured, counted or predicted for a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// The name, with its unit: the key of a visit's values and the column of `results.csv`.
    pub id: &'static str,
    /// The unit of its values.
    pub unit: Unit,
    /// The direction in which a strategy improves.
    pub better: Better,
    /// Whether it differs from machine to machine, and from run to run. The others are the same wherever a cell runs.
    pub machine_bound: bool,
    /// How far two measurements of the same cell may be apart, on whatever machines. `None` where they differ freely.
    pub tolerance: Option<Tolerance>,
    /// The meaning.
    pub meaning: &'static str,
}

impl Metric {
    /// Whether it is a sum over layers: where not all layers of a shape were measured, it is scaled to all of them. All times
    /// and bytes are, and allocations of a step, but those of the model and the machine, and those that do not grow with layers:
    /// what a call for one layer takes for its time, and what the allocator or nobody explains. A part of a sum that is the same
    /// for any number of layers, such as the scratch of one layer's attention in `heap_peak_bytes`, is scaled with the rest.
    /// `working_set_bytes` is not: it says what the measured steps read, and so whether the processor's caches held it.
    pub fn sums_layers(&self) -> bool {
        const OTHERS: [&str; 7] = [
            "model_bytes",
            "working_set_bytes",
            "last_level_cache_bytes",
            "transient_peak_prefill_bytes",
            "transient_peak_decode_bytes",
            "allocator_kept_bytes",
            "rss_residual_bytes",
        ];
        let is_sum = matches!(self.unit, Unit::Milliseconds | Unit::Bytes | Unit::BytesPerToken) || self.id == "allocs_per_token";
        is_sum && !OTHERS.contains(&self.id)
    }
}

/// The unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Thousandths of a second.
    Milliseconds,
    /// Bytes.
    Bytes,
    /// Tokens.
    Tokens,
    /// Tokens per second.
    TokensPerSecond,
    /// Bytes per token.
    BytesPerToken,
    /// Bytes per second.
    BytesPerSecond,
    /// One value over another.
    Ratio,
    /// A part of a whole, 0 to 1.
    Share,
    /// A number of events.
    Count,
    /// Bits per value.
    Bits,
    /// Information, in natural units.
    Nats,
    /// The exponential of a mean negative log-likelihood in nats.
    Perplexity,
}

impl std::fmt::Display for Unit {
    /// As `metrics.csv` shows it.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Unit::Milliseconds => "ms",
            Unit::Bytes => "bytes",
            Unit::Tokens => "tokens",
            Unit::TokensPerSecond => "tokens/s",
            Unit::BytesPerToken => "bytes/token",
            Unit::BytesPerSecond => "bytes/s",
            Unit::Ratio => "ratio",
            Unit::Share => "share",
            Unit::Count => "count",
            Unit::Bits => "bits",
            Unit::Nats => "nats",
            Unit::Perplexity => "perplexity",
        })
    }
}

/// The direction in which a strategy improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Less is better.
    Lower,
    /// More is better.
    Higher,
    /// It describes the cell and does not rank strategies.
    Neither,
}

/// A time in milliseconds.
const fn time(id: &'static str, better: Better, meaning: &'static str) -> Metric {
    Metric { id, unit: Unit::Milliseconds, better, machine_bound: true, tolerance: None, meaning }
}

/// Another number that depends on the machine.
pub(crate) const fn measured(id: &'static str, unit: Unit, better: Better, meaning: &'static str) -> Metric {
    Metric { id, unit, better, machine_bound: true, tolerance: None, meaning }
}

/// A number that is counted and the same on every machine.
pub(crate) const fn count(id: &'static str, unit: Unit, better: Better, meaning: &'static str) -> Metric {
    Metric { id, unit, better, machine_bound: false, tolerance: Some(Tolerance::EXACT), meaning }
}

/// Every metric.
pub const METRICS: [Metric; COSTS.len() + QUALITY_METRICS.len()] = {
    let mut all = [COSTS[0]; COSTS.len() + QUALITY_METRICS.len()];
    let mut index = 0;
    while index < all.len() {
        all[index] = if index < COSTS.len() { COSTS[index] } else { QUALITY_METRICS[index - COSTS.len()] };
        index += 1;
    }
    all
};

/// The metrics of latency and memory.
const COSTS: [Metric; 68] = [
    time("ttft_ms", Better::Lower, "time to first token, from the start of the prompt until the first token is chosen, in milliseconds"),
    time(
        "tpot_ms_p50",
        Better::Lower,
        "time per output token, the median time of a decode step of the whole batch, in milliseconds; from three launches on the geometric mean of their medians",
    ),
    time(
        "tpot_ms_p95",
        Better::Lower,
        "time per output token, 95th percentile over all launches; left out with fewer than 60 steps, where it is next to the maximum",
    ),
    time(
        "cache_ms_p50",
        Better::Lower,
        "the cache's part of a decode step: begin, append, attend and commit over all layers, median in milliseconds",
    ),
    time(
        "seam_ms_p50",
        Better::Lower,
        "the part of a decode step that copies each sequence's rows out of the batch, median in milliseconds",
    ),
    time("model_ms_p50", Better::Lower, "the rest of a decode step, median in milliseconds"),
    Metric {
        id: "tokens_per_s",
        unit: Unit::TokensPerSecond,
        better: Better::Higher,
        machine_bound: true,
        tolerance: None,
        meaning: "decode throughput of the batch: batch / median step time",
    },
    time("total_ms", Better::Lower, "all steps of the cell, in milliseconds"),
    count("payload_bytes", Unit::Bytes, Better::Lower, "the cache's own account at exactly the cell's length: codes of keys and values"),
    count(
        "metadata_bytes",
        Unit::Bytes,
        Better::Lower,
        "the cache's own account at exactly the cell's length: scales, block tables and other bookkeeping",
    ),
    count("slack_bytes", Unit::Bytes, Better::Lower, "the cache's own account at exactly the cell's length: reserved but unused"),
    count("reserved_bytes", Unit::Bytes, Better::Lower, "payload + metadata + slack"),
    count("scratch_peak_bytes", Unit::Bytes, Better::Lower, "the cache's own account: rows held only during the last step"),
    count(
        "heap_live_bytes",
        Unit::Bytes,
        Better::Lower,
        "exact heap bytes of the cache at exactly the cell's length, counted by the allocator in a process of its own without the model",
    ),
    Metric {
        // Attention's scratch grows with the number of threads.
        machine_bound: true,
        tolerance: None,
        ..count(
            "heap_peak_bytes",
            Unit::Bytes,
            Better::Lower,
            "the most heap bytes within the cache's methods in that process, the rows that it was given included",
        )
    },
    count("bytes_per_token", Unit::BytesPerToken, Better::Lower, "heap_live_bytes per seen token, over all sequences"),
    count("seen_tokens", Unit::Tokens, Better::Neither, "tokens appended to the open sequences"),
    count("resident_tokens", Unit::Tokens, Better::Neither, "tokens whose keys and values the cache holds"),
    count("model_bytes", Unit::Bytes, Better::Neither, "bytes of the model's matrices, which lie outside the heap"),
    count(
        "predicted_bytes",
        Unit::Bytes,
        Better::Neither,
        "what the strategy predicted for the end of the cell, before the cache existed: seq_len tokens, and the decode steps after them",
    ),
    time("recorded_model_ms", Better::Neither, "the model's part of a composed ttft, recorded once"),
    time("replayed_cache_ms", Better::Lower, "the cache's part of a composed ttft, measured in its own replay"),
    time("ttft_real_ms", Better::Lower, "a real prefill that checks the composed one"),
    time("fill_ms", Better::Neither, "time to bring the cache to its depth, before the first decode step"),
    measured(
        "tpot_ratio",
        Unit::Ratio,
        Better::Lower,
        "time per output token over the baseline's: of each launch the median over its rounds of the ratio of their times in that round, and of all launches the geometric mean; below 1 is faster",
    ),
    measured("cache_ratio", Unit::Ratio, Better::Lower, "the cache's part of a step over the baseline's, paired by round"),
    measured(
        "model_ratio",
        Unit::Ratio,
        Better::Neither,
        "the model's part of a step over the baseline's: the same work, so another number than 1 is noise or the processor's caches",
    ),
    measured("control_tpot_ratio", Unit::Ratio, Better::Neither, "the baseline, timed twice, over itself: the noise of tpot_ratio"),
    measured("control_cache_ratio", Unit::Ratio, Better::Neither, "the baseline, timed twice, over itself: the noise of cache_ratio"),
    count(
        "read_bytes",
        Unit::Bytes,
        Better::Lower,
        "encoded keys and values that attention reads in a decode step, counted by the kernels; none if the cache does not use them",
    ),
    measured(
        "read_bandwidth",
        Unit::BytesPerSecond,
        Better::Neither,
        "what all threads read of memory a second, measured in the same launches",
    ),
    measured(
        "bandwidth_share",
        Unit::Share,
        Better::Higher,
        "read_bytes per cache_ms_p50, over read_bandwidth; above 1 the rows come from the processor's caches",
    ),
    measured("run_delay_share", Unit::Share, Better::Neither, "of the time, how long threads waited for a processor, per thread"),
    measured("steal_share", Unit::Share, Better::Neither, "of the time, what the machine's host gave to others"),
    measured("page_faults", Unit::Count, Better::Neither, "pages mapped in during the steps"),
    measured("major_page_faults", Unit::Count, Better::Neither, "of those, the ones that were read from a disk"),
    measured(
        "first_depth_tokens",
        Unit::Tokens,
        Better::Neither,
        "tokens of a sequence after the first step that counts: rounds before times are steady do not",
    ),
    count("last_depth_tokens", Unit::Tokens, Better::Neither, "tokens of a sequence after the last step"),
    count(
        "working_set_bytes",
        Unit::Bytes,
        Better::Neither,
        "what a step reads: model_bytes and read_bytes, or payload_bytes where those are unknown",
    ),
    measured("last_level_cache_bytes", Unit::Bytes, Better::Neither, "the processor's last-level cache"),
    count("formula_bytes", Unit::Bytes, Better::Lower, "ledger, level 1: what the strategy predicts at exactly the cell's length"),
    count("usage_bytes", Unit::Bytes, Better::Lower, "ledger, level 2: the cache's own account, payload + metadata + slack"),
    count(
        "formula_residual_bytes",
        Unit::Bytes,
        Better::Neither,
        "ledger: usage_bytes beyond formula_bytes; a warning above the larger of 0.1 % and 4 KiB",
    ),
    count(
        "ledger_residual_bytes",
        Unit::Bytes,
        Better::Neither,
        "ledger: heap_live_bytes beyond usage_bytes; a warning above the larger of 0.1 % and 4 KiB",
    ),
    measured(
        "rss_bytes",
        Unit::Bytes,
        Better::Lower,
        "ledger, level 4: anonymous pages that became resident with the cache (RssAnon); what of them does not grow with layers is not scaled",
    ),
    measured("pss_bytes", Unit::Bytes, Better::Lower, "resident pages that came with the cache, a shared page in parts (Pss)"),
    measured(
        "allocator_kept_bytes",
        Unit::Bytes,
        Better::Neither,
        "ledger: freed pages that the system's allocator kept until it was asked for them",
    ),
    measured("untouched_bytes", Unit::Bytes, Better::Neither, "ledger: heap whose pages were never touched, so that they are not resident"),
    measured(
        "rss_residual_bytes",
        Unit::Bytes,
        Better::Neither,
        "ledger: rss_bytes beyond heap_live_bytes + allocator_kept_bytes - untouched_bytes, with memory mapped beside the heap; a warning above the larger of 1 % and 1 MiB",
    ),
    measured("rss_peak_prefill_bytes", Unit::Bytes, Better::Lower, "how far resident pages rose during the prefill, files included"),
    measured("rss_peak_decode_bytes", Unit::Bytes, Better::Lower, "how far resident pages rose during the decode steps, files included"),
    measured(
        "transient_peak_prefill_bytes",
        Unit::Bytes,
        Better::Lower,
        "the most heap bytes that a call of the cache took during the prefill beyond what it held before the call and after it; rows that it was given and outputs are not among them",
    ),
    measured("transient_peak_decode_bytes", Unit::Bytes, Better::Lower, "the same of the decode steps"),
    count("harness_rows_bytes", Unit::Bytes, Better::Neither, "keys and values that the largest step of the prefill was given"),
    measured(
        "allocs_per_token",
        Unit::Count,
        Better::Lower,
        "allocations within the cache's methods per decoded token, attention included",
    ),
    measured("allocated_bytes_per_token", Unit::BytesPerToken, Better::Lower, "bytes of these allocations per decoded token"),
    count(
        "effective_bits",
        Unit::Bits,
        Better::Lower,
        "stored bits per cached value, scales and tables included: payload + metadata over the values of the resident tokens",
    ),
    count("heap_open_bytes", Unit::Bytes, Better::Lower, "heap bytes once the sequences are open and empty"),
    count("heap_closed_bytes", Unit::Bytes, Better::Lower, "heap bytes once all sequences are closed: what a pool keeps"),
    count("fork_bytes", Unit::Bytes, Better::Lower, "heap bytes that a fork of the first sequence adds, after the decode steps"),
    count("fork_step_bytes", Unit::Bytes, Better::Lower, "heap bytes that this fork has added once it took a step of its own"),
    count("shared_bytes", Unit::Bytes, Better::Higher, "payload that several sequences hold together, counted once"),
    count("sequence_bytes", Unit::Bytes, Better::Lower, "heap bytes per sequence, an average: (heap_live_bytes - shared_bytes) / batch"),
    count(
        "fork_shared_bytes",
        Unit::Bytes,
        Better::Higher,
        "payload that the first sequence and its fork share after the decode steps, counted once",
    ),
    count("heap_slope", Unit::BytesPerToken, Better::Lower, "bytes per token: the slope of the heap along the text, over all sequences"),
    count("heap_intercept_bytes", Unit::Bytes, Better::Lower, "fixed cost: the intercept of the heap along the text"),
    count(
        "ended_at_tokens",
        Unit::Tokens,
        Better::Higher,
        "tokens after which a stream ended, because the cache was full or reached no further; absent if it took all of them",
    ),
    count("needed_bytes", Unit::Bytes, Better::Lower, "what the strategy predicts for all tokens of a stream that ended before"),
];

/// [`METRICS`] in one place, so that references to its members last.
const ALL: &[Metric] = &METRICS;

/// The metric with an id.
pub fn metric(id: &str) -> Option<&'static Metric> {
    ALL.iter().find(|metric| metric.id == id)
}

/// The metric with an id that is written in the sources. In a constant, an id that no metric has does not compile.
pub(crate) const fn known(id: &str) -> &'static Metric {
    let mut index = 0;
    while index < ALL.len() {
        if same(ALL[index].id.as_bytes(), id.as_bytes()) {
            return &ALL[index];
        }
        index += 1;
    }
    panic!("no metric has this id")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut index = 0;
    while index < a.len() {
        if a[index] != b[index] {
            return false;
        }
        index += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_metric_is_found_by_its_id_and_no_two_share_one() {
        for each in &METRICS {
            assert_eq!(metric(each.id), Some(each));
            assert_eq!(known(each.id), each);
        }
        assert_eq!(metric("ttft"), None);
        assert_eq!(metric(""), None);
        assert_eq!(METRICS.iter().map(|metric| metric.id).collect::<BTreeSet<_>>().len(), METRICS.len());
    }

    #[test]
    #[should_panic(expected = "no metric has this id")]
    fn an_id_of_no_metric_is_not_known() {
        known("tpot_ms_p51");
    }

    #[test]
    fn a_unit_agrees_with_the_name() {
        for metric in &METRICS {
            let expected = match metric.id {
                "tokens_per_s" => Unit::TokensPerSecond,
                "bytes_per_token" => Unit::BytesPerToken,
                "read_bandwidth" => Unit::BytesPerSecond,
                "page_faults" | "major_page_faults" | "allocs_per_token" => Unit::Count,
                "effective_bits" => Unit::Bits,
                "heap_slope" | "allocated_bytes_per_token" => Unit::BytesPerToken,
                id if id.ends_with("_ratio") => Unit::Ratio,
                id if id.ends_with("_share") => Unit::Share,
                id if id.ends_with("_bytes") => Unit::Bytes,
                id if id.ends_with("_tokens") => Unit::Tokens,
                id if id.contains("kld") => Unit::Nats,
                id if id.contains("ppl") => Unit::Perplexity,
                id if id.ends_with("_l2") || id.ends_with("p_rms") => Unit::Ratio,
                "quality_windows" | "model_needle_questions" | "lookup_questions" => Unit::Count,
                id if QUALITY_METRICS.iter().any(|metric| metric.id == id) => Unit::Share,
                _ => Unit::Milliseconds,
            };
            assert_eq!(metric.unit, expected, "{}", metric.id);
        }
    }

    #[test]
    fn times_and_bytes_are_sums_over_layers_and_ratios_are_not() {
        let sums = |id: &str| metric(id).unwrap().sums_layers();
        for id in ["tpot_ms_p50", "fill_ms", "payload_bytes", "scratch_peak_bytes", "heap_peak_bytes", "read_bytes", "bytes_per_token"] {
            assert!(sums(id), "{id}");
        }
        for id in ["transient_peak_prefill_bytes", "transient_peak_decode_bytes", "allocator_kept_bytes", "rss_residual_bytes"] {
            assert!(!sums(id), "{id} does not grow with layers");
        }
        for id in ["tpot_ratio", "bandwidth_share", "seen_tokens", "page_faults", "read_bandwidth", "model_bytes", "working_set_bytes"] {
            assert!(!sums(id), "{id}");
        }
    }

    #[test]
    fn times_are_bound_to_the_machine_and_bytes_at_rest_are_not() {
        let bound = |id: &str| metric(id).unwrap().machine_bound;
        assert!(bound("tpot_ms_p50") && bound("tokens_per_s") && bound("heap_peak_bytes"));
        assert!(!bound("heap_live_bytes") && !bound("seen_tokens") && !bound("predicted_bytes"));
    }
}
