//! Configs of several models: each has a report of its own, beside an overview of all.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::{run, runner, text, words};

const SWEEP: &str = "[sweep]\nlengths = [16, 32]\ndecode_steps = 4\nlaunches = 3\nprefill_chunk = 20\n\
    [[strategy]]\nlabel = 'naive'\nuse = 'naive'\n[[strategy]]\nlabel = 'contiguous'\nuse = 'contiguous'\n";
const FLAT: &str = "[[model]]\nname = 'flat'\npreset = 'tiny'\nlayers = 1\n";
const DEEP: &str = "[[model]]\nname = 'deep'\npreset = 'tiny'\nlayers = 2\n";

/// A config of these models in a folder, and the folder of its reports.
fn written(folder: &Path, models: &str) -> (PathBuf, PathBuf) {
    let config = folder.join("sizes.toml");
    std::fs::write(&config, format!("title = 'Sizes'\n{models}{SWEEP}")).unwrap();
    (config, folder.join("out"))
}

fn sweep(config: &Path, out: &Path, more: &[&str]) -> Command {
    let arguments = [config.to_str().unwrap(), "--unchecked", "--out", out.to_str().unwrap()];
    let mut command = runner(&[&arguments[..], more].concat());
    command.env("KVLAB_CACHE", out.with_file_name("cache"));
    command
}

fn outcome(config: &Path, out: &Path, more: &[&str]) -> Output {
    sweep(config, out, more).output().unwrap()
}

fn record(folder: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(folder.join("run.json")).unwrap()).unwrap()
}

fn rows(table: &Path) -> Vec<csv::StringRecord> {
    csv::Reader::from_path(table).unwrap().records().map(Result::unwrap).collect()
}

fn refused(output: &Output, expected: &str) {
    let message = words(&text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains(expected), "`{expected}` is missing in {message}");
}

#[test]
fn every_model_has_a_report_of_its_own_beside_an_overview() {
    let folder = tempfile::tempdir().unwrap();
    let (config, out) = written(folder.path(), &format!("{FLAT}{DEEP}"));
    let output = outcome(&config, &out, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("flat (model 1 of 2): [1/"), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert!(printed.contains("deep (model 2 of 2)") && printed.contains("times as fast") && printed.contains("overview: "), "{printed}");

    for (name, layers) in [("flat", 1), ("deep", 2)] {
        let run = record(&out.join(name));
        assert_eq!((run["title"].as_str(), run["state"].as_str()), (Some(format!("Sizes: {name}").as_str()), Some("finished")));
        assert_eq!(run["model"]["name"], format!("{name}: tiny, {layers} layers (random weights)"));
        assert_eq!(run["model"]["geometry"]["layers"], layers);
        assert!(out.join(name).join("index.html").is_file() && out.join(name).join("speedup.png").is_file());
        assert!(run["command"].as_str().unwrap().ends_with(&format!("--model {name} --unchecked")), "{}", run["command"]);
    }
    let joined = rows(&out.join("results.csv"));
    assert_eq!(joined.len(), 2 * 2 * 2, "two models, two lengths, two strategies");
    assert_eq!(joined[4..], rows(&out.join("deep/results.csv"))[..]);
    let speed_ups = rows(&out.join("speedup.csv"));
    let keys: Vec<[&str; 2]> = speed_ups.iter().map(|row| [&row[0], &row[4]]).collect();
    assert_eq!(keys, [["flat", "16"], ["flat", "32"], ["deep", "16"], ["deep", "32"]]);
    assert!(speed_ups.iter().all(|row| row[14].parse::<f64>().unwrap() > 0.0 && !row[15].is_empty()), "{speed_ups:?}");
    let page = std::fs::read_to_string(out.join("index.html")).unwrap();
    for part in ["flat/index.html", "deep/index.html", "src=\"data:image/svg+xml;base64,"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!out.join("lock").exists());

    let picture = std::fs::read(out.join("speedup.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG"));
    std::fs::remove_file(out.join("speedup.png")).unwrap();
    std::fs::remove_file(out.join("deep/index.html")).unwrap();
    let drawn = run(&["report", out.to_str().unwrap(), "--format", "markdown"]);
    assert!(drawn.status.success() && text(&drawn.stdout).contains("| model | length |"), "{}", text(&drawn.stderr));
    assert_eq!(std::fs::read(out.join("speedup.png")).unwrap(), picture);
    assert!(out.join("deep/index.html").is_file());
    refused(&run(&["best", out.to_str().unwrap(), "--context", "16"]), "holds the runs of several models");
    refused(&run(&["report", out.to_str().unwrap(), "--peer", "x.csv"]), "holds the runs of several models");

    let id = |name: &str| record(&out.join(name))["run_id"].clone();
    let before = [id("flat"), id("deep")];
    let output = outcome(&config, &out, &["--model", "deep", "--set", "model.deep.layers=3"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(id("flat"), before[0], "only the other was run");
    assert_ne!(id("deep"), before[1]);
    assert!(rows(&out.join("results.csv"))[4][2].starts_with("deep: tiny, 3 layers"));
}

#[test]
fn a_dry_run_prints_the_plan_of_every_model_and_the_time_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let (config, out) = written(folder.path(), &format!("{FLAT}{DEEP}"));
    let output = outcome(&config, &out, &["--dry-run", "--only", "naive"]);
    let plan = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(plan.matches("2 cells, about").count(), 2, "{plan}");
    assert!(plan.contains("flat (model 1 of 2)") && plan.contains("\n2 models, about"), "{plan}");
    assert!(!out.exists());
}

#[test]
fn a_run_of_several_models_is_resumed_where_it_was_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let (config, out) = written(folder.path(), &format!("{FLAT}{DEEP}"));
    let unfinished = out.join("deep.unfinished");
    let interrupted = |signal: &str| {
        let mut child = sweep(&config, &out, &["--overwrite"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while std::fs::metadata(unfinished.join("visits.jsonl")).map_or(0, |log| log.len()) == 0 || !out.join("flat").exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it measured the second model");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        child.wait().unwrap()
    };
    assert_eq!(interrupted("-INT").code(), Some(130));
    let page = std::fs::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains("flat/index.html") && page.contains("deep.unfinished/index.html"), "{page}");
    assert!(page.contains("interrupted before the end"), "{page}");

    let flat = record(&out.join("flat"));
    refused(&outcome(&config, &out, &[]), "holds an unfinished run of several models: flat finished, deep to be run");
    refused(&outcome(&config, &out, &["--resume", "--set", "sweep.decode_steps=5"]), "changed since flat was run");
    let output = outcome(&config, &out, &["--resume"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("flat (model"), "it is finished: {}", text(&output.stderr));
    assert_eq!(record(&out.join("flat")), flat);
    assert_eq!(record(&out.join("deep"))["state"], "finished");
    assert_eq!(rows(&out.join("results.csv")).len(), 8);
    assert!(!unfinished.exists());
    refused(&outcome(&config, &out, &["--resume"]), "there is no unfinished run");

    interrupted("-KILL");
    let output = outcome(&config, &out, &["--resume"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(rows(&out.join("speedup.csv")).len(), 4);
}

#[test]
fn a_model_that_cannot_be_loaded_does_not_lose_the_others() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("broken.gguf"), "no model").unwrap();
    let (config, out) = written(folder.path(), &format!("[[model]]\ngguf = 'broken.gguf'\n{FLAT}"));
    let output = outcome(&config, &out, &[]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(words(&text(&output.stderr)).contains("cannot load the model"), "{}", text(&output.stderr));
    assert_eq!(rows(&out.join("results.csv")).len(), 4);
    let page = std::fs::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains("broken: it could not be run") && page.contains("flat/index.html"), "{page}");

    let (config, out) = written(folder.path(), "[[model]]\ngguf = 'broken.gguf'\n");
    let out = out.with_file_name("alone");
    let output = outcome(&config, &out, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(!out.exists(), "nothing was measured");
}

#[test]
fn what_several_models_cannot_do_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (config, out) = written(folder.path(), &format!("{FLAT}{FLAT}"));
    refused(&outcome(&config, &out, &[]), "two models are called `flat`");
    let (config, _) = written(folder.path(), &format!("{FLAT}[[model]]\npreset = 'tiny'\nlayers = 0\n"));
    refused(&outcome(&config, &out, &[]), "`layers` is 0");
    let (config, _) = written(folder.path(), &format!("{FLAT}{DEEP}"));
    refused(&outcome(&config, &out, &["--model", "dep"]), "did you mean `deep`?");
    refused(&outcome(&config, &out, &["--resume"]), "there is no unfinished run");
    refused(&run(&["calibrate", config.to_str().unwrap()]), "it lists 2 models, and one is needed here");
    assert!(!out.exists(), "nothing is written");

    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("notes.md"), "mine").unwrap();
    for more in [&[][..], &["--overwrite"]] {
        refused(&outcome(&config, &out, more), "holds `notes.md`, and not the reports of several models");
    }
    assert_eq!(std::fs::read_to_string(out.join("notes.md")).unwrap(), "mine");
    let (config, _) = written(folder.path(), "[model]\npreset = 'tiny'\nlayers = 1\n");
    refused(&outcome(&config, &out, &["--model", "flat"]), "the config has a table [model]");
}
