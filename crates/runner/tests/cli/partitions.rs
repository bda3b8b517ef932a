//! Parts of a plan: measured one by one, interrupted, moved to another machine, joined.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::swept::table;
use crate::{run, runner, text, words};

const LENGTHS: [&str; 4] = ["--set", "sweep.batch=[1]", "--set", "sweep.workloads=['decode']"];

/// A part of a small plan of three blocks: two lengths, and naive apart from the others.
fn part(folder: &Path, part: &str, more: &[&str]) -> Command {
    let out = folder.join(format!("part-{}", part.split('/').next().unwrap()));
    let small = ["bench-configs/smoke.toml", "--only", "{naive,paged,contiguous}", "--threads", "1", "--out", out.to_str().unwrap()];
    let mut command = runner(&[&small[..], &LENGTHS, &["--partition", part], more].concat());
    command.env("KVLAB_CACHE", folder.join("cache"));
    command
}

fn ok(output: Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stderr)
}

fn refused(output: Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    words(&text(&output.stderr))
}

fn parts(folder: &Path, of: u32) -> Vec<PathBuf> {
    (1..=of).map(|part| folder.join(format!("part-{part}"))).collect()
}

fn merge(folders: &[PathBuf], out: &Path, more: &[&str]) -> Output {
    let folders = folders.iter().map(|folder| folder.to_str().unwrap());
    let arguments: Vec<&str> =
        ["merge"].into_iter().chain(folders).chain(["--out", out.to_str().unwrap()]).chain(more.iter().copied()).collect();
    run(&arguments)
}

fn record(folder: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(folder.join("run.json")).unwrap()).unwrap()
}

fn rewrite(folder: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut run = record(folder);
    change(&mut run);
    std::fs::write(folder.join("run.json"), serde_json::to_vec_pretty(&run).unwrap()).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in ["run.json", "visits.jsonl"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// Both parts of the plan.
fn both(folder: &Path) -> Vec<PathBuf> {
    for number in ["1/2", "2/2"] {
        ok(part(folder, number, &[]).output().unwrap());
    }
    parts(folder, 2)
}

#[test]
fn parts_are_measured_joined_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let listing = text(&part(folder.path(), "2/3", &["--dry-run"]).output().unwrap().stdout);
    for line in ["1/3", "2/3", "3/3", "<- this one", "This is part 2/3 of the plan"] {
        assert!(listing.contains(line), "{line}: {listing}");
    }
    let blocks: Vec<&str> = ["decode at 16", "decode at 48", "decode at 16, recomputed", "decode at 48, recomputed"].into();
    let of_part = |line: &&str| line.split_whitespace().next().is_some_and(|word| word.contains("/3"));
    let assigned: Vec<&str> =
        listing.lines().filter(of_part).flat_map(|line| line.split("  ").last()).flat_map(|names| names.split("; ")).collect();
    let told: Vec<&str> =
        assigned.iter().map(|name| name.trim_start_matches(|c: char| !c.is_alphabetic()).trim_end_matches(" <- this one")).collect();
    for block in &blocks {
        assert_eq!(told.iter().filter(|name| name.ends_with(block) || *name == block).count(), 1, "{block}: {listing}");
    }
    // The machine's threads decide times and not parts.
    let with = |threads: &str| {
        let small = ["bench-configs/smoke.toml", "--partition", "1/3", "--dry-run"];
        let listing = text(&runner(&small).env("RAYON_NUM_THREADS", threads).output().unwrap().stdout);
        listing.lines().filter(of_part).map(|line| line.split_once("MiB").unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((with("1").len(), with("1")), (3, with("2")));

    let folders = both(folder.path());
    let page = std::fs::read_to_string(folders[1].join("index.html")).unwrap();
    assert!(page.contains("Part 2 of 2 of a plan") && page.contains("`runner merge` joins the parts"), "it says what it is");
    let run_2 = record(&folders[1]);
    assert_eq!((&run_2["part"]["part"], &run_2["part"]["of"]), (&2.into(), &2.into()));
    assert_eq!(run_2["plan_hash"], record(&folders[0])["plan_hash"]);

    let out = folder.path().join("report");
    let merged = merge(&[folders[1].clone(), folders[0].clone()], &out, &["--format", "markdown"]);
    assert!(text(&merged.stdout).contains("naive") && text(&merged.stdout).contains("Memory ledger"), "{}", text(&merged.stdout));
    ok(merged);
    let rows = table(&out.join("results.csv"));
    let labels: Vec<(&str, &str)> = rows.iter().map(|row| (row["label"].as_str(), row["seq_len"].as_str())).collect();
    let expected = [("naive", "16"), ("contiguous", "16"), ("paged", "16"), ("naive", "48"), ("contiguous", "48"), ("paged", "48")];
    assert_eq!(labels, expected, "in the order of the plan");
    assert!(rows.iter().all(|row| row["machine"] == rows[0]["machine"] && row["machine"].contains("1 thread,")), "{rows:?}");
    let whole = record(&out);
    assert_eq!((&whole["state"], whole["origins"].as_array().unwrap().len()), (&"finished".into(), 2));
    let seconds = |run: &serde_json::Value| run["seconds"].as_object().unwrap().values().map(|kind| kind.as_f64().unwrap()).sum::<f64>();
    let of_parts: f64 = folders.iter().map(|folder| seconds(&record(folder))).sum();
    assert!((seconds(&whole) - of_parts).abs() < 1e-6 * of_parts, "{} and {of_parts}", seconds(&whole));
    assert!(whole["part"].is_null() && whole["command"].as_str().unwrap().contains("merge "));
    // One machine needs no warning in a chart.
    assert!(!std::fs::read_to_string(out.join("index.html")).unwrap().contains("machines meet"));

    let drawn = std::fs::read(out.join("latency.png")).unwrap();
    ok(run(&["report", out.to_str().unwrap()]));
    assert_eq!(std::fs::read(out.join("latency.png")).unwrap(), drawn, "a run like any other");
    let again = std::fs::read(out.join("results.csv")).unwrap();
    ok(merge(&folders, &out, &[]));
    assert_eq!(std::fs::read(out.join("results.csv")).unwrap(), again, "in whatever order the parts are given");
}

#[test]
fn what_does_not_belong_together_is_not_joined() {
    let folder = tempfile::tempdir().unwrap();
    let folders = both(folder.path());
    let out = folder.path().join("report");
    let other = folder.path().join("other");
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        copy(&folders[1], &other);
        rewrite(&other, change);
        refused(merge(&[folders[0].clone(), other.clone()], &out, &[]))
    };
    let build = with(&|run| run["build"]["program"] = "f00d".into());
    assert!(build.contains("different builds") && build.contains("program f00d"), "{build}");
    let model = with(&|run| run["model"]["hash"] = "beef".into());
    assert!(model.contains("different models") && model.contains("(beef)"), "{model}");
    let config = with(&|run| {
        run["plan_hash"] = "another".into();
        run["config"]["sweep"]["seed"] = 7.into();
    });
    assert!(config.contains("different plans (the config differs)") && config.contains("plan another"), "{config}");
    let of = with(&|run| run["part"]["of"] = 3.into());
    assert!(of.contains("different partitions") && of.contains("one of 3 parts"), "{of}");
    let whole = with(&|run| run["part"] = serde_json::Value::Null);
    assert!(whole.contains("holds a whole run") && whole.contains("--partition"), "{whole}");

    copy(&folders[0], &other);
    let twice = refused(merge(&[folders[0].clone(), folders[1].clone(), other.clone()], &out, &[]));
    assert!(twice.contains("part 1 of 2 is there twice") && twice.contains("other"), "{twice}");
    let missing = refused(merge(&folders[..1], &out, &[]));
    assert!(missing.contains("Part 2 of 2 is missing") && missing.replace("- ", "-").contains("--allow-missing"), "{missing}");
    let nowhere = refused(merge(&[folders[0].clone(), folder.path().join("nowhere")], &out, &[]));
    assert!(nowhere.contains("holds no part of a run"), "{nowhere}");
    let itself = refused(merge(&folders, &folders[0], &[]));
    assert!(itself.contains("is one of the parts"), "{itself}");
    assert!(!out.exists(), "nothing is written");

    let partly = merge(&folders[..1], &out, &["--allow-missing"]);
    assert_eq!(partly.status.code(), Some(2), "{}", text(&partly.stderr));
    let page = std::fs::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains("Part 2 of 2 is missing: its blocks were not measured (decode at"), "it says what is not there");
    assert!(page.contains("of 6 planned cells have rows"));
}

/// The bytes of a cell are the same on every machine. If they are there twice and are not, something is wrong.
#[test]
fn measurements_that_disagree_are_not_joined() {
    let folder = tempfile::tempdir().unwrap();
    let folders = both(folder.path());
    let log = |index: usize| std::fs::read_to_string(folders[index].join("visits.jsonl")).unwrap();
    let (first, second) = (log(0), log(1));
    let memory = first.lines().find(|line| line.contains("\"pass\":\"memory\"")).unwrap();
    let out = folder.path().join("report");
    let with = |line: &str| {
        std::fs::write(folders[1].join("visits.jsonl"), format!("{second}{line}\n")).unwrap();
        merge(&folders, &out, &[])
    };
    ok(with(memory));
    let bytes = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["values"]["heap_live_bytes"].as_f64().unwrap();
    let mut changed: serde_json::Value = serde_json::from_str(memory).unwrap();
    changed["values"]["heap_live_bytes"] = (bytes(memory) + 1.0).into();
    // Resident pages are the machine's.
    changed["values"]["rss_bytes"] = 1.0.into();
    let message = refused(with(&changed.to_string()));
    assert!(message.contains("`heap_live_bytes` of ") && message.contains("does not depend on the machine"), "{message}");

    let gate = first.lines().find(|line| line.contains("\"pass\":\"gate\"")).unwrap();
    let failed = gate.replace("\"status\":\"ok\"", "\"status\":\"failed\"");
    assert_ne!(failed, gate);
    let message = refused(with(&failed));
    assert!(message.contains("passed the conformance suite in") && message.contains("failed it in"), "{message}");
}

#[test]
fn a_plan_is_not_shared_by_what_a_machine_has() {
    let output = run(&["bench-configs/quickstart.toml", "--partition", "1/2", "--dry-run"]);
    let message = refused(output);
    assert!(message.contains("`--partition 1/2` needs `memory_limit` in [sweep]") && message.contains("8 GiB"), "{message}");
    for (partition, wrong) in [("0/4", "there is no part 0"), ("5/4", "there is no part 5 of 4"), ("3", "`3/8` is the third of eight")] {
        let message = refused(run(&["bench-configs/smoke.toml", "--partition", partition, "--dry-run"]));
        assert!(message.contains(wrong), "{message}");
    }
}

/// Whatever the number of parts, each cell of a plan belongs to one of them.
#[test]
fn every_cell_belongs_to_one_part() {
    let listed = |more: &[&str]| -> Vec<(String, String)> {
        let output = runner(&[&["bench-configs/smoke.toml", "--threads", "1", "--dry-run"], more].concat()).output().unwrap();
        let listing = text(&output.stdout);
        ok(output);
        let table = listing.lines().skip_while(|line| !line.starts_with("about ")).skip(1).take_while(|line| !line.is_empty());
        let (mut block, mut cells) = (String::new(), vec![]);
        for line in table {
            match line.strip_prefix("    ") {
                Some(cell) if cell.contains(": about") => cells.push((block.clone(), cell.trim().split(": about").next().unwrap().into())),
                None if line.starts_with("not measured: ") => cells.push((String::new(), line.to_owned())),
                None => block = line.split_once("iB ").map_or_else(|| line.to_owned(), |(_, name)| name.trim().to_owned()),
                Some(_) => {}
            }
        }
        cells.sort();
        cells
    };
    let all = listed(&[]);
    assert!(all.len() > 6, "{all:?}");
    for of in [1, 2, 3, 7] {
        let mut of_parts: Vec<_> = (1..=of).flat_map(|part| listed(&["--partition", &format!("{part}/{of}")])).collect();
        of_parts.sort();
        assert_eq!(of_parts, all, "in {of} parts");
    }
}

#[test]
fn two_builds_take_twice_the_time_of_a_part() {
    let seconds = |more: &[&str]| -> f64 {
        let plan = ["bench-configs/smoke.toml", "--threads", "1", "--partition", "1/1", "--dry-run", "--set", "sweep.launches=40"];
        let output = runner(&[&plan[..], more].concat()).output().unwrap();
        let listing = text(&output.stdout);
        ok(output);
        let words: Vec<&str> = listing.lines().find(|line| line.starts_with("1/1 ")).unwrap().split_whitespace().collect();
        words[1].parse::<f64>().unwrap() * if words[2] == "min" { 60.0 } else { 1.0 }
    };
    let (one, two) = (seconds(&[]), seconds(&["--against", env!("CARGO_BIN_EXE_runner")]));
    assert!((1.5..2.7).contains(&(two / one)), "{one} s and {two} s");
}

/// Models have different plans, so one of them is shared at a time.
#[test]
fn one_of_several_models_is_measured_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("sizes.toml");
    let model = |name: &str, layers: u32| format!("[[model]]\nname = '{name}'\npreset = 'tiny'\nlayers = {layers}\n");
    let sweep = "[sweep]\nlengths = [16, 32]\ndecode_steps = 4\nlaunches = 1\nprefill_chunk = 20\nmemory_limit = '1 GiB'\n";
    let strategies = "[[strategy]]\nlabel = 'paged'\nuse = 'paged'\n[[strategy]]\nlabel = 'contiguous'\nuse = 'contiguous'\n";
    std::fs::write(&config, [&model("flat", 1), &model("deep", 2), sweep, strategies].concat()).unwrap();
    let part = |number: u32, more: &[&str]| {
        let (out, partition) = (folder.path().join(format!("part-{number}")), format!("{number}/2"));
        let arguments = [config.to_str().unwrap(), "--unchecked", "--threads", "1", "--resume", "--partition", &partition];
        let mut command = runner(&[&arguments[..], &["--out", out.to_str().unwrap()], more].concat());
        command.env("KVLAB_CACHE", folder.path().join("cache")).output().unwrap()
    };
    let message = refused(part(1, &[]));
    assert!(
        message.contains("shares the plan of one model, and the config has 2") && message.contains("there are flat, deep"),
        "{message}"
    );
    assert!(!folder.path().join("part-1").exists(), "nothing is written");
    for number in [1, 2] {
        ok(part(number, &["--model", "deep"]));
    }
    let again = ok(part(1, &["--model", "deep"]));
    assert!(again.contains("this part is finished already"), "{again}");
    let out = folder.path().join("report");
    ok(merge(&parts(folder.path(), 2), &out, &[]));
    let rows = table(&out.join("results.csv"));
    assert!(rows.len() == 4 && rows.iter().all(|row| row["model"].starts_with("deep: tiny, 2 layers")), "{rows:?}");

    ok(part(1, &["--model", "flat"]));
    let message = refused(merge(&parts(folder.path(), 2), &out, &[]));
    assert!(message.contains("holds the parts of several models"), "{message}");
    ok(merge(&[folder.path().join("part-1/deep"), folder.path().join("part-2")], &out, &[]));
}

/// More parts than blocks: a task of an array that has nothing to do is done at once.
#[test]
fn a_part_without_blocks_is_finished_and_joined() {
    let folder = tempfile::tempdir().unwrap();
    for number in 1..=5 {
        ok(part(folder.path(), &format!("{number}/5"), &["--unchecked"]).output().unwrap());
    }
    let folders = parts(folder.path(), 5);
    let empty: Vec<&PathBuf> = folders.iter().filter(|folder| table(&folder.join("results.csv")).is_empty()).collect();
    assert_eq!(empty.len(), 1, "four blocks in five parts");
    let out = folder.path().join("report");
    ok(merge(&folders, &out, &[]));
    assert_eq!(table(&out.join("results.csv")).len(), 6);
}

/// A scheduler sends SIGTERM to all processes of a task, waits, and queues it again.
#[test]
fn a_part_that_is_told_to_end_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--resume", "--unchecked", "--set", "sweep.launches=6"];
    let mut child = part(folder.path(), "1/2", &more).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let log = folder.path().join("part-1.unfinished/visits.jsonl");
    let lines = || std::fs::read_to_string(&log).map_or(0, |text| text.lines().count());
    while lines() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it measured anything");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let workers = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
    let all: Vec<String> = workers.split_whitespace().map(str::to_owned).chain([child.id().to_string()]).collect();
    Command::new("kill").arg("-TERM").args(&all).stderr(Stdio::null()).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    let before = std::fs::read_to_string(&log).unwrap();
    assert!(!before.contains("\"status\":\"failed\""), "{before}");
    ok(part(folder.path(), "1/2", &more).output().unwrap());
    let after = std::fs::read_to_string(folder.path().join("part-1/visits.jsonl")).unwrap();
    assert!(after.starts_with(&before) && after.len() > before.len());

    // Queued once more, it has nothing to do; and it does not take another part or plan for its own.
    let again = ok(part(folder.path(), "1/2", &more).output().unwrap());
    assert!(again.contains("this part is finished already"), "{again}");
    assert_eq!(std::fs::read_to_string(folder.path().join("part-1/visits.jsonl")).unwrap(), after);
    let message = refused(part(folder.path(), "1/3", &more).output().unwrap());
    assert!(message.contains("holds another run") && message.contains("the part of the plan changed since"), "{message}");
}

/// A part that goes on elsewhere begins again what was not timed to the end, and says where the rest was timed.
#[test]
fn a_part_may_go_on_on_another_machine() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--resume", "--unchecked"];
    ok(part(folder.path(), "1/1", &more).output().unwrap());
    let (finished, unfinished) = (folder.path().join("part-1"), folder.path().join("part-1.unfinished"));
    // As if it had been killed elsewhere: the first block was timed and counted, the second only in part.
    std::fs::rename(&finished, &unfinished).unwrap();
    let log = std::fs::read_to_string(unfinished.join("visits.jsonl")).unwrap();
    let visits: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let blocks: Vec<&str> = visits.iter().filter_map(|visit| visit["block"].as_str()).collect();
    let second = blocks.iter().find(|block| **block != blocks[0]).unwrap();
    let cut = visits.iter().position(|visit| visit["block"].as_str() == Some(second)).unwrap();
    let kept: Vec<&str> = log.lines().take(cut + 1).collect();
    std::fs::write(unfinished.join("visits.jsonl"), kept.join("\n") + "\n").unwrap();
    rewrite(&unfinished, |run| {
        run["machine_id"] = "elsewhere".into();
        run["state"] = "interrupted".into();
        run["finished"] = serde_json::Value::Null;
    });
    ok(part(folder.path(), "1/1", &more).output().unwrap());
    let run = record(&finished);
    let origins = run["origins"].as_array().unwrap();
    assert_eq!(origins.len(), 1);
    assert_eq!((&origins[0]["machine_id"], &origins[0]["blocks"]), (&"elsewhere".into(), &serde_json::json!([blocks[0]])));
    assert_ne!(run["machine_id"], "elsewhere");
    let text_of_log = std::fs::read_to_string(finished.join("visits.jsonl")).unwrap();
    assert!(!text_of_log.contains(kept[cut]), "what was begun elsewhere was given up");
    assert!(text_of_log.contains(kept[cut - 1]));
    let rows = table(&finished.join("results.csv"));
    let elsewhere: Vec<&str> = rows.iter().filter(|row| row["machine"].starts_with("elsewhere")).map(|row| row["block"].as_str()).collect();
    assert!(!elsewhere.is_empty() && elsewhere.iter().all(|block| *block == blocks[0]) && elsewhere.len() < rows.len(), "{rows:?}");
    // Nothing is compared over machines, and charts of times say that several meet.
    let naive = rows.iter().find(|row| row["label"] == "naive" && row["machine"].starts_with("elsewhere"));
    assert!(naive.is_none_or(|row| row["tpot_ratio"].is_empty()), "{naive:?}");
    let page = std::fs::read_to_string(finished.join("index.html")).unwrap();
    assert!(page.contains("Times of 2 machines meet in this chart") && page.contains(">machine</button>"));

    // A run that is no part stays where it was begun.
    std::fs::rename(&finished, &unfinished).unwrap();
    rewrite(&unfinished, |run| {
        run["machine_id"] = "elsewhere".into();
        run["part"] = serde_json::Value::Null;
    });
    let out = folder.path().join("part-1");
    let whole = [
        "bench-configs/smoke.toml",
        "--only",
        "{naive,paged,contiguous}",
        "--threads",
        "1",
        "--out",
        out.to_str().unwrap(),
        "--resume",
        "--unchecked",
    ];
    let message = refused(runner(&[&whole[..], &LENGTHS].concat()).env("KVLAB_CACHE", folder.path().join("cache")).output().unwrap());
    assert!(message.contains("the machine changed since"), "{message}");
}
