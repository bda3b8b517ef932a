//! The folder of a run: runs that were interrupted, resumed or are in each other's way.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{run, runner, text, words};

/// A small sweep of two strategies into a folder.
fn sweep(out: &Path, more: &[&str]) -> Command {
    let cache = out.with_file_name("cache");
    let small = ["bench-configs/smoke.toml", "--unchecked", "--only", "{paged,contiguous}", "--out", out.to_str().unwrap()];
    let mut command = runner(&[&small[..], more].concat());
    command.env("KVLAB_CACHE", cache);
    command
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A sweep that is killed as soon as its log has a line.
fn killed(out: &Path) -> PathBuf {
    let unfinished = out.with_extension("unfinished");
    let mut child = sweep(out, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let log = unfinished.join("visits.jsonl");
    while std::fs::metadata(&log).map_or(0, |metadata| metadata.len()) == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it measured anything");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    kill(&mut child);
    unfinished
}

#[test]
fn a_finished_run_is_replaced_as_a_whole_and_nothing_else_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    for _ in 0..2 {
        let output = sweep(&out, &[]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(names(folder.path()), ["cache", "report"]);
        assert!(!names(&out).iter().any(|name| name == "lock" || name.ends_with(".new")), "{:?}", names(&out));
    }
    let first = std::fs::read(out.join("run.json")).unwrap();
    std::fs::write(out.join("notes.md"), "mine").unwrap();
    let output = sweep(&out, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&text(&output.stderr)).contains("holds `notes.md`, which is not part of a report"), "{}", text(&output.stderr));
    assert_eq!(std::fs::read(out.join("run.json")).unwrap(), first);
    assert_eq!(names(folder.path()), ["cache", "report"]);
}

#[test]
fn an_unfinished_run_asks_what_to_do_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let unfinished = killed(&out);
    assert!(!out.exists());
    let output = sweep(&out, &[]).output().unwrap();
    let message = words(&text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("holds an unfinished run") && message.contains("--resume") && message.contains("--overwrite"), "{message}");

    let output = sweep(&out, &["--resume", "--set", "sweep.decode_steps=5"]).output().unwrap();
    let message = words(&text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("cannot be resumed: the config changed since"), "{message}");
    assert!(unfinished.exists(), "a refusal leaves it as it was");

    let output = sweep(&out, &["--resume"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!unfinished.exists());
    let csv = std::fs::read_to_string(out.join("results.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 2 * 2 * 2 * 2);
    // The earlier report stays until the next one is finished.
    let unfinished = killed(&out);
    assert_eq!(std::fs::read_to_string(out.join("results.csv")).unwrap(), csv);
    let output = sweep(&out, &["--overwrite"]).output().unwrap();
    assert!(output.status.success() && !unfinished.exists(), "{}", text(&output.stderr));
    let output = sweep(&out, &["--resume"]).output().unwrap();
    assert!(words(&text(&output.stderr)).contains("there is no unfinished run"), "{}", text(&output.stderr));
}

#[test]
fn a_torn_last_line_is_repaired_and_a_damaged_one_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let unfinished = killed(&out);
    let log = unfinished.join("visits.jsonl");
    let mut torn = std::fs::read(&log).unwrap();
    let sound = torn.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    torn.truncate(sound);
    torn.extend(b"{\"cell\":\"half of a li");
    std::fs::write(&log, &torn).unwrap();
    let output = sweep(&out, &["--resume"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let repaired = std::fs::read(out.join("visits.jsonl")).unwrap();
    assert!(repaired.starts_with(&torn[..sound]) && !text(&repaired).contains("half of a li"));
    assert!(run(&["report", out.to_str().unwrap()]).status.success());

    let mut damaged = repaired;
    damaged.splice(10..20, *b"\n\n\n\n\n\n\n\n\n\n");
    std::fs::write(out.join("visits.jsonl"), damaged).unwrap();
    let output = run(&["report", out.to_str().unwrap()]);
    let message = words(&text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("visits.jsonl") && message.contains("line 1"), "{message}");
}

#[test]
fn a_second_run_into_the_same_folder_is_refused_while_the_first_lives() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let mut first = sweep(&out, &["--set", "sweep.decode_steps=2000"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !out.with_extension("unfinished").join("run.json").exists() {
        assert!(first.try_wait().unwrap().is_none(), "it ended before there was a run");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    for more in [&[][..], &["--resume"], &["--overwrite"]] {
        let output = sweep(&out, more).output().unwrap();
        let message = words(&text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("another run is writing to"), "{message}");
    }
    kill(&mut first);
}

/// The command of a report runs the same again, whatever is in its words.
#[test]
fn the_command_is_complete_and_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a 'folder'");
    let more = ["--kernel-path", "portable", "--seed", "7", "--set", "strategy.paged.config.block_size=8", "--keep-recordings"];
    let output = sweep(&out, &more).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let run: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("run.json")).unwrap()).unwrap();
    let words = shlex::split(run["command"].as_str().unwrap()).unwrap();
    // `cargo test` says the package's name, as `cargo run` does.
    let arguments: Vec<&str> = words.iter().skip_while(|word| *word != "--kernel-path").map(String::as_str).collect();
    let before = std::fs::read_to_string(out.join("results.csv")).unwrap();
    std::fs::remove_dir_all(&out).unwrap();
    let output = runner(&arguments).env("KVLAB_CACHE", folder.path().join("cache")).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    let ids = |csv: &str| csv::Reader::from_reader(csv.as_bytes()).records().map(|row| row.unwrap()[0].to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(&std::fs::read_to_string(out.join("results.csv")).unwrap()), ids(&before));
    assert_eq!(names(&folder.path().join("cache/recordings")).len(), 1, "the recording was kept and used again");
}

#[test]
fn every_build_and_model_is_told_from_another() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    assert!(sweep(&out, &[]).output().unwrap().status.success());
    let run: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("run.json")).unwrap()).unwrap();
    assert_eq!(run["model"]["hash"].as_str().unwrap().len(), 64);
    assert_eq!(run["model"]["geometry"]["layers"], 2);
    assert!(run["build"]["dirty"].is_boolean() || run["build"]["commit"].is_null(), "{}", run["build"]);
    assert_eq!(run["state"], "finished");
    let ids: std::collections::BTreeSet<&str> = run["cells"].as_array().unwrap().iter().map(|cell| cell["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), run["cells"].as_array().unwrap().len(), "every cell has an id of its own");
}

/// Drawing it again would replace a good report by a poor one.
#[test]
fn a_finished_run_whose_log_has_lost_lines_is_not_drawn_again() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    assert!(sweep(&out, &[]).output().unwrap().status.success());
    let table = std::fs::read(out.join("results.csv")).unwrap();
    let log = std::fs::read(out.join("visits.jsonl")).unwrap();
    let draw = || run(&["report", out.to_str().unwrap()]);
    assert!(draw().status.success());
    let before_last = log.len() - 1 - log[..log.len() - 1].iter().rev().position(|byte| *byte == b'\n').unwrap();
    for kept in [0, before_last, log.len() - 1] {
        std::fs::write(out.join("visits.jsonl"), &log[..kept]).unwrap();
        let output = draw();
        assert_eq!(output.status.code(), Some(1), "{kept} bytes");
        assert!(words(&text(&output.stderr)).contains("has lost lines"), "{}", text(&output.stderr));
        assert_eq!(std::fs::read(out.join("results.csv")).unwrap(), table);
    }
}

#[test]
fn what_is_no_report_is_never_removed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    for beside in ["report.unfinished", "report.replaced"] {
        let foreign = folder.path().join(beside);
        std::fs::create_dir(&foreign).unwrap();
        std::fs::write(foreign.join("mine"), "precious").unwrap();
        for more in [&[][..], &["--resume"], &["--overwrite"]] {
            let output = sweep(&out, more).output().unwrap();
            let message = words(&text(&output.stderr));
            assert_eq!(output.status.code(), Some(1), "{message}");
            assert!(message.contains("which is not part of a report"), "{beside} {more:?}: {message}");
            assert_eq!(names(&foreign), ["mine"], "{more:?}");
        }
        std::fs::remove_dir_all(foreign).unwrap();
    }
    std::os::unix::fs::symlink(folder.path().join("nowhere"), &out).unwrap();
    let output = sweep(&out, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "a link that leads nowhere: {}", text(&output.stderr));
}

/// Overwriting asks nothing of what is there.
#[test]
fn a_damaged_run_can_be_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let unfinished = killed(&out);
    std::fs::write(unfinished.join("run.json"), "{").unwrap();
    let output = sweep(&out, &["--resume"]).output().unwrap();
    assert!(words(&text(&output.stderr)).contains("`--overwrite` begins again"), "{}", text(&output.stderr));
    let output = sweep(&out, &["--overwrite"]).output().unwrap();
    assert!(output.status.success() && !unfinished.exists(), "{}", text(&output.stderr));
}

/// A limit on the size of a file is refused like a full disk: the write fails in the middle of a line.
#[test]
fn a_full_disk_ends_a_run_and_loses_nothing_that_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let steps = ["--set", "sweep.decode_steps=15", "--set", "sweep.fill='prefill'"];
    let ordinary = sweep(&out, &steps);
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 48; exec \"$@\"", "sh"]).arg(ordinary.get_program()).args(ordinary.get_args());
    limited.current_dir(ordinary.get_current_dir().unwrap()).envs(ordinary.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = limited.output().unwrap();
    let message = words(&text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{message}");
    let log = out.with_extension("unfinished").join("visits.jsonl");
    assert!(message.contains("visits.jsonl") && message.contains("File too large"), "{message}");
    let written = text(&std::fs::read(&log).unwrap());
    assert!(written.lines().count() > 1 && written.ends_with('\n'), "half a line is taken back: {written}");

    let output = sweep(&out, &[&steps[..], &["--resume"]].concat()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&std::fs::read(out.join("visits.jsonl")).unwrap()).starts_with(&written));
}

/// A run that dies between two lines of a launch: what is missing is timed again beside the baseline, so that it can be compared.
#[test]
fn a_launch_of_which_only_a_part_was_written_is_completed_beside_the_baseline() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let more =
        ["--set", "sweep.launches=3", "--set", "sweep.lengths=[16]", "--set", "sweep.batch=[1]", "--set", "sweep.workloads=['decode']"];
    let unfinished = out.with_extension("unfinished");
    let mut child = sweep(&out, &more).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let log = unfinished.join("visits.jsonl");
    // Both cells and the control of the first launch.
    let lines = || std::fs::read_to_string(&log).map_or(0, |text| text.lines().filter(|line| line.contains("latency")).count());
    while lines() < 3 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it had measured a launch");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    kill(&mut child);
    let text_of_log = std::fs::read_to_string(&log).unwrap();
    let baseline = text_of_log.lines().find(|line| line.contains("latency") && line.contains("\"control\":false")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(unfinished.join("run.json")).unwrap()).unwrap();
    let id = record["cells"][0]["baseline"].as_str().unwrap();
    // Whichever came first in the log, only the baseline's line is left.
    let kept = text_of_log.lines().find(|line| line.contains(id) && line.contains("\"control\":false")).unwrap_or(baseline);
    std::fs::write(&log, format!("{kept}\n")).unwrap();

    let output = sweep(&out, &[&more[..], &["--resume"]].concat()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let results = std::fs::read_to_string(out.join("results.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(results.as_bytes());
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|other| other == name).unwrap();
    let (verdict, control, launches) = (column("tpot_verdict"), column("control_tpot_ratio"), column("launches"));
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| !row[verdict].is_empty()), "{results}");
    assert!(rows.iter().any(|row| !row[control].is_empty()), "the noise floor is there");
    assert_eq!(rows[0][launches], rows[1][launches]);
}
