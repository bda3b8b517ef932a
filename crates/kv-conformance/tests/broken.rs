//! Tests of the suite itself. A strategy with a bug that real caches have shipped with must fail the check meant
//! for that bug. The same strategy without a bug must pass every check. A test's name is the bug and the check.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "broken/mod.rs"]
mod broken;
#[path = "broken/lax.rs"]
mod lax;

use broken::Broken;
use kv_conformance::doc::Plain;
use kv_conformance::{CHECKS, LONG_RUN, Report, Subject, Verdict, report};
use lax::Lax;

#[global_allocator]
static ALLOCATOR: kv_metrics::CountingAllocator = kv_metrics::CountingAllocator;

/// The checks that a bug fails, each with its message.
fn failures(bug: &str) -> Vec<(&'static str, String)> {
    let outcomes = report(&Subject::of::<Broken>(&format!("bug = '{bug}'")));
    outcomes.into_iter().filter_map(|Report { check, outcome, .. }| Some((check.name, outcome.err()?.to_string()))).collect()
}

/// Other checks that a bug also fails.
enum Others {
    /// Exactly these.
    Only(&'static [&'static str]),
    /// The bug carries over from one cache to the next, so it disturbs every check that compares two caches.
    Any,
}

fn assert_caught(bug: &str, meant: &str, others: Others) {
    let failures = failures(bug);
    let names: Vec<&str> = failures.iter().map(|(name, _)| *name).collect();
    assert!(names.contains(&meant), "{bug} is not caught by {meant}, but by {names:?}");
    for (name, message) in &failures {
        assert!(message.contains("hint: "), "{bug}: {name} gives no hint: {message}");
    }
    if let Others::Only(others) = others {
        let order = |name: &&str| CHECKS.iter().position(|check| check.name == *name);
        let mut expected: Vec<&str> = others.iter().copied().chain([meant]).collect();
        expected.sort_by_key(order);
        assert_eq!(names, expected, "{bug}: {failures:?}");
    }
}

macro_rules! caught {
    ($($bug:ident by $check:ident, others $others:expr;)+) => {
        $(
            mod $bug {
                mod is_caught_by {
                    use crate::Others::*;

                    #[test]
                    fn $check() {
                        crate::assert_caught(stringify!($bug), stringify!($check), $others);
                    }
                }
            }
        )+
    };
}

caught! {
    positions_after_eviction by positions_are_relative,
        others Only(&["guarantee_holds", "chunks_do_not_matter", "runs_are_reproducible", "threads_and_nans_do_not_spread", "long_runs_hold"]);
    rollback_resurrects by truncate_then_append_is_fresh, others Only(&["random_traces_agree_with_a_model"]);
    quantiser_idle_in_decode by guarantee_holds, others Only(&["chunks_do_not_matter", "long_runs_hold"]);
    bytes_thirty_two_fold by bytes_are_true, others Only(&[]);
    block_boundary by guarantee_holds, others Only(&["chunks_do_not_matter", "random_traces_agree_with_a_model", "long_runs_hold"]);
    shared_prefix_written by forks_are_isolated, others Only(&["random_traces_agree_with_a_model"]);
    leaks_generations by starts_empty_and_forgets, others Only(&["bytes_are_true", "random_traces_agree_with_a_model"]);
    leaks by bytes_are_true, others Only(&[]);
    reports_half by bytes_are_true, others Only(&[]);
    forks_for_free by bytes_are_true, others Only(&[]);
    row_per_query_head by bytes_are_true, others Only(&[]);
    ring_overwrites_within_step by chunks_do_not_matter, others Only(&["runs_are_reproducible", "threads_and_nans_do_not_spread", "long_runs_hold"]);
    baseline_forgets by guarantee_holds, others Only(&["chunks_do_not_matter", "random_traces_agree_with_a_model", "long_runs_hold"]);
    window_never_trims by bytes_are_true, others Only(&["nothing_evicted_is_exact"]);
    warm_across_cells by starts_empty_and_forgets, others Any;
    overflow_loses by full_loses_nothing, others Only(&[]);
    abandoned_step_stays by refusals_leave_no_trace, others Only(&["read_equals_view"]);
    mask_multiplies by threads_and_nans_do_not_spread, others Only(&["nothing_leaks"]);
    heads_dealt_in_turn by attend_equals_view, others Only(&["guarantee_holds", "nothing_leaks", "random_traces_agree_with_a_model"]);
    unseeded by runs_are_reproducible, others Any;
    seen_is_resident by random_traces_agree_with_a_model, others Only(&["bytes_are_true"]);
    window_one_short by nothing_evicted_is_exact, others Only(&["bytes_are_true"]);
    lossy_forgets by guarantee_holds, others Only(&["long_runs_hold"]);
    upper_layers_forget by long_runs_hold, others Only(&[]);
    lossy_chunks_forget by long_runs_hold, others Only(&[]);
    seals_wrongly_late by long_runs_hold, others Only(&[]);
    prompt_end_forgets by long_runs_hold, others Only(&["random_traces_agree_with_a_model"]);
    full_by_step_size by full_loses_nothing, others Only(&[]);
    full_from_the_start by starts_empty_and_forgets, others Any;
    full_for_forks by forks_are_isolated, others Only(&["read_equals_view", "bytes_are_true", "random_traces_agree_with_a_model"]);
    full_at_commit by starts_empty_and_forgets, others Any;
    full_before_it_is by forks_are_isolated, others Any;
    predicts_keys_only by predicted_bytes_hold, others Only(&[]);
    predicts_one_sequence by predicted_bytes_hold, others Only(&[]);
    predicts_no_slack by predicted_bytes_hold, others Only(&[]);
    predicts_everything by predicted_bytes_hold, others Only(&[]);
    predicts_any_slack by predicted_bytes_hold, others Only(&[]);
    read_is_causal by read_equals_view, others Only(&[]);
    read_sees_step by read_equals_view, others Only(&[]);
    read_ends_step by read_equals_view, others Only(&[]);
    reads_nothing by read_equals_view, others Only(&[]);
    reaches_too_far by reach_holds, others Only(&[]);
    reaches_one_too_far by reach_holds, others Only(&[]);
}

#[test]
fn without_a_bug_everything_passes() {
    for Report { check, outcome, tokens } in report(&Subject::of::<Broken>("")) {
        assert!(outcome.is_ok(), "{}, {tokens} tokens: {}", check.name, outcome.unwrap_err());
    }
}

#[test]
fn every_outcome_names_the_length_it_reached() {
    let subject = Subject::of::<Broken>("").with_long_run(700);
    for Report { check, tokens, .. } in report(&subject) {
        match check.name {
            "config_is_strict" => assert_eq!(tokens, 0),
            "guarantee_holds" => assert_eq!(tokens, 514),
            "long_runs_hold" => assert_eq!(tokens, 700),
            // Those that do not apply to an exact cache feed it nothing.
            "nothing_evicted_is_exact" | "positions_are_relative" | "reach_holds" => assert_eq!(tokens, 0),
            name => assert!((1..4096 + 61).contains(&tokens), "{name}: {tokens}"),
        }
    }
    assert_eq!(kv_conformance::run(&Subject::of::<Broken>(""), kv_conformance::long_runs_hold).1, LONG_RUN);
}

#[test]
fn unknown_keys_are_caught_by_config_is_strict() {
    let (outcome, _) = kv_conformance::run(&Subject::of::<Lax>(""), kv_conformance::config_is_strict);
    assert!(outcome.unwrap_err().to_string().contains("the unknown key `no_such_key` was ignored"));
}

#[test]
fn skips_say_why() {
    let (outcome, _) = kv_conformance::run(&Subject::of::<Broken>(""), kv_conformance::positions_are_relative);
    assert!(matches!(outcome, Ok(Verdict::Skipped(reason)) if reason.contains("exact")));
    let (outcome, _) = kv_conformance::run(&Subject::of::<Plain>(""), kv_conformance::predicted_bytes_hold);
    assert!(matches!(outcome, Ok(Verdict::Skipped(reason)) if reason.contains("predicts no bytes")));
}
