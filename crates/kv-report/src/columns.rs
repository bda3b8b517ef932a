//! What each column of `results.csv` means.

/// A column and its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The name, with its unit.
    pub name: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

const fn column(name: &'static str, meaning: &'static str) -> Column {
    Column { name, meaning }
}

/// Every column, in order.
pub const COLUMNS: [Column; 27] = [
    column("label", "the strategy instance, as the config calls it"),
    column("strategy", "the strategy's id"),
    column("model", "the model the cache served"),
    column("workload", "decode: a prompt of seq_len tokens, then steps at that depth; generate: from the first token to seq_len"),
    column("seq_len", "tokens in each sequence: the prompt's length (decode) or the final length (generate)"),
    column("batch", "sequences that are stepped together"),
    column("status", "ok or failed"),
    column("error", "why a cell failed"),
    column(
        "guarantee",
        "what the cache promises, compared with recomputing; K and V bound a stored value's error, relative to the largest in the row or group it is encoded with",
    ),
    column("ttft_ms", "time to first token: the whole prompt until the first token is chosen, in milliseconds"),
    column("tpot_ms_p50", "time per output token: median time of a decode step of the whole batch, without the first, in milliseconds"),
    column("tpot_ms_p95", "95th percentile of the same; close to the maximum when decode_steps is below 20"),
    column("cache_ms_p50", "of a decode step: begin, append, attend and commit over all layers, median in milliseconds"),
    column("seam_ms_p50", "of a decode step: copying each sequence's rows out of the batch's for the cache, median in milliseconds"),
    column("model_ms_p50", "of a decode step: everything else, median in milliseconds"),
    column("tokens_per_s", "decode throughput of the batch: batch / median step time"),
    column("total_ms", "all steps of the cell together, in milliseconds"),
    column("payload_bytes", "the cache's own account after the last step: codes of keys and values"),
    column("metadata_bytes", "the cache's own account: scales, block tables, bookkeeping"),
    column("slack_bytes", "the cache's own account: reserved but unused"),
    column("reserved_bytes", "payload + metadata + slack"),
    column("scratch_peak_bytes", "the cache's own account: rows held only during the last step"),
    column(
        "heap_live_bytes",
        "exact heap bytes of the cache after the last step, counted by the allocator in a run of its own without the model",
    ),
    column("heap_peak_bytes", "the most heap bytes at any moment of that run, tensors at the seam included"),
    column("bytes_per_token", "heap_live_bytes per token seen, over all sequences"),
    column("seen_tokens", "tokens appended to the open sequences"),
    column("resident_tokens", "tokens whose keys and values are held"),
];
