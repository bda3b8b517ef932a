//! A profile of the heap, alone in its process, because it would see the allocations of other tests.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use kv_metrics::{
    AllocatorMode, BufferPages, CountingAllocator, HeapMeter, HeapProfile, LARGE_BUFFER_BYTES, allocator_mode, set_buffer_pages,
};
use serde_json::Value;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const MIB: usize = 1 << 20;

/// Bytes of the program points whose stack names this function.
fn bytes_of(profile: &Value, function: &str) -> u64 {
    let names = |frame: &Value| profile["ftbl"][frame.as_u64().unwrap() as usize].as_str().unwrap().contains(function);
    let points = profile["pps"].as_array().unwrap().iter();
    points.filter(|point| point["fs"].as_array().unwrap().iter().any(names)).map(|point| point["tb"].as_u64().unwrap()).sum()
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).expect("a whole file")
}

#[inline(never)]
fn allocates_during_the_profile() -> Vec<u8> {
    std::hint::black_box(vec![1; 3 * MIB])
}

fn numbered(size: usize) -> Vec<u8> {
    (0..size).map(|index| index as u8).collect()
}

fn is_whole(buffer: &[u8]) -> bool {
    buffer.iter().enumerate().all(|(index, byte)| *byte == index as u8)
}

#[test]
fn a_profile_names_what_was_allocated_and_memory_outlives_every_mode() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["first.json", "second.json"].map(|name| folder.path().join(name));
    // Aligned to huge pages, where the system has them.
    set_buffer_pages(BufferPages::Huge);
    let before: Vec<Vec<u8>> = [10, 1000, LARGE_BUFFER_BYTES, 5 * MIB].map(numbered).into();
    let mut resized = before.clone();
    let freed = before.clone();

    let profile = HeapProfile::start(&first);
    assert_eq!(allocator_mode(), AllocatorMode::Profiling);
    drop(freed);
    resized.iter_mut().for_each(|buffer| buffer.reserve_exact(buffer.len()));
    assert!(resized.iter().all(|buffer| is_whole(buffer)), "resized by dhat");
    let mut during: Vec<Vec<u8>> = [10, 1000, LARGE_BUFFER_BYTES, 5 * MIB].map(numbered).into();
    assert!(vec![0u8; 5 * MIB].iter().all(|byte| *byte == 0));
    let kept = allocates_during_the_profile();
    // Threads go on allocating while the profile ends.
    let busy = std::thread::spawn(|| (0..200_000).map(|size| std::hint::black_box(vec![1u8; size % 100]).len()).sum::<usize>());
    drop(profile);
    assert_eq!(allocator_mode(), AllocatorMode::Idle);
    assert!(busy.join().is_ok());

    // What dhat allocated is resized and freed without it.
    during.iter_mut().for_each(|buffer| buffer.reserve_exact(buffer.len()));
    assert!(during.iter().chain(&before).chain(&resized).all(|buffer| is_whole(buffer)));
    drop((before, resized, during, kept));

    let profiled = read(&first);
    assert_eq!(profiled["mode"], "rust-heap");
    let bytes = bytes_of(&profiled, "allocates_during_the_profile");
    assert_eq!(bytes, 3 * MIB as u64, "bytes of one allocation");

    // Another one begins at zero, and a meter counts again after it.
    let profile = HeapProfile::start(&second);
    drop(std::hint::black_box(vec![1u8; 100]));
    drop(profile);
    assert_eq!(bytes_of(&read(&second), "allocates_during_the_profile"), 0);
    let meter = HeapMeter::start();
    assert_eq!(allocator_mode(), AllocatorMode::Counting);
    let counted = allocates_during_the_profile();
    assert!((meter.live_bytes() - 3 * MIB as i64).abs() < MIB as i64 / 8, "{} bytes", meter.live_bytes());
    drop((meter, counted));
    assert_eq!(allocator_mode(), AllocatorMode::Idle);
}
