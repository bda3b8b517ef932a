//! Bytes that a strategy allocates on another thread or maps beside the heap, in a process in which nothing else runs: a file with one test.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "broken/mod.rs"]
mod broken;

use broken::Broken;
use kv_conformance::{Subject, Verdict, bytes_are_true, run};

#[global_allocator]
static ALLOCATOR: kv_metrics::CountingAllocator = kv_metrics::CountingAllocator;

#[test]
fn bytes_of_another_thread_and_beside_the_heap_are_caught_by_bytes_are_true() {
    let subject = |bug: &str| Subject::of::<Broken>(&format!("bug = '{bug}'"));
    let (outcome, _) = run(&subject("bytes_of_another_thread").alone_in_its_process(), bytes_are_true);
    assert!(outcome.unwrap_err().to_string().contains("the allocator counts"));
    let (outcome, _) = run(&subject("bytes_of_another_thread"), bytes_are_true);
    assert_eq!(outcome, Ok(Verdict::Passed), "a meter of one thread does not see them");
    let (outcome, _) = run(&subject("maps_beside_the_heap").alone_in_its_process(), bytes_are_true);
    assert!(outcome.unwrap_err().to_string().contains("mapped beside"));
    let (outcome, _) = run(&subject("none").alone_in_its_process(), bytes_are_true);
    assert_eq!(outcome, Ok(Verdict::Passed));
}
