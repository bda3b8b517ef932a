//! A program that does not install the counting allocator.

use kv_conformance::{Subject, Verdict, bytes_are_true, doc::Plain, run};

#[test]
fn bytes_are_reported_as_not_run() {
    let (outcome, _) = run(&Subject::of::<Plain>(""), bytes_are_true);
    assert!(matches!(&outcome, Ok(Verdict::NotRun(reason)) if reason.contains("counting allocator")), "{outcome:?}");
}
