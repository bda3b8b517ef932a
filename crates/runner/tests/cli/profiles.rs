//! `profile`: a heap profile for dhat's viewer, and a table of who allocates.

use std::path::Path;

use crate::{run, runner, text, words};

/// The row of a site that contains `part`: bytes at the peak, bytes in total, blocks and mean lifetime.
fn row(table: &str, part: &str) -> [u64; 4] {
    let line = table.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("no `{part}` in {table}"));
    let numbers: Vec<u64> = line.split_whitespace().take(4).map(|number| number.replace(',', "").parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

#[test]
fn the_sites_are_named_with_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let output = runner(&["profile", "paged", "--length", "600", "--set", "block_size=64"]).current_dir(folder.path()).output().unwrap();
    let (table, message) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{message}");
    assert!(table.contains("600 tokens in steps of 512, 16 decode steps, a fork and a step of both, closed"), "{table}");
    // The slabs of 10 pages: 1 + 1 + 2 + 4 + 8 pages of 64 tokens, with keys and values of 32 floats of 4 layers with 2 heads.
    let [peak, total, blocks, _] = row(&table, "kv_paged::pool::add_slab");
    assert_eq!([total, blocks], [16 * 64 * 2 * 4 * 2 * 32 * 4, 2 * 5], "{table}");
    // The heap was largest in the first step, when half of them were there.
    assert_eq!(peak, total / 2, "{table}");
    assert!(table.contains("lifetime (µs)") && table.contains("kv-kernels/src/block.rs:"), "{table}");
    assert!(table.contains("dh_view.html"), "{table}");

    let file = std::fs::read(folder.path().join("dhat-heap.json")).unwrap();
    let profile: serde_json::Value = serde_json::from_slice(&file).unwrap();
    assert_eq!((&profile["dhatFileVersion"], &profile["mode"]), (&2.into(), &"rust-heap".into()));
    let sum = |key: &str| profile["pps"].as_array().unwrap().iter().map(|point| point[key].as_u64().unwrap()).sum::<u64>();
    for (line, bytes) in [("in total", sum("tb")), ("at the peak", sum("gb"))] {
        let told = table.lines().find_map(|told| told.strip_prefix(line)).unwrap().split_whitespace().next().unwrap();
        assert_eq!(told.replace(',', ""), bytes.to_string(), "{table}");
    }
}

#[test]
fn a_strategy_that_recomputes_or_cannot_fork_is_profiled_too() {
    let folder = tempfile::tempdir().unwrap();
    for strategy in ["naive", "contiguous", "sliding", "quantized"] {
        let file = folder.path().join(strategy);
        let output = run(&["profile", strategy, "--length", "100", "--out", file.to_str().unwrap()]);
        assert!(output.status.success(), "{strategy}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains("100 tokens in steps of 100"), "{}", text(&output.stdout));
        assert!(file.exists());
    }
}

#[test]
fn a_window_is_profiled_beyond_the_context() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("heap.json");
    let output = run(&["profile", "sliding", "--set", "window=64", "--length", "16400", "--out", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("16400 tokens in steps of 512"), "{}", text(&output.stdout));
}

#[test]
fn what_cannot_be_profiled_is_told_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none/heap.json");
    for (arguments, expected) in [
        (&["pagd"][..], "did you mean `paged`?"),
        (&["paged", "--model", "tinny"], "did you mean `tiny`?"),
        (&["paged", "--set", "block_siz=8"], "did you mean `block_size`?"),
        (&["paged", "--set", "block_size=0"], "`block_size` is 0"),
        (&["paged", "--length", "0"], "a length is at least 1 and at most 16367"),
        (&["paged", "--length", "16368"], "the context of `tiny` is 16384"),
        (&["sliding", "--length", "16368", "--set", "window=16385"], "the context of `tiny` is 16384"),
        (&["paged", "--out", missing.to_str().unwrap()], "cannot write"),
    ] {
        let output = runner(&[&["profile"][..], arguments].concat()).current_dir(folder.path()).output().unwrap();
        let message = words(&text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
    assert!(is_empty(folder.path()));
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn a_cache_that_is_full_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dhat-heap.json");
    std::fs::write(&file, "an earlier profile").unwrap();
    let full = ["profile", "contiguous", "--length", "100", "--set", "growth.reserve=50"];
    let output = runner(&full).current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = words(&text(&output.stderr));
    assert!(message.contains("`contiguous` was not profiled to the end: ") && message.contains("cache is full"), "{message}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "an earlier profile");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left of the profile that failed");
}
