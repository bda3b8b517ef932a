//! Nothing is counted or profiled while times are measured: a strategy looks at the allocator in its own attention.
//!
//! This has a `main` of its own, because the program under test is this one, with the strategy [`Looker`].
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use kv_core::{CacheError, ConfigError, Geometry, Guarantee, HeldRows, KvCache, SeqId, Strategy, Tensor, View};
use kv_metrics::{AllocatorMode, allocator_mode};
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: runner::CountingAllocator = runner::CountingAllocator;

#[derive(Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {}

/// An exact cache that says, once in each process for each mode, what the allocator does while it attends.
#[derive(Debug)]
struct Looker {
    rows: HeldRows,
}

const MODES: [AllocatorMode; 3] = [AllocatorMode::Idle, AllocatorMode::Counting, AllocatorMode::Profiling];
const MARK: &str = "the allocator in process";

#[expect(clippy::print_stdout, reason = "a strategy may print: the runner passes it on to its error stream")]
fn look() {
    static SAID: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];
    let mode = allocator_mode();
    if !SAID[MODES.iter().position(|each| *each == mode).unwrap()].swap(true, Relaxed) {
        println!("{MARK} {}: {mode:?}", std::process::id());
    }
}

impl Strategy for Looker {
    const ID: &'static str = "looker";
    const SUMMARY: &'static str = "looks at the allocator";
    type Config = Config;

    fn new(_: Config, geometry: &Geometry) -> Result<Looker, ConfigError> {
        Ok(Looker { rows: HeldRows::new(geometry) })
    }
}

impl KvCache for Looker {
    kv_core::forward!(rows: open close seen begin append usage);

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        look();
        self.rows.attend(seq, layer, queries, |_, _| true)
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.rows.commit(seq, |_, _| true)
    }

    fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
        self.rows.view(seq, layer, kv_head, |_, _| true)
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Exact
    }
}

fn main() -> ExitCode {
    // Started again with arguments of the runner, it is the program under test.
    if std::env::args().nth(1).is_some_and(|first| ["worker", "run", "profile"].contains(&first.as_str())) {
        return runner::main(runner::builtin().with::<Looker>());
    }
    a_sweep_counts_in_the_memory_pass_alone();
    a_profile_is_dhats();
    ExitCode::SUCCESS
}

/// What the strategy said: the process and the mode.
fn said(messages: &str) -> BTreeSet<(u64, String)> {
    let told = messages.lines().filter_map(|line| line.strip_prefix(MARK)?.split_once(": "));
    told.map(|(process, mode)| (process.trim().parse().unwrap(), mode.to_owned())).collect()
}

fn a_sweep_counts_in_the_memory_pass_alone() {
    const LAUNCHES: usize = 2;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("looker.toml");
    let text = format!(
        "[model]\npreset = 'tiny'\nlayers = 2\n[sweep]\nlengths = [16]\ndecode_steps = 3\nlaunches = {LAUNCHES}\n\
         [[strategy]]\nlabel = 'looker'\nuse = 'looker'\n"
    );
    std::fs::write(&config, text).unwrap();
    let out = folder.path().join("report");
    let mut sweep = Command::new(std::env::current_exe().unwrap());
    sweep.arg("run").arg(&config).arg("--unchecked").arg("--out").arg(&out);
    let output = sweep.env("KVLAB_CACHE", folder.path().join("cache")).env("NO_COLOR", "1").output().unwrap();
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{messages}");

    let visits = std::fs::read_to_string(out.join("visits.jsonl")).unwrap();
    let visits = visits.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let timed: BTreeSet<u64> = visits.filter(|visit| visit["pass"] == "latency").filter_map(|visit| visit["process"].as_u64()).collect();
    assert!(timed.len() >= LAUNCHES, "{timed:?}");
    let said = said(&messages);
    for process in &timed {
        let modes: Vec<&str> = said.iter().filter(|(by, _)| by == process).map(|(_, mode)| mode.as_str()).collect();
        assert_eq!(modes, ["Idle"], "of process {process}, which timed: {messages}");
    }
    let others: Vec<&str> = said.iter().filter(|(by, _)| !timed.contains(by)).map(|(_, mode)| mode.as_str()).collect();
    assert!(others.contains(&"Counting"), "nobody counted: {messages}");
    assert!(said.iter().all(|(_, mode)| mode != "Profiling"), "{messages}");
}

fn a_profile_is_dhats() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("heap.json");
    let mut profile = Command::new(std::env::current_exe().unwrap());
    let output = profile.args(["profile", "looker", "--length", "40", "--out"]).arg(&file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(&format!("{MARK} ")) && text.contains(": Profiling"), "{text}");
    // The strategy's crate is this test: printing takes a buffer. The other calls end in `HeldRows` and leave no frame.
    assert!(text.contains("runner/tests/timed_passes.rs:") && text.contains(" timed_passes::look"), "{text}");
    let profile: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(profile["mode"], "rust-heap");
}
