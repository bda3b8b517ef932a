//! Rounds, launches and what they say: intervals, verdicts and the control.

use std::collections::BTreeSet;
use std::path::Path;

use crate::{run, runner, text, words};

const CONFIG: &str = r#"
[model]
preset = "tiny"
layers = 2

[sweep]
lengths = [32]
decode_steps = 8
rounds = 2
launches = 3
ttft = false

[[strategy]]
label = "same|one"
use = "contiguous"
config = { format = "f16" }

[[strategy]]
label = "same two"
use = "contiguous"
config = { format = "f16" }

[[strategy]]
label = "naive"
use = "naive"
"#;

fn config(folder: &Path, text: &str) -> String {
    let path = folder.join("sweep.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn table(path: &Path) -> Vec<csv::StringRecord> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let header = reader.headers().unwrap().clone();
    [header].into_iter().chain(reader.records().map(Result::unwrap)).collect()
}

/// The values of a column.
fn column(table: &[csv::StringRecord], name: &str) -> Vec<String> {
    let index = table[0].iter().position(|other| other == name).unwrap_or_else(|| panic!("no column {name}"));
    table[1..].iter().map(|record| record[index].to_owned()).collect()
}

#[test]
fn instances_take_turns_and_are_compared_with_the_baseline_and_its_double() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), CONFIG);
    let out = folder.path().join("report");
    let output = run(&["run", &config, "--unchecked", "--format", "markdown", "--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));

    let samples = table(&out.join("samples.csv"));
    let turns: BTreeSet<(String, String, String)> = column(&samples, "phase")
        .into_iter()
        .zip(column(&samples, "round"))
        .zip(column(&samples, "turn"))
        .filter(|((phase, _), turn)| phase == "decode" && !turn.is_empty())
        .map(|((phase, round), turn)| (phase, round, turn))
        .collect();
    assert_eq!(turns.len(), 2 * 3, "two rounds of two instances and the control: {turns:?}");
    assert!(column(&samples, "control").contains(&"true".to_owned()));
    let warm_up = column(&samples, "warm_up").iter().filter(|warm_up| *warm_up == "true").count();
    assert!(warm_up >= 3 * 2 * 3, "the first step of every turn does not count: {warm_up}");

    let results = table(&out.join("results.csv"));
    assert_eq!(column(&results, "label"), ["same|one", "same two", "naive"]);
    assert_eq!(column(&results, "tpot_verdict")[0], "baseline", "contiguous in f16 without a mark");
    assert!(["same", "faster", "slower", "inconclusive"].contains(&column(&results, "tpot_verdict")[1].as_str()));
    assert_eq!(column(&results, "tpot_verdict")[2], "", "what recomputes is timed apart");
    let launches: Vec<usize> = column(&results, "launches").iter().map(|launches| launches.parse().unwrap()).collect();
    assert!((3..=6).contains(&launches[0]) && launches[0] == launches[1] && launches[2] == 1, "{launches:?}");
    let of = |name: &str, row: usize| column(&results, name)[row].parse::<f64>().unwrap();
    assert!(of("tpot_ratio_low", 1) <= of("tpot_ratio", 1) && of("tpot_ratio", 1) <= of("tpot_ratio_high", 1));
    assert!(of("control_tpot_ratio", 0) > 0.0 && of("tpot_ratio", 2) > 0.0);
    assert_eq!(column(&results, "first_depth_tokens")[0], "34", "the step after the prompt's 32 tokens does not count");
    assert_eq!(column(&results, "last_depth_tokens")[0], "40");
    // Two layers, two KV heads of 32 values and as many: f16 keys and values of 34 to 40 tokens.
    assert!(of("read_bytes", 0) > 0.0 && of("read_bytes", 0) == of("read_bytes", 1));
    assert_eq!(column(&results, "residency")[0], "resident", "a small model");

    let markdown = text(&output.stdout);
    assert!(
        markdown.contains(r"| same\|one |") && markdown.contains("| :-- |") && markdown.contains("Noise floor, decode at 32"),
        "{markdown}"
    );
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("run.json")).unwrap()).unwrap();
    assert!(record["order_seed"].is_u64() && record["margin"] == 0.03);
    let facts = record["environment"]["facts"].to_string();
    assert!(facts.contains("2 MiB are asked for (advise)"), "{facts}");

    // The table of a stored run is the same.
    let again = run(&["report", out.to_str().unwrap(), "--format", "markdown"]);
    // Behind the tables are the answer and the times of the run.
    let tables = |text: &str| text.lines().filter(|line| line.starts_with('|')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(tables(&text(&again.stdout)), tables(&markdown));
}

#[test]
fn what_cannot_be_compared_is_refused_with_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |changed: &str, expected: &[&str]| {
        let config = config(folder.path(), changed);
        let output = run(&["run", &config, "--out", folder.path().join("report").to_str().unwrap()]);
        let message = words(&text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{message}");
        for part in expected {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(!folder.path().join("report").exists());
    };
    refused(&format!("{CONFIG}baseline = true\n"), &["the baseline `naive` recomputes", "mark another one (same two, same|one)"]);
    refused(&CONFIG.replace("rounds = 2", "rounds = 5"), &["`rounds` is 5: with 8 `decode_steps` it must be 1 to 4"]);
    refused(&CONFIG.replace("rounds = 2", "rounds = 0"), &["`rounds` is 0"]);
    refused(&CONFIG.replace("rounds = 2", "margin = 0.0"), &["`margin` is 0", "0.03 is 3 %"]);
    refused(&CONFIG.replace("rounds = 2", "margin = nan"), &["`margin` is NaN"]);
    refused(&CONFIG.replace("rounds = 2", "huge_pages = 'always'"), &["huge_pages", "advise", "never", "system"]);
}

#[test]
fn few_launches_give_ratios_without_a_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), &CONFIG.replace("launches = 3", "launches = 2"));
    let out = folder.path().join("report");
    let output = run(&["run", &config, "--unchecked", "--out", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let metrics = table(&out.join("metrics.csv"));
    let names = column(&metrics, "metric");
    let ratio = names.iter().position(|name| name == "tpot_ratio").unwrap();
    assert!(column(&metrics, "reason")[ratio].contains("too few launches for a verdict: 2"), "{:?}", metrics[ratio + 1]);
    assert_eq!((&metrics[ratio + 1][10], &metrics[ratio + 1][13]), ("", ""), "neither an interval nor a verdict");
}

#[test]
fn the_doctor_says_what_is_unknown_and_why() {
    let output = runner(&["doctor"]).output().unwrap();
    let text = text(&output.stdout);
    assert!(output.status.success() && text.contains("huge pages of the system") && text.contains("runner calibrate"), "{text}");
    assert!(text.lines().filter(|line| line.contains("unknown:")).all(|line| !line.trim_end().ends_with("unknown:")), "{text}");
}

#[test]
fn a_calibration_states_the_smallest_effect() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), CONFIG);
    let out = folder.path().join("calibration");
    let output = run(&["calibrate", &config, "--launches", "3", "--minutes", "7", "--out", out.to_str().unwrap()]);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(shown.contains("decode at 32: ratios of the same to itself spread by") && shown.contains("in 7 min"), "{shown}");
    for (arguments, expected) in [(["--launches", "2"], "3 or more are needed"), (["--minutes", "0"], "must be more than 0")] {
        let output = run(&["calibrate", arguments[0], arguments[1]]);
        assert_eq!(output.status.code(), Some(1));
        assert!(words(&text(&output.stderr)).contains(expected));
    }
}
