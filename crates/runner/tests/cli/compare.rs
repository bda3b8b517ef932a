//! `compare` and `run --against`: what is found between two runs and between two builds, and what is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::{run, text, words};

const CONFIG: &str = r#"
[model]
preset = "tiny"
layers = 1

[sweep]
lengths = [32]
decode_steps = 6
launches = 3
rounds = 2

[[strategy]]
label = "contiguous"
use = "contiguous"
config = { format = "f16" }
baseline = true

[[strategy]]
label = "paged"
use = "paged"
config = { block_size = 16 }
"#;

/// A run of this config in a folder of its own.
fn ran(folder: &Path, name: &str, more: &[&str]) -> (String, Output) {
    let config = folder.join("sweep.toml");
    fs::write(&config, CONFIG).unwrap();
    let out = folder.join(name).to_str().unwrap().to_owned();
    let output = run(&[&["run", config.to_str().unwrap(), "--unchecked", "--out", &out], more].concat());
    (out, output)
}

fn finished(folder: &Path, name: &str, more: &[&str]) -> String {
    let (out, output) = ran(folder, name, more);
    assert!(output.status.success(), "{}", text(&output.stderr));
    out
}

fn edit(folder: &str, change: impl FnOnce(&mut Value)) {
    let path = Path::new(folder).join("run.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

/// What a comparison says, in one line, and its exit code.
fn compared(arguments: &[&str]) -> (String, Option<i32>) {
    let output = run(&[&["compare"], arguments].concat());
    (words(&(text(&output.stdout) + &text(&output.stderr))), output.status.code())
}

#[test]
fn a_run_and_itself_differ_in_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let run = finished(folder.path(), "a", &[]);
    let (found, code) = compared(&[&run, &run, "--fail-on", "slower>0%,bytes>0%"]);
    assert_eq!(code, Some(0), "{found}");
    assert!(found.contains("2 cells in both, with") && found.contains("all are the same"), "{found}");
    assert!(found.contains("Both are the same run") && !found.contains("differ"), "{found}");
}

#[test]
fn two_runs_of_one_config_differ_in_no_value_and_of_another_config_in_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let first = finished(folder.path(), "a", &[]);
    let second = finished(folder.path(), "b", &[]);
    for run in [&first, &second] {
        edit(run, |json| json["machine_id"] = "the same".into());
    }
    let (found, code) = compared(&[&first, &second, "--fail-on", "bytes>0%"]);
    assert_eq!(code, Some(0), "{found}");
    assert!(found.contains("all are the same") && found.contains("Time per output token, of 1 cell:"), "{found}");
    assert!(found.contains("Floor: contiguous, decode at 32 takes") && found.contains("`run --against` can"), "{found}");

    let third = finished(folder.path(), "c", &["--set", "strategy.paged.config.block_size=64"]);
    let page = folder.path().join("comparison.html");
    let arguments = [&first, &third, "--fail-on", "bytes>1%", "--format", "html", "--out", page.to_str().unwrap()];
    let (found, code) = compared(&arguments);
    assert_eq!(code, Some(3), "{found}");
    assert!(found.contains("bytes>1%: heap_live_bytes of paged, decode at 32 is"), "{found}");
    let page = fs::read_to_string(page).unwrap();
    for part in
        ["config.strategy.paged.config.block_size", "What was to fail", "heap_live_bytes", "<th scope=\"row\">paged, decode at 32</th>"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    let (found, code) = compared(&[&third, &first, "--fail-on", "bytes>1%", "--format", "markdown"]);
    assert_eq!(code, Some(0), "fewer bytes are no fault: {found}");
    assert!(found.contains("### Two runs compared") && found.contains(r"| paged, decode at 32 | heap\_live\_bytes |"), "{found}");
}

#[test]
fn times_of_two_machines_are_not_compared_and_a_condition_on_them_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let first = finished(folder.path(), "a", &[]);
    let second = finished(folder.path(), "b", &[]);
    edit(&first, |json| json["machine_id"] = "one".into());
    edit(&second, |json| {
        json["machine_id"] = "two".into();
        json["build"]["commit"] = "feedbeef".into();
    });
    let (found, code) = compared(&[&first, &second, "--fail-on", "slower>5%"]);
    assert_eq!(code, Some(3), "{found}");
    let reason = "A ran on the machine one and B on two, and times of two machines say nothing of the code";
    assert!(found.contains(&format!("slower>5% cannot be judged: {reason}.")), "{found}");
    assert!(found.contains(&format!("Times are not compared: {reason}.")) && found.contains("feedbeef"), "{found}");
    edit(&second, |json| json["machine_id"] = Value::Null);
    assert!(compared(&[&first, &second]).0.contains("the machine of B is unknown"));
}

#[test]
fn an_unfinished_run_is_compared_as_far_as_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let whole = finished(folder.path(), "a", &[]);
    let part = folder.path().join("b.unfinished");
    fs::create_dir(&part).unwrap();
    fs::copy(Path::new(&whole).join("run.json"), part.join("run.json")).unwrap();
    let log = fs::read_to_string(Path::new(&whole).join("visits.jsonl")).unwrap();
    // Which instance is first is drawn; the baseline's double is no cell of its own.
    let is_of_cell = |line: &&str| line.contains("\"pass\":\"latency\"") && line.contains("\"control\":false");
    let of_one = log.lines().find(is_of_cell).unwrap();
    fs::write(part.join("visits.jsonl"), format!("{of_one}\n")).unwrap();
    let part = part.to_str().unwrap();
    edit(part, |json| json["state"] = "running".into());
    let (found, code) = compared(&[&whole, part]);
    assert_eq!(code, Some(0), "{found}");
    assert!(found.contains("not finished") && found.contains("1 cell in both") && found.contains("Only in A, and not in B:"), "{found}");
}

#[test]
fn bad_conditions_and_folders_are_refused_with_what_would_be_right() {
    for (arguments, expected) in [
        (&["compare", "a", "b", "--fail-on", "slower"][..], "`slower` is no condition"),
        (&["compare", "a", "b", "--fail-on", "slower>5"], "conditions are `slower>5%`"),
        (&["compare", "a", "b", "--fail-on", "speed>5%"], "nothing that can be judged is called `speed`"),
        (&["compare", "no-such-folder", "b"], "`no-such-folder` holds no run"),
        (&["bench-configs/smoke.toml", "--fail-on", "slower>5%"], "--against"),
        (&["bench-configs/smoke.toml", "--against", "no-such-program"], "`--against no-such-program`: it cannot be read"),
        (&["bench-configs/smoke.toml", "--against", "README.md"], "it is no program"),
        (&["bench-configs/smoke.toml", "--against", "/bin/true", "--fail-on", "slower>5%"], "with 2 launches there is no verdict on times"),
        (&["bench-configs/smoke.toml", "--against", "/bin/true", "--fail-on", "kld>0.1"], "the KL divergence is not measured"),
    ] {
        let output = run(arguments);
        let message = words(&text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: `{expected}` is missing in\n{message}");
    }
}

fn script(folder: &Path, name: &str, body: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_program_of_another_protocol_or_of_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let older = script(folder.path(), "older", "read job; echo '{\"ready\":{\"protocol\":3}}'; cat");
    let refusing = script(folder.path(), "refusing", "echo 'the runner speaks protocol 8, and this program 7' >&2; exit 1");
    let silent = script(folder.path(), "silent", "exit 7");
    for (program, expected) in [
        (older, "its workers speak protocol 3, and this program "),
        (refusing, "does not answer as a worker: it ended with exit code 1 before it was done: the runner speaks protocol 8"),
        (silent, "does not answer as a worker: it ended with exit code 7"),
    ] {
        let (out, output) = ran(folder.path(), "report", &["--against", program.to_str().unwrap()]);
        let message = words(&text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains(expected), "{expected}: {message}");
        assert!(!Path::new(&out).exists());
    }
}

/// The two builds are one program here: nothing is asserted of its times.
#[test]
fn two_builds_take_turns_and_the_rows_are_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_runner");
    let (out, output) = ran(folder.path(), "a", &["--against", program, "--fail-on", "bytes>0%", "--format", "markdown"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let out = Path::new(&out);
    let shown = words(&text(&output.stdout));
    assert!(shown.contains("### This build against another one") && shown.contains("ours / theirs"), "{shown}");
    assert!(shown.contains("2 cells in both, with") && shown.contains("all are the same"), "{shown}");
    assert!(shown.contains("contiguous, decode at 32 (the baseline again)"), "{shown}");

    let log = fs::read_to_string(out.join("visits.jsonl")).unwrap();
    let visits: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let launches = |build: &str| {
        let is_of =
            |visit: &&Value| visit["pass"] == "latency" && visit.get("build").map_or("own", |build| build.as_str().unwrap()) == build;
        visits.iter().filter(is_of).map(|visit| visit["launch"].as_u64().unwrap()).collect::<std::collections::BTreeSet<_>>()
    };
    assert!(launches("own").len() >= 3 && launches("own") == launches("other"), "{:?} {:?}", launches("own"), launches("other"));
    let results = fs::read_to_string(out.join("results.csv")).unwrap();
    assert_eq!(results.lines().count(), 3, "{results}");
    assert!(fs::read_to_string(out.join("index.html")).unwrap().contains("This build against"));
    let against = fs::read_to_string(out.join("against.md")).unwrap();
    assert!(against.contains("| ours / theirs |"), "{against}");

    // The report of a stored run says the same, and the run alone can be compared with others.
    assert!(run(&["report", out.to_str().unwrap()]).status.success());
    assert_eq!(fs::read_to_string(out.join("against.md")).unwrap(), against);
    assert_eq!(compared(&[out.to_str().unwrap(), out.to_str().unwrap()]).1, Some(0));
}
