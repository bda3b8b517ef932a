//! Speculative decoding with a simulated draft.

use super::swept::{Row, sweep, table};
use crate::{text, words};

fn config(keys: &str) -> String {
    let strategies = [
        ("f32", "contiguous", ""),
        ("paged", "paged", "block_size = 4"),
        ("naive", "naive", ""),
        ("q8_0", "quantized", "format = 'q8_0'"),
        ("q4_0", "quantized", "format = 'q4_0'"),
        ("window", "sliding", "window = 16, sinks = 0"),
    ];
    let of = |(label, strategy, config): (&str, &str, &str)| {
        format!("[[strategy]]\nlabel = '{label}'\nuse = '{strategy}'\nconfig = {{ {config} }}\n")
    };
    format!(
        "[model]\npreset = 'tiny'\nlayers = 2\n[sweep]\nworkloads = ['speculative']\nprefill_chunk = 16\nlaunches = 2\n[speculative]\n{keys}\n{}",
        strategies.map(of).concat()
    )
}

#[test]
fn drafts_write_the_same_text_and_what_cannot_take_back_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let keys = "prompt = 24\ntokens = 12\ndraft = [1, 3]\nacceptance = [0.0, 0.5, 1.0]";
    let output = sweep(folder.path(), &config(keys), &[]);
    assert!(output.status.success(), "what is not supported is no failure: {}", text(&output.stderr));
    let report = folder.path().join("report");
    let (rows, points) = (table(&report.join("results.csv")), table(&report.join("workload.csv")));
    let value = |label: &str, variant: &str, metric: &str, at: &str| -> f64 {
        let is_it = |row: &&Row| row["label"] == label && row["variant"] == variant && row["metric"] == metric && row["at"] == at;
        points.iter().find(is_it).unwrap_or_else(|| panic!("{label} has no {metric} at {at} with {variant}"))["value"].parse().unwrap()
    };
    for label in ["f32", "paged", "naive"] {
        let row = rows.iter().find(|row| row["label"] == label).unwrap();
        assert_eq!((row["status"].as_str(), row["first_difference_tokens"].as_str()), ("ok", ""), "{label}");
        for (draft, longest) in [("1", 2.0), ("3", 4.0)] {
            assert_eq!([value(label, "p = 1", "accepted_share", draft), value(label, "p = 1", "tokens_per_step", draft)], [1.0, longest]);
            assert_eq!([value(label, "p = 0", "accepted_share", draft), value(label, "p = 0", "tokens_per_step", draft)], [0.0, 1.0]);
            for variant in ["p = 0", "p = 0.5", "p = 1"] {
                assert!(value(label, variant, "cost_ms", draft) > 0.0 && value(label, variant, "speedup", draft) > 0.0);
            }
        }
        assert!(value(label, "plain", "cost_ms", "0") > 0.0);
    }
    let lossy = rows.iter().find(|row| row["label"] == "q4_0").unwrap();
    let difference = lossy["first_difference_tokens"].parse::<usize>().unwrap();
    assert!((1..13).contains(&difference), "the rows of a draft are read unrounded: {difference}");
    assert!(lossy["notes"].contains(&format!("its text differs from plain decoding's after {difference} tokens")), "{lossy:?}");
    let window = rows.iter().find(|row| row["label"] == "window").unwrap();
    assert_eq!(window["status"], "not supported");
    assert!(window["error"].contains("`sliding` does not support truncate") && window["error"].contains("were evicted"), "{window:?}");
    let page = std::fs::read_to_string(report.join("index.html")).unwrap();
    assert!(page.contains("(the draft&#39;s own cost not included)") || page.contains("(the draft's own cost not included)"));
    assert!(page.contains("speculative: window was not measured (not supported"));
    assert!(report.join("speculative-speedup.png").exists());
}

#[test]
fn impossible_drafts_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (keys, expected) in [
        ("draft = [0]", "in [speculative], `draft` must name at least one number of tokens, and none of 0"),
        ("acceptance = [1.2]", "in [speculative], `acceptance` has 1.2: a probability is 0 to 1"),
        ("acceptance = [-0.5]", "in [speculative], `acceptance` has -0.5: a probability is 0 to 1"),
        ("prompt = 20000", "the workload `speculative` needs 20072 positions, and the model's context is 16384"),
        ("k = 4", "unknown field `k`"),
    ] {
        let output = sweep(folder.path(), &config(keys), &["--dry-run"]);
        let error = words(&text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{keys}: {error}");
        assert!(error.contains(expected), "{keys}: {error}");
    }
}
