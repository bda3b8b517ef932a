//! Where a prompt comes from, and how long it may be.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::{run, runner, text, words};

const GENERATE: [&str; 5] = ["generate", "--model", "tiny", "--max-new-tokens", "3"];

fn generate(more: &[&str]) -> Output {
    run(&[&GENERATE[..], more].concat())
}

/// What was written, and the count of tokens that it says.
fn written(output: &Output) -> (String, String) {
    let costs = text(&output.stderr);
    assert!(output.status.success(), "{costs}");
    let tokens = costs.split(" ms for ").nth(1).and_then(|rest| rest.split(" tokens").next());
    (text(&output.stdout), tokens.unwrap_or_default().to_owned())
}

fn from_file(contents: &[u8]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prompt.txt");
    std::fs::write(&path, contents).unwrap();
    generate(&["--prompt-file", path.to_str().unwrap()])
}

#[test]
fn a_prompt_may_begin_with_a_hyphen() {
    let (_, tokens) = written(&generate(&["--prompt", "-5 degrees"]));
    assert_eq!(tokens, "10");
    written(&generate(&["--prompt", "--help"]));
}

#[test]
fn a_prompt_comes_from_a_file_or_the_standard_input_without_its_last_line_break() {
    let expected = written(&generate(&["--prompt", "two\nlines"]));
    for contents in ["two\nlines", "two\nlines\n", "two\nlines\r\n"] {
        assert_eq!(written(&from_file(contents.as_bytes())), expected, "{contents:?}");
        let mut child = runner(&[&GENERATE[..], &["--prompt-file", "-"]].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(contents.as_bytes()).unwrap();
        assert_eq!(written(&child.wait_with_output().unwrap()), expected, "{contents:?}");
    }
    assert_ne!(written(&from_file(b"two\nlines\n\n")), expected, "one line break, and no more");
}

#[test]
fn a_prompt_that_cannot_be_read_is_refused_before_the_model_is_loaded() {
    let mut cases = vec![
        (from_file(b""), "is empty"),
        (from_file(b"\n"), "is empty"),
        (from_file(b"ab\xffcd"), "is not UTF-8: it is invalid at byte 2"),
        (generate(&["--prompt-file", "no/such/file"]), "the prompt in `no/such/file` cannot be read"),
        (generate(&["--prompt-file", "."]), "the prompt in `.` cannot be read"),
        (generate(&["--prompt", "x", "--prompt-file", "-"]), "cannot be used with"),
        (generate(&[]), "required arguments were not provided"),
    ];
    if Path::new("/dev/zero").exists() {
        cases.push((generate(&["--prompt-file", "/dev/zero"]), "is longer than 16 MiB"));
    }
    for (output, expected) in cases {
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{expected}: {message}");
        assert!(words(&message).contains(expected), "{expected}: {message}");
        assert!(!message.contains("loading"), "{message}");
    }
}

#[test]
fn a_prompt_that_fills_the_context_is_refused_before_the_first_step() {
    // Without a merge every byte is a token, and the context is 16384.
    for length in [16384, 20000] {
        let output = from_file("x".repeat(length).as_bytes());
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        for expected in [
            format!("there is no room for a new token behind the prompt's {length}"),
            format!("{} positions needed, and with this cache a sequence may have 16384: the model's context is 16384", length + 1),
        ] {
            assert!(words(&message).contains(&expected), "{message}");
        }
        assert!(words(&message).contains("the longest prompt has 16383 tokens"), "{message}");
    }
}

#[test]
fn more_new_tokens_than_the_context_has_room_for_are_announced() {
    let small = ["--set", "growth.reserve=8", "--prompt", "abcdef"];
    let output = run(&[&["generate", "--model", "tiny", "--max-new-tokens", "18446744073709551615"][..], &small].concat());
    let message = words(&text(&output.stderr));
    assert!(message.contains("generation stops after 16378 of the 18446744073709551615 tokens requested"), "{message}");
    assert!(message.contains("positions needed, and with this cache a sequence may have 16384"), "{message}");
    let enough = run(&[&["generate", "--model", "tiny", "--max-new-tokens", "20"][..], &small].concat());
    assert!(!text(&enough.stderr).contains("positions needed"), "{}", text(&enough.stderr));
}

#[test]
fn a_window_that_fits_into_the_context_takes_a_prompt_and_writes_a_text_that_are_longer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prompt.txt");
    std::fs::write(&path, "The whale! ".repeat(1500)).unwrap();
    let generate = |more: &[&str]| {
        let prompt = ["generate", "--model", "small", "--max-new-tokens", "3", "--prompt-file", path.to_str().unwrap()];
        run(&[&prompt[..], more].concat())
    };
    let (_, tokens) = written(&generate(&["--strategy", "sliding", "--set", "window=252", "--set", "sinks=4"]));
    assert!(tokens.parse::<usize>().unwrap() > 4096, "{tokens}");
    for more in [&["--strategy", "paged"][..], &["--strategy", "sliding", "--set", "window=4097"]] {
        let output = generate(more);
        let message = words(&text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("a sequence may have 4096: the model's context is 4096"), "{message}");
        assert!(message.contains("`--strategy sliding`"), "{message}");
    }
}
