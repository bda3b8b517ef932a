//! Runner and workers are killed at random moments. After `--resume` every row exists once and is what it would have been.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{runner, text};

/// `KILLS=25 cargo test --workspace --test cli kills` kills as often as that, each of them.
fn kills() -> u64 {
    std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(3)
}

fn sweep(out: &Path, more: &[&str]) -> Command {
    let arguments = ["bench-configs/smoke.toml", "--set", "sweep.batch=[1]", "--out", out.to_str().unwrap()];
    let mut command = runner(&[&arguments[..], more].concat());
    command.env("KVLAB_CACHE", out.with_file_name("cache")).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// The columns of a table that do not depend on the machine's speed, by cell.
fn deterministic(out: &Path) -> BTreeMap<String, Vec<String>> {
    const COLUMNS: [&str; 16] = [
        "label",
        "strategy",
        "model",
        "workload",
        "seq_len",
        "batch",
        "status",
        "error",
        "guarantee",
        "payload_bytes",
        "metadata_bytes",
        "slack_bytes",
        "heap_live_bytes",
        "bytes_per_token",
        "seen_tokens",
        "resident_tokens",
    ];
    let mut reader = csv::Reader::from_path(out.join("results.csv")).unwrap();
    let rows: Vec<BTreeMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
    let all: BTreeMap<_, _> =
        rows.iter().map(|row| (row["cell"].clone(), COLUMNS.iter().map(|column| row[*column].clone()).collect())).collect();
    assert_eq!(all.len(), rows.len(), "every row exists once");
    all
}

/// A sweep that nobody disturbs: its rows, and how long it takes.
fn undisturbed(folder: &Path) -> (BTreeMap<String, Vec<String>>, Duration) {
    let out = folder.join("undisturbed");
    let started = Instant::now();
    let output = sweep(&out, &[]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    (deterministic(&out), started.elapsed())
}

#[test]
fn a_killed_runner_is_resumed_without_loss() {
    let folder = tempfile::tempdir().unwrap();
    let (expected, takes) = undisturbed(folder.path());
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut killed = 0;
    for attempt in 0..kills() {
        let out = folder.path().join(format!("killed-{attempt}"));
        let mut child = sweep(&out, &[]).spawn().unwrap();
        std::thread::sleep(takes.mul_f64(random.random_range(0.05..0.95)));
        let workers = workers_of(&child);
        child.kill().unwrap();
        killed += u64::from(child.wait().unwrap().code().is_none());
        let since = Instant::now();
        while workers.iter().any(|worker| is_alive(*worker)) {
            // It takes milliseconds. A machine may be busy.
            assert!(since.elapsed() < Duration::from_secs(20), "workers die with the runner");
            std::thread::sleep(Duration::from_millis(5));
        }
        // It may have been killed before there was a run, or after it was finished.
        let more: &[&str] = if out.with_extension("unfinished").join("run.json").exists() { &["--resume"] } else { &["--overwrite"] };
        let output = sweep(&out, more).output().unwrap();
        assert!(output.status.success(), "{more:?}: {}", text(&output.stderr));
        assert_eq!(deterministic(&out), expected);
        assert!(!out.with_extension("unfinished").exists());
    }
    assert!(killed > 0, "no run was alive when it was to be killed");
    assert!(!folder.path().join("cache/recordings").exists(), "recordings of killed runs are found and removed");
}

#[test]
fn a_killed_worker_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let (expected, takes) = undisturbed(folder.path());
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let mut killed = 0;
    for attempt in 0..kills() {
        let out = folder.path().join(format!("killed-{attempt}"));
        let child = sweep(&out, &[]).spawn().unwrap();
        std::thread::sleep(takes.mul_f64(random.random_range(0.05..0.9)));
        let until = Instant::now() + takes;
        loop {
            let workers = workers_of(&child);
            if let Some(worker) = workers.first() {
                let kill = Command::new("kill").args(["-KILL", &worker.to_string()]).stderr(Stdio::null()).status().unwrap();
                killed += u64::from(kill.success());
                break;
            }
            if Instant::now() > until {
                break;
            }
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(deterministic(&out), expected);
    }
    assert!(killed > 0, "no worker was alive when it was to be killed");
}

/// The children of a process, from Linux.
fn workers_of(process: &Child) -> Vec<u32> {
    let children = format!("/proc/{0}/task/{0}/children", process.id());
    let children = std::fs::read_to_string(children).unwrap_or_default();
    children.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

fn is_alive(process: u32) -> bool {
    // One that is dead and waited for by nobody is a zombie.
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}
