//! `import`: another engine's measurements, drawn beside kvlab's.

use std::fs;

use crate::{run, text, words};

/// Two tests as llama-bench writes them.
fn tests() -> String {
    let test = |fields: &str| {
        format!(
            "{{\"build_commit\": \"8cf427ff\", \"build_number\": 5163, \"model_type\": \"llama 1B Q4_0\", \"type_k\": \"f16\", \"type_v\": \"f16\", {fields}}}\n"
        )
    };
    test("\"n_prompt\": 16, \"n_gen\": 0, \"n_depth\": 0, \"avg_ns\": 5000000, \"samples_ns\": [4000000, 5000000, 9000000]")
        + &test("\"n_prompt\": 0, \"n_gen\": 32, \"n_depth\": 16, \"avg_ns\": 64000000")
}

#[test]
fn what_llama_bench_writes_can_be_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("bench.jsonl"), tests()).unwrap();
    let output = run(&["import", "llama-bench", &path("bench.jsonl"), "--out", &path("peers.csv")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let csv = fs::read_to_string(path("peers.csv")).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    let of = |rest: &str| format!("\"llama.cpp b5163 llama 1B Q4_0, cache f16\",decode,16,1,{rest}");
    assert_eq!(lines[0], "label,workload,seq_len,batch,metric,unit,value,interval_low,interval_high");
    assert_eq!(lines[1..], [of("ttft_ms,ms,5,,"), of("tpot_ms_p50,ms,2,,")]);
    assert_eq!(text(&run(&["import", "llama-bench", &path("bench.jsonl")]).stdout), csv);
    let arguments = ["bench-configs/smoke.toml", "--unchecked", "--only", "contiguous", "--out", &path("report")];
    assert!(run(&arguments).status.success());
    let output = run(&["report", &path("report"), "--peer", &path("peers.csv")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(fs::read_to_string(path("report/index.html")).unwrap().contains("llama.cpp b5163"));
}

#[test]
fn other_files_are_refused_with_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bench");
    for (content, expected) in
        [("| model |", "it is a table in Markdown"), ("{\"n_prompt\": 1}", "missing field `n_gen`"), ("", "it is empty")]
    {
        fs::write(&path, content).unwrap();
        let output = run(&["import", "llama-bench", path.to_str().unwrap()]);
        let message = words(&text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains(expected) && message.contains("`llama-bench -o json > FILE`"), "{message}");
    }
    let output = run(&["import", "llama-bench", "no-such-file"]);
    assert!(words(&text(&output.stderr)).contains("cannot import `no-such-file`"));
    assert_eq!(run(&["import", "vllm", "file"]).status.code(), Some(1));
}
