//! The checks, grouped by topic.

mod attention;
mod bytes;
mod configs;
mod lifecycle;
mod long_runs;
mod predictions;
mod reaches;
mod reads;
mod refusals;
mod rows;
mod spread;
mod traces;

use crate::{Outcome, Subject};

pub use attention::{attend_equals_view, chunks_do_not_matter, guarantee_holds, nothing_evicted_is_exact, positions_are_relative};
pub use bytes::bytes_are_true;
pub use configs::config_is_strict;
pub use lifecycle::{forks_are_isolated, starts_empty_and_forgets, truncate_then_append_is_fresh};
pub use long_runs::long_runs_hold;
pub use predictions::predicted_bytes_hold;
pub use reaches::reach_holds;
pub use reads::read_equals_view;
pub use refusals::{full_loses_nothing, refusals_leave_no_trace};
pub use spread::{nothing_leaks, threads_and_nans_do_not_spread};
pub use traces::{random_traces_agree_with_a_model, runs_are_reproducible};

/// A check with its name.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// The function's name.
    pub name: &'static str,
    /// What it requires, in one line.
    pub what: &'static str,
    /// The check.
    pub run: fn(&Subject) -> Outcome,
}

const fn check(name: &'static str, what: &'static str, run: fn(&Subject) -> Outcome) -> Check {
    Check { name, what, run }
}

/// Every check, the cheapest first.
pub const CHECKS: [Check; 20] = [
    check("config_is_strict", "the config survives a TOML round trip, and unknown keys are refused by name", config_is_strict),
    check(
        "starts_empty_and_forgets",
        "a new sequence is empty, a closed one is gone, and a second run equals the first",
        starts_empty_and_forgets,
    ),
    check("refusals_leave_no_trace", "every misuse returns its documented error and changes nothing", refusals_leave_no_trace),
    check("attend_equals_view", "`attend` of one token equals dense attention over `view`, at every length", attend_equals_view),
    check("read_equals_view", "`read` equals dense attention over `view`, at every length, or is refused", read_equals_view),
    check(
        "guarantee_holds",
        "exact caches equal recomputation, lossy ones stay within their bound, evicting ones keep the remaining rows intact",
        guarantee_holds,
    ),
    check("nothing_evicted_is_exact", "until the first eviction, an evicting cache equals recomputation", nothing_evicted_is_exact),
    check(
        "positions_are_relative",
        "after eviction, attention equals dense attention over the kept tokens at any base position",
        positions_are_relative,
    ),
    check("reach_holds", "beyond the context, no query sees a key that is as far away as the context is long", reach_holds),
    check("chunks_do_not_matter", "one chunk, single tokens and uneven chunks give the same result", chunks_do_not_matter),
    check(
        "truncate_then_append_is_fresh",
        "truncating and appending equals a run without the truncated tokens, or is refused",
        truncate_then_append_is_fresh,
    ),
    check("forks_are_isolated", "a fork and its parent do not see each other's tokens", forks_are_isolated),
    check("full_loses_nothing", "at the limit, the reported numbers are true and the state is unchanged", full_loses_nothing),
    check("nothing_leaks", "NaNs in one layer, sequence or KV head do not reach the others", nothing_leaks),
    check("bytes_are_true", "`usage` equals the allocator's bytes and scales with the KV heads", bytes_are_true),
    check("predicted_bytes_hold", "what the strategy predicts is at least what `usage` reports, and not far above", predicted_bytes_hold),
    check("runs_are_reproducible", "the same run gives the same bits, positions and bytes", runs_are_reproducible),
    check(
        "random_traces_agree_with_a_model",
        "random sequences of open, step, fork, truncate and close agree with a simple model",
        random_traces_agree_with_a_model,
    ),
    check(
        "threads_and_nans_do_not_spread",
        "attention does not depend on the number of threads, and a NaN does not reach earlier queries",
        threads_and_nans_do_not_spread,
    ),
    check("long_runs_hold", "a long prompt in chunks and token by token, and what follows, keeps the guarantee", long_runs_hold),
];

/// The largest difference that the order of summation may cause, and factors that kernels round to 16 bits: a row of values between
/// −1 and 1 is then off by up to 2⁻¹⁶ of the largest weight (2.7e-5 in all was seen of four rows of 128 values in `q8_0`).
pub(crate) const TOLERANCE: f32 = 5e-5;
