//! Sizes without sense from a config and from the command line: refused at once, with the numbers.

use std::time::{Duration, Instant};

use crate::{run, text, words};

#[test]
fn sizes_without_sense_are_refused_with_the_numbers() {
    const SMOKE: &str = "bench-configs/smoke.toml";
    const GENERATE: [&str; 5] = ["generate", "--model", "tiny", "--prompt", "x"];
    let sweep = |set: &'static str| vec![SMOKE, "--unchecked", "--set", set];
    let generate = |more: &[&'static str]| [&GENERATE[..], more].concat();
    let cases: Vec<(Vec<&str>, &[&str])> = vec![
        (vec![SMOKE, "--threads", "1000000"], &["`--threads 1000000`", "CPUs"]),
        (vec![SMOKE, "--dry-run", "--threads", "1000000"], &["`--threads 1000000`", "CPUs"]),
        (generate(&["--threads", "1000000"]), &["`--threads 1000000`", "CPUs"]),
        (vec!["roofline", "--threads", "1000000"], &["`--threads 1000000`", "CPUs"]),
        (vec!["roofline", "--tokens", "1000000000000"], &["1000000000000 tokens", "GiB of memory, and"]),
        (vec!["roofline", "--tokens", "18446744073709551615"], &["18446744073709551615 tokens", "GiB of memory, and"]),
        (vec!["roofline", "--rounds", "1000000000000"], &["1000000000000", "1 to 10000 rounds"]),
        (sweep("sweep.batch=[1000000000000]"), &["1000000000000 sequences", "GiB of memory, and"]),
        (sweep("sweep.batch=9223372036854775807"), &["9223372036854775807 sequences", "GiB of memory, and"]),
        (sweep("sweep.lengths=[1000000000000]"), &["length 1000000000000", "context is 16384"]),
        (sweep("sweep.lengths=[9223372036854775807]"), &["length 9223372036854775807", "context is 16384"]),
        (sweep("sweep.lengths='1-9223372036854775807+1'"), &["has more than 1000 lengths"]),
        (sweep("sweep.decode_steps=9223372036854775807"), &["9223372036854775807 decode steps", "context is 16384"]),
        (sweep("model.layers=1000000000000"), &["values per token for a context of 16384 tokens", "more than any memory holds"]),
        (sweep("model.layers=1000000"), &["GiB of memory, and"]),
        (sweep("strategy.contiguous.config.growth.reserve=1000000000000"), &["`growth.reserve` is 1000000000000", "16384 tokens"]),
        (sweep("strategy.paged.config.block_size=9223372036854775807"), &["`block_size` is 9223372036854775807", "16384 tokens"]),
        (generate(&["--strategy", "paged", "--set", "block_size=9223372036854775807"]), &["`block_size` is 9223372036854775807"]),
        (generate(&["--strategy", "paged", "--set", "block_size=1000000000000"]), &["`block_size` is 1000000000000"]),
        (generate(&["--set", "growth.reserve=1000000000000"]), &["`growth.reserve` is 1000000000000", "16384 tokens"]),
        (generate(&["--strategy", "sliding", "--set", "sinks=1000000000000"]), &["`sinks` is 1000000000000", "16384 tokens"]),
        (generate(&["--prefill-chunk", "0"]), &["`--prefill-chunk 0`"]),
        (vec!["check", "paged", "--set", "block_size=9223372036854775807"], &["`block_size` is 9223372036854775807"]),
    ];
    for (arguments, expected) in cases {
        let started = Instant::now();
        let output = run(&arguments);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
        let words = words(&message);
        for part in expected {
            assert!(words.contains(part), "{arguments:?}: `{part}` is missing in\n{message}");
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{arguments:?}: {:?}", started.elapsed());
    }
}

#[test]
fn a_chunk_longer_than_the_prompt_is_the_whole_prompt() {
    let generate = |chunk: &str| {
        let arguments = ["generate", "--model", "tiny", "--prompt", "some words", "--max-new-tokens", "4", "--prefill-chunk", chunk];
        let output = run(&arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert_eq!(generate("9223372036854775807"), generate("512"));
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let sets = ["--set", "sweep.prefill_chunk=9223372036854775807", "--set", "sweep.lengths=16", "--unchecked"];
    let output = run(&[&["bench-configs/smoke.toml", "--out", folder][..], &sets].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_plan_with_cells_too_large_for_this_machine_can_be_looked_at() {
    let output = run(&["bench-configs/smoke.toml", "--set", "sweep.batch=1000000000000", "--dry-run"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let plan = text(&output.stdout);
    assert!(plan.contains("GiB are free for a worker"), "{plan}");
    assert!(plan.contains("\nWithout `--dry-run` this is refused: `naive` at length 16 with 1000000000000 sequences at once"), "{plan}");
    let output = run(&["bench-configs/smoke.toml", "--set", "sweep.batch=9007199254740991", "--dry-run"]);
    assert!(text(&output.stdout).contains("it needs at least 17179869184.0 GiB of memory"), "{}", text(&output.stdout));
    let output = run(&["bench-configs/smoke.toml", "--dry-run"]);
    assert!(!text(&output.stdout).contains("refused"), "{}", text(&output.stdout));
}
