//! The suite is tested itself: a strategy with each bug that caches were shipped with must fail the check meant
//! for it, and the same strategy without a bug must pass them all.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "broken/mod.rs"]
mod broken;

use broken::Broken;
use broken::lax::Lax;
use kv_conformance::{Subject, Verdict, report};

/// The names of the checks that fail, each with its message.
fn failures(bug: &str) -> Vec<(&'static str, String)> {
    let outcomes = report(&Subject::of::<Broken>(&format!("bug = '{bug}'")));
    outcomes.into_iter().filter_map(|(check, outcome)| Some((check.name, outcome.err()?.to_string()))).collect()
}

/// Each bug, the check meant for it first, and the others that it cannot help failing.
const CAUGHT: [(&str, &[&str]); 19] = [
    ("positions_after_eviction", &["positions_are_relative", "guarantee_holds"]),
    ("rollback_resurrects", &["truncate_then_append_is_fresh", "random_traces_agree_with_a_model"]),
    ("quantiser_idle_in_decode", &["guarantee_holds"]),
    ("bytes_thirty_two_fold", &["bytes_are_true"]),
    ("block_boundary", &["guarantee_holds", "random_traces_agree_with_a_model"]),
    ("shared_prefix_written", &["forks_are_isolated", "random_traces_agree_with_a_model"]),
    ("leaks_generations", &["starts_empty_and_forgets", "random_traces_agree_with_a_model"]),
    ("row_per_query_head", &["bytes_are_true"]),
    ("ring_overwrites_within_step", &["chunks_do_not_matter"]),
    ("baseline_forgets", &["guarantee_holds"]),
    ("window_never_trims", &["bytes_are_true"]),
    ("warm_across_cells", &["starts_empty_and_forgets"]),
    ("overflow_loses", &["full_loses_nothing"]),
    ("abandoned_step_stays", &["refusals_leave_no_trace"]),
    ("mask_multiplies", &["threads_and_nans_do_not_spread"]),
    ("heads_dealt_in_turn", &["attend_equals_view"]),
    ("unseeded", &["runs_are_reproducible"]),
    ("seen_is_resident", &["random_traces_agree_with_a_model"]),
    ("window_one_short", &["nothing_evicted_is_exact"]),
];

#[test]
fn without_a_bug_everything_passes() {
    let outcomes = report(&Subject::of::<Broken>(""));
    for (check, outcome) in outcomes {
        assert!(!matches!(outcome, Err(_)), "{}: {}", check.name, outcome.unwrap_err());
    }
}

#[test]
fn each_bug_fails_the_check_meant_for_it() {
    for (bug, expected) in CAUGHT {
        let failures = failures(bug);
        let names: Vec<&str> = failures.iter().map(|(name, _)| *name).collect();
        println!("{bug}: caught by {}", names.join(", "));
        for (name, message) in &failures {
            println!("  {name}: {message}");
            assert!(message.contains("mend: "), "{bug}: {name} does not say what to mend");
        }
        assert!(names.contains(&expected[0]), "{bug} is not caught by {}, but by {names:?}", expected[0]);
    }
}

#[test]
fn unknown_keys_must_be_refused() {
    let outcome = kv_conformance::run(&Subject::of::<Lax>(""), kv_conformance::config_is_strict);
    assert!(outcome.unwrap_err().to_string().contains("the unknown key `no_such_key` was ignored"));
}

#[test]
fn skips_say_why() {
    let outcome = kv_conformance::run(&Subject::of::<Broken>(""), kv_conformance::positions_are_relative);
    assert!(matches!(outcome, Ok(Verdict::Skipped(reason)) if reason.contains("exact")));
}
