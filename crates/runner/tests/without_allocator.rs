//! A program that does not install the counting allocator: it sweeps and says that it counted no bytes, and profiles nothing.
//!
//! It has a `main` of its own, because the program under test is this one.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    // Started again with arguments of the runner, it is the program under test.
    if std::env::args().nth(1).is_some_and(|first| first.ends_with(".toml") || first == "worker" || first == "profile") {
        return runner::main(runner::builtin());
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench-configs/smoke.toml");
    let mut sweep = Command::new(std::env::current_exe().unwrap());
    let output = sweep.arg(config).args(["--only", "paged"]).arg("--out").arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("run.json")).unwrap()).unwrap();
    let warnings = record["warnings"].to_string();
    assert!(warnings.contains("does not install the counting allocator"), "{warnings}");
    let rows: Vec<BTreeMap<String, String>> =
        csv::Reader::from_path(out.join("results.csv")).unwrap().deserialize().map(Result::unwrap).collect();
    assert!(!rows.is_empty());
    for row in rows {
        assert_eq!(row["status"], "ok", "{row:?}");
        for counted in ["heap_live_bytes", "heap_peak_bytes", "transient_peak_decode_bytes", "allocs_per_token", "fork_bytes"] {
            assert!(row[counted].is_empty(), "{counted}: {row:?}");
        }
        assert!(row["payload_bytes"].parse::<f64>().unwrap() > 0.0, "the cache's own account is there: {row:?}");
    }

    let mut profile = Command::new(std::env::current_exe().unwrap());
    let output = profile.args(["profile", "paged"]).current_dir(folder.path()).env("NO_COLOR", "1").output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("does not install the counting allocator"), "{message}");
    assert!(!folder.path().join("dhat-heap.json").exists(), "nothing was profiled");
    ExitCode::SUCCESS
}
