//! The meaning of each column of `results.csv`.

/// A column and its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The name, with its unit.
    pub name: &'static str,
    /// The meaning.
    pub meaning: &'static str,
}

const fn column(name: &'static str, meaning: &'static str) -> Column {
    Column { name, meaning }
}

/// Every column, in order.
pub const COLUMNS: [Column; 28] = [
    column("label", "the strategy instance's label in the config"),
    column("strategy", "the strategy's id"),
    column("model", "the model that used the cache"),
    column(
        "workload",
        "decode: a prompt of seq_len tokens, then decode steps at that length; generate: every step from the first token to seq_len",
    ),
    column("seq_len", "tokens in each sequence: the prompt's length (decode) or the final length (generate)"),
    column("batch", "sequences decoded together"),
    column("status", "ok or failed"),
    column("error", "why the cell failed"),
    column(
        "guarantee",
        "the cache's guarantee relative to recomputation; K and V are the largest error of a stored key or value, relative to the largest magnitude in its row or group",
    ),
    column("ttft_ms", "time to first token, from the start of the prompt until the first token is chosen, in milliseconds"),
    column("tpot_ms_p50", "time per output token, the median time of a decode step of the whole batch without the first, in milliseconds"),
    column("tpot_ms_p95", "time per output token, 95th percentile; close to the maximum when decode_steps is below 20"),
    column("cache_ms_p50", "the cache's part of a decode step: begin, append, attend and commit over all layers, median in milliseconds"),
    column("seam_ms_p50", "the part of a decode step that copies each sequence's rows out of the batch, median in milliseconds"),
    column("model_ms_p50", "the rest of a decode step, median in milliseconds"),
    column("tokens_per_s", "decode throughput of the batch: batch / median step time"),
    column("total_ms", "all steps of the cell, in milliseconds"),
    column("payload_bytes", "the cache's own account after the last step: codes of keys and values"),
    column("metadata_bytes", "the cache's own account after the last step: scales, block tables and other bookkeeping"),
    column("slack_bytes", "the cache's own account after the last step: reserved but unused"),
    column("reserved_bytes", "payload + metadata + slack"),
    column("scratch_peak_bytes", "the cache's own account after the last step: rows held only during that step"),
    column(
        "heap_live_bytes",
        "exact heap bytes of the cache after the last step, counted by the allocator in a separate run without the model",
    ),
    column("heap_peak_bytes", "peak heap bytes of that run, including the tensors passed to and from the cache"),
    column("bytes_per_token", "heap_live_bytes per seen token, over all sequences"),
    column("seen_tokens", "tokens appended to the open sequences"),
    column("resident_tokens", "tokens whose keys and values the cache holds"),
    column("model_bytes", "bytes of the model's matrices, which lie outside the heap"),
];
