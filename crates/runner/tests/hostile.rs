//! Strategies that hang, abort, take all memory, overflow their stack, leave the process or panic: each is a row with label,
//! phase and reason, and the others' rows are complete.
//!
//! This has a `main` of its own, because the program under test is this one, with the strategy [`Hostile`].
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use kv_core::{CacheError, ConfigError, Geometry, Guarantee, HeldRows, KvCache, SeqId, Strategy, Tensor, View};
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: runner::CountingAllocator = runner::CountingAllocator;

/// What the strategy does to its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Deed {
    #[default]
    Nothing,
    Hang,
    Abort,
    Allocate,
    OverflowStack,
    Exit,
    Panic,
    /// Says that it is exact, and forgets all but the last eight tokens.
    Forget,
}

/// Where it does so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Place {
    /// While the cache is built.
    New,
    /// In the attention of the conformance suite.
    Gate,
    /// In the attention of the model.
    #[default]
    Cell,
    /// In the model's attention of a single token: after the prompt.
    Decode,
}

#[derive(Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    deed: Deed,
    place: Place,
}

#[derive(Debug)]
struct Hostile {
    rows: HeldRows,
    deed: Deed,
    place: Place,
}

/// Layers of the model under test. The suite's small models have fewer.
const LAYERS: usize = 4;

impl Strategy for Hostile {
    const ID: &'static str = "hostile";
    const SUMMARY: &'static str = "does harm";
    type Config = Config;

    fn new(config: Config, geometry: &Geometry) -> Result<Hostile, ConfigError> {
        let is_here = match config.place {
            Place::New => false,
            Place::Gate => geometry.layers != LAYERS,
            Place::Cell | Place::Decode => geometry.layers == LAYERS,
        };
        if config.place == Place::New {
            harm(config.deed);
        }
        let deed = if is_here { config.deed } else { Deed::Nothing };
        Ok(Hostile { rows: HeldRows::new(geometry), deed, place: config.place })
    }
}

#[expect(clippy::print_stdout, reason = "a strategy may print, and the runner must not be disturbed")]
fn harm(deed: Deed) {
    println!("about to do harm");
    match deed {
        Deed::Nothing | Deed::Forget => {}
        Deed::Hang => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        Deed::Abort => std::process::abort(),
        Deed::Allocate => {
            let mut all: Vec<Vec<u8>> = vec![];
            loop {
                all.push(std::hint::black_box(vec![1; 1 << 26]));
            }
        }
        Deed::OverflowStack => {
            std::hint::black_box(deep(1));
        }
        Deed::Exit => std::process::exit(0),
        Deed::Panic => panic!("a deed of its own"),
    }
}

#[expect(unconditional_recursion, reason = "that is the point")]
fn deep(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 1024]);
    frame[7] + deep(depth + 1)
}

impl KvCache for Hostile {
    kv_core::forward!(rows: open close seen begin append usage);

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let [tokens, ..] = queries.dims();
        if self.deed != Deed::Nothing && (self.place != Place::Decode || tokens == 1) {
            harm(self.deed);
        }
        let forgets = self.deed == Deed::Forget;
        self.rows.attend(seq, layer, queries, |query, key| !forgets || key + 8 > query)
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        let forgets = self.deed == Deed::Forget;
        self.rows.commit(seq, |seen, position| !forgets || position + 8 >= seen)
    }

    fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
        let forgets = self.deed == Deed::Forget;
        self.rows.view(seq, layer, kv_head, |newest, key| !forgets || key + 8 > newest)
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Exact
    }
}

fn main() -> ExitCode {
    // Started again with arguments of the runner, it is the program under test.
    if std::env::args().nth(1).is_some_and(|first| ["worker", "run", "profile"].contains(&first.as_str())) {
        return runner::main(runner::builtin().with::<Hostile>());
    }
    let harm = ["hang", "abort", "allocate", "overflow_stack", "exit", "panic"];
    for place in ["new", "gate", "cell", "decode"] {
        every_deed_is_a_row(place, &harm);
    }
    every_deed_is_a_row("gate", &["forget"]);
    a_panic_ends_a_profile_with_a_message();
    ExitCode::SUCCESS
}

fn a_panic_ends_a_profile_with_a_message() {
    let folder = tempfile::tempdir().unwrap();
    for place in ["new", "cell", "decode"] {
        let mut profile = Command::new(std::env::current_exe().unwrap());
        profile.args(["profile", "hostile", "--length", "40", "--set", "deed=panic", "--set", &format!("place={place}")]);
        let output = profile.current_dir(folder.path()).env("NO_COLOR", "1").output().unwrap();
        let messages = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{place}: {messages}");
        let words = messages.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert!(words.contains("`hostile` was not profiled to the end: the strategy panicked: a deed of its own"), "{place}: {messages}");
    }
}

/// Runs all deeds at one place beside two honest strategies.
fn every_deed_is_a_row(place: &str, deeds: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("hostile.toml");
    let mut text = format!(
        "[model]\npreset = 'tiny'\nlayers = {LAYERS}\n[sweep]\nlengths = [16, 24]\ndecode_steps = 3\nlaunches = 1\ntimeout_s = 10\nmemory_limit = '700 MiB'\n"
    );
    let mut strategy = |label: &str, id: &str, config: &str| {
        text.push_str(&format!("[[strategy]]\nlabel = '{label}'\nuse = '{id}'\nconfig = {config}\n"));
    };
    strategy("first", "contiguous", "{}");
    for deed in deeds {
        strategy(deed, "hostile", &format!("{{ deed = '{deed}', place = '{place}' }}"));
    }
    strategy("last", "paged", "{}");
    std::fs::write(&config, text).unwrap();

    let out = folder.path().join("report");
    let mut sweep = Command::new(std::env::current_exe().unwrap());
    sweep.arg("run").arg(&config).arg("--out").arg(&out).env("KVLAB_CACHE", folder.path().join("cache")).env("NO_COLOR", "1");
    let output = sweep.output().unwrap();
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{place}: {messages}");
    let rows = rows(&out.join("results.csv"));
    assert_eq!(rows.len(), 2 * (deeds.len() + 2), "{place}: {rows:?}");
    for row in &rows {
        let (label, phase, error) = (row["label"].as_str(), row["phase"].as_str(), row["error"].as_str());
        let what = format!("{place}, {label}: {row:?}\n{messages}");
        if matches!(label, "first" | "last") {
            assert_eq!(row["status"], "ok", "{what}");
            assert!(!row["tpot_ms_p50"].is_empty() && !row["heap_live_bytes"].is_empty(), "{what}");
            continue;
        }
        let status = match label {
            "hang" => "timed out",
            "allocate" => "out of memory",
            _ => "failed",
        };
        assert_eq!(row["status"], status, "{what}");
        let phases: &[&str] = match place {
            "new" => &["build"],
            // The suite's checks have names like this one.
            "gate" => &["attend_equals_view", "refusals_leave_no_trace", "starts_empty_and_forgets", "guarantee_holds"],
            "cell" => &["fill"],
            _ => &["decode"],
        };
        assert!(phases.contains(&phase), "{what}");
        let reason = match label {
            "hang" => "nothing was heard of it for 10 s",
            "abort" => "it aborted",
            "allocate" => "out of memory",
            "overflow_stack" => "overflowed its stack",
            "exit" => "exit code 0 before it was done",
            "panic" => "panicked: a deed of its own",
            _ => "fails the conformance suite: guarantee_holds",
        };
        // What keeps a strategy from being timed at all is told once.
        let is_told_before = place == "gate" && row["seq_len"] == "24";
        let reason = if is_told_before { "not timed, for the reason given for " } else { reason };
        assert!(error.contains(reason), "{what}");
        assert!(row["tpot_ms_p50"].is_empty(), "{what}");
    }
    assert!(!folder.path().join("cache/recordings").exists(), "no recording is left");
}

/// The rows of a table, by the names of its columns.
fn rows(table: &Path) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(table).unwrap();
    reader.deserialize().map(Result::unwrap).collect()
}
