//! A program that does not install the counting allocator.

use kv_conformance::{Subject, Verdict, bytes_are_true, doc::Plain, run};

#[test]
fn bytes_are_reported_as_not_run() {
    let (outcome, _) = run(&Subject::of::<Plain>(""), bytes_are_true);
    assert!(matches!(&outcome, Ok(Verdict::NotRun(reason)) if reason.contains("counting allocator")), "{outcome:?}");
}

/// Its outcome must not be taken for a pass.
#[test]
#[should_panic(expected = "bytes_are_true was NOT RUN")]
fn a_test_of_the_bytes_fails() {
    kv_conformance::assert_passes(&Subject::of::<Plain>(""), "bytes_are_true", bytes_are_true);
}
