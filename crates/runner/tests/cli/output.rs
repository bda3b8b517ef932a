//! Where the output goes: full devices, readers that go away, folders that cannot be written.

use std::process::Stdio;

use crate::{run, runner, text, words};

/// Commands that print, each in a way of its own.
const PRINTING: [&[&str]; 9] = [
    &["schema"],
    &["list"],
    &["describe", "paged"],
    &["plan", "--model", "tiny", "--context", "64"],
    &["check", "naive", "--json"],
    &["bench-configs/smoke.toml", "--dry-run"],
    &["generate", "--model", "tiny", "--prompt", "x", "--max-new-tokens", "2"],
    &["--help"],
    &["--version"],
];

#[cfg(target_os = "linux")]
#[test]
fn a_full_device_is_an_error() {
    for arguments in PRINTING {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = runner(arguments).stdout(Stdio::from(full)).output().unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
        assert!(words(&message).contains("cannot write to the standard output"), "{arguments:?}: {message}");
    }
}

#[test]
fn a_reader_that_has_gone_away_is_no_error() {
    for arguments in PRINTING {
        let mut child = runner(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_report_that_cannot_be_written_is_noticed_before_the_model_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut outs = vec![file.clone(), file.join("below"), file.join("far/below")];
    if cfg!(target_os = "linux") {
        outs.push("/proc/kvlab".into());
    }
    for out in outs {
        let output = run(&["bench-configs/smoke.toml", "--out", out.to_str().unwrap()]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{out:?}: {message}");
        assert!(words(&message).contains("the report cannot be written to"), "{out:?}: {message}");
        assert!(!message.contains("loading"), "{out:?}: {message}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn a_sweep_whose_cells_all_fail_leaves_tables_with_headers() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let sets = ["--only", "contiguous", "--unchecked", "--set", "strategy.contiguous.config.growth.reserve=1"];
    let output = run(&[&["bench-configs/smoke.toml", "--out", folder][..], &sets].concat());
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let samples = std::fs::read_to_string(out.path().join("samples.csv")).unwrap();
    assert!(samples.starts_with("label,workload,seq_len,batch,") && samples.lines().count() == 1, "{samples}");
    assert!(run(&["report", folder]).status.success());
}
