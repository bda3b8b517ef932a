//! What llama.cpp's `llama-bench` writes as JSON and JSON lines, as measurements of a peer.
//!
//! The fields are those of llama.cpp's tools/llama-bench/README.md. A test with `n_prompt` alone times a prompt, one with `n_gen`
//! alone times generated tokens after `n_depth` others.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::{Peer, ReportError};

/// The measurements of a file, and what of it is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The measurements, in the order of their names and lengths.
    pub peers: Vec<Peer>,
    /// What was left out, in sentences.
    pub left_out: Vec<String>,
}

/// A test, as llama-bench writes it.
#[derive(Debug, Deserialize)]
struct Test {
    n_prompt: u64,
    n_gen: u64,
    /// Versions before April 2025 have none.
    #[serde(default)]
    n_depth: u64,
    avg_ns: f64,
    /// Times of the repetitions.
    #[serde(default)]
    samples_ns: Vec<f64>,
    model_type: String,
    build_number: Option<u64>,
    build_commit: Option<String>,
    #[serde(default)]
    type_k: String,
    #[serde(default)]
    type_v: String,
    /// Everything else: the machine, and how the test was run.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// What differs from test to test and is no setting.
const RESULTS: [&str; 5] = ["test_time", "stddev_ns", "avg_ts", "stddev_ts", "samples_ts"];

/// A prompt's time or a token's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Prompt,
    Token,
}

/// Reads a file of `llama-bench -o json` or `-o jsonl`. Times are medians of the repetitions. Tests that were run again add
/// theirs.
///
/// The time per token is the mean over the `n_gen` tokens of a test, and is given for `n_depth`, the length of the text before
/// them, as kvlab's is. Where that is 0, the text grows from nothing: the mean is that of its middle, `n_gen / 2`. The time of a
/// prompt is given for `n_prompt`. A prompt after other tokens, and tests of both, are no time of either, and are left out.
///
/// # Errors
/// [`ReportError::LlamaBench`] says what the file is instead, or which test lacks what.
pub fn llama_bench(file: &[u8]) -> Result<Imported, ReportError> {
    let tests = tests(file)?;
    let names = names(&tests);
    let mut times: BTreeMap<(String, u64, Kind), Vec<f64>> = BTreeMap::new();
    let mut left_out = vec![];
    for (index, (test, name)) in tests.iter().zip(&names).enumerate() {
        let Test { n_prompt, n_gen, n_depth, avg_ns, samples_ns, .. } = test;
        let wrong = |what: &str| Err(ReportError::LlamaBench(format!("test {} {what}", index + 1)));
        let samples = if samples_ns.is_empty() { vec![*avg_ns] } else { samples_ns.clone() };
        if samples.iter().any(|ns| !(ns.is_finite() && *ns > 0.0)) {
            return wrong("has a time that is not positive");
        }
        let (length, kind, tokens) = match (n_prompt, n_gen, n_depth) {
            (0, 0, _) => return wrong("has neither `n_prompt` nor `n_gen`"),
            (_, 0, 0) => (*n_prompt, Kind::Prompt, 1),
            (0, _, 0) => ((n_gen / 2).max(1), Kind::Token, *n_gen),
            (0, _, _) => (*n_depth, Kind::Token, *n_gen),
            (_, 0, _) => {
                left_out.push(format!("a prompt of {n_prompt} tokens after {n_depth} others is no time to first token of either length"));
                continue;
            }
            _ => {
                left_out.push(format!("a prompt of {n_prompt} tokens and {n_gen} generated ones in one time are neither"));
                continue;
            }
        };
        let milliseconds = samples.iter().map(|ns| ns / 1e6 / tokens as f64);
        times.entry((name.clone(), length, kind)).or_default().extend(milliseconds);
    }
    if times.is_empty() {
        return Err(ReportError::LlamaBench("it has no test of a prompt (`-p`) or of generated tokens (`-n`) alone".into()));
    }
    let peer = |((name, length, kind), samples): ((String, u64, Kind), Vec<f64>)| {
        let seq_len = usize::try_from(length).map_err(|_| ReportError::LlamaBench(format!("{length} tokens are no length")))?;
        let metric = match kind {
            Kind::Prompt => "ttft_ms",
            Kind::Token => "tpot_ms_p50",
        };
        Ok(Peer { peer: name, seq_len, metric, value: median(samples), interval: None })
    };
    Ok(Imported { peers: times.into_iter().map(peer).collect::<Result<_, ReportError>>()?, left_out })
}

fn tests(file: &[u8]) -> Result<Vec<Test>, ReportError> {
    let text = std::str::from_utf8(file).map_err(|_| ReportError::LlamaBench("it is no text".into()))?;
    let begins = text.trim_start();
    let instead = match begins.chars().next() {
        None => Some("it is empty"),
        Some('|') => Some("it is a table in Markdown"),
        Some('[' | '{') => None,
        Some(_) if begins.starts_with("CREATE TABLE") => Some("it is SQL"),
        Some(_) if begins.starts_with("build_commit,") => Some("it is CSV"),
        Some(_) => Some("it is no JSON"),
    };
    if let Some(instead) = instead {
        return Err(ReportError::LlamaBench(instead.into()));
    }
    let values: Result<Vec<Value>, serde_json::Error> =
        if begins.starts_with('[') { serde_json::from_str(text) } else { serde_json::Deserializer::from_str(text).into_iter().collect() };
    let values = values.map_err(|error| ReportError::LlamaBench(format!("it is no whole JSON: {error}")))?;
    let test = |(index, value): (usize, Value)| {
        serde_json::from_value(value).map_err(|error| ReportError::LlamaBench(format!("test {}: {error}", index + 1)))
    };
    values.into_iter().enumerate().map(test).collect()
}

/// The names of the tests: version, model and cache formats, and the settings that are not the same in all tests.
fn names(tests: &[Test]) -> Vec<String> {
    let settings: BTreeSet<&str> = tests.iter().flat_map(|test| test.others.keys()).map(String::as_str).collect();
    let varies = |key: &&str| !RESULTS.contains(key) && tests.iter().any(|test| test.others.get(*key) != tests[0].others.get(*key));
    let varying: Vec<&str> = settings.into_iter().filter(varies).collect();
    let name = |test: &Test| {
        let version =
            test.build_number.map(|number| format!(" b{number}")).or(test.build_commit.as_ref().map(|commit| format!(" {commit}")));
        let cache = match (test.type_k.as_str(), test.type_v.as_str()) {
            ("", "") => String::new(),
            (keys, values) if keys == values => format!(", cache {keys}"),
            (keys, values) => format!(", cache {keys}/{values}"),
        };
        let shown = |key: &&str| {
            let value =
                test.others.get(*key).map_or("-".to_owned(), |value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            format!(", {key} {value}")
        };
        format!("llama.cpp{} {}{cache}{}", version.unwrap_or_default(), test.model_type, varying.iter().map(shown).collect::<String>())
    };
    tests.iter().map(name).collect()
}

/// The middle of some samples, at least one.
fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    let middle = samples.len() / 2;
    if samples.len() % 2 == 1 { samples[middle] } else { (samples[middle - 1] + samples[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test as llama-bench writes it, with these fields in place of its own.
    fn test(fields: &str) -> String {
        let mut test: Value = serde_json::from_str(
            r#"{"build_commit": "8cf427ff", "build_number": 5163, "cpu_info": "a CPU", "gpu_info": "", "backends": "CPU",
                "model_filename": "models/m.gguf", "model_type": "llama 1B Q4_0", "model_size": 637699456, "model_n_params": 1100048384,
                "n_batch": 2048, "n_ubatch": 512, "n_threads": 8, "cpu_mask": "0x0", "type_k": "f16", "type_v": "f16",
                "flash_attn": false, "n_prompt": 0, "n_gen": 0, "n_depth": 0, "test_time": "2025-04-24T11:58:50Z",
                "avg_ns": 2000000, "stddev_ns": 1, "avg_ts": 1.5, "stddev_ts": 0.1, "samples_ns": [], "samples_ts": []}"#,
        )
        .unwrap();
        let fields: Value = serde_json::from_str(&format!("{{{fields}}}")).unwrap();
        fields.as_object().unwrap().iter().for_each(|(key, value)| test[key] = value.clone());
        test.to_string()
    }

    fn peers(file: &str) -> Vec<(String, usize, &'static str, f64)> {
        let imported = llama_bench(file.as_bytes()).unwrap();
        imported.peers.into_iter().map(|peer| (peer.peer, peer.seq_len, peer.metric, peer.value)).collect()
    }

    #[test]
    fn prompts_and_tokens_become_times_at_lengths() {
        let tests = [
            test(r#""n_prompt": 512, "samples_ns": [74000000, 71000000, 90000000]"#),
            test(r#""n_gen": 32, "n_depth": 512, "samples_ns": [320000000, 64000000, 96000000, 128000000]"#),
            test(r#""n_gen": 128, "avg_ns": 1280000000"#),
        ];
        let name = "llama.cpp b5163 llama 1B Q4_0, cache f16".to_owned();
        let expected = [(name.clone(), 64, "tpot_ms_p50", 10.0), (name.clone(), 512, "ttft_ms", 74.0), (name, 512, "tpot_ms_p50", 3.5)];
        assert_eq!(peers(&format!("[{}]", tests.join(",\n"))), expected, "JSON");
        assert_eq!(peers(&(tests.join("\n") + "\n")), expected, "JSON lines");
    }

    #[test]
    fn settings_that_differ_are_in_the_names_and_tests_that_were_run_again_are_one() {
        let with = |fields: &str| test(&format!("\"n_gen\": 10, \"n_depth\": 64, {fields}"));
        let tests = [
            with(r#""n_threads": 1, "avg_ns": 10000000, "test_time": "now""#),
            with(r#""n_threads": 2, "avg_ns": 20000000"#),
            with(r#""n_threads": 2, "avg_ns": 40000000, "type_v": "q8_0""#),
            with(r#""n_threads": 1, "avg_ns": 30000000"#),
        ];
        let found = peers(&tests.join("\n"));
        let names: Vec<&str> = found.iter().map(|(name, ..)| name.trim_start_matches("llama.cpp b5163 llama 1B Q4_0, cache ")).collect();
        assert_eq!(names, ["f16, n_threads 1", "f16, n_threads 2", "f16/q8_0, n_threads 2"]);
        assert_eq!(found.iter().map(|(.., tpot)| *tpot).collect::<Vec<_>>(), [2.0, 2.0, 4.0]);
    }

    #[test]
    fn what_is_no_time_of_a_length_is_left_out_and_told() {
        let tests = [test(r#""n_prompt": 512"#), test(r#""n_prompt": 512, "n_depth": 1024"#), test(r#""n_prompt": 512, "n_gen": 128"#)];
        let imported = llama_bench(tests.join("\n").as_bytes()).unwrap();
        assert_eq!((imported.peers.len(), imported.left_out.len()), (1, 2), "{imported:?}");
        assert!(imported.left_out[0].contains("512 tokens after 1024"), "{imported:?}");
        let error = llama_bench(tests[2].as_bytes()).unwrap_err();
        assert!(error.to_string().contains("no test of a prompt"), "{error}");
    }

    #[test]
    fn other_files_are_refused_by_what_they_are() {
        let without = |field: &str| {
            let mut value: Value = serde_json::from_str(&test(r#""n_gen": 1"#)).unwrap();
            value.as_object_mut().unwrap().remove(field);
            value.to_string()
        };
        for (file, expected) in [
            (String::new(), "it is empty"),
            ("| model | size |".into(), "Markdown"),
            ("build_commit,build_number\n".into(), "CSV"),
            ("CREATE TABLE IF NOT EXISTS llama_bench (".into(), "SQL"),
            ("error: no model".into(), "no JSON"),
            ("[".into(), "no whole JSON: EOF"),
            (format!("[{}", test(r#""n_gen": 1"#)), "no whole JSON: EOF"),
            ("{\"a\": 1}".into(), "test 1: missing field `n_prompt`"),
            (without("n_gen"), "missing field `n_gen`"),
            (without("model_type"), "missing field `model_type`"),
            (test(""), "test 1 has neither"),
            (test(r#""n_gen": 1, "avg_ns": 0"#), "test 1 has a time that is not positive"),
            (test(r#""n_gen": "many""#), "test 1: invalid type"),
        ] {
            let error = llama_bench(file.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{file}: {error}");
        }
        assert!(llama_bench(b"[\xff]").unwrap_err().to_string().contains("no text"));
    }
}
