//! Caches alone, without a model.

use workspace_tests::chain::Chain;

use super::swept::{sweep, table};
use crate::{run, text, words};

/// A shape with a context of 8192 tokens; 2 of its 30 layers are measured.
fn config(model: &str, sweep: &str) -> String {
    format!(
        "[model]\npreset = 'smollm2-135m'\n{model}\n[sweep]\nlevel = 'attention'\ndecode_steps = 4\nlaunches = 1\n{sweep}\n\
         [[strategy]]\nlabel = 'f16'\nuse = 'contiguous'\nconfig = {{ format = 'f16' }}\n\
         [[strategy]]\nlabel = 'q8_0'\nuse = 'quantized'\nconfig = {{ format = 'q8_0' }}\n\
         [[strategy]]\nlabel = 'naive'\nuse = 'naive'\nmax_length = 64\n"
    )
}

#[test]
fn caches_are_measured_beyond_the_models_context_and_some_layers_stand_for_all() {
    let (part, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let lengths = "lengths = [64, 8190]\nseed = 9";
    let output = sweep(part.path(), &config("layers = 2", lengths), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows = table(&part.path().join("report/results.csv"));
    assert_eq!(rows.len(), 5, "naive is left out at the longer length: {rows:?}");
    for row in &rows {
        let notes = &row["notes"];
        assert!(notes.contains("attention level: no model; rows generated with seed 9"), "{notes}");
        assert!(notes.contains("2 of 30 layers were measured; times and bytes are scaled by 15"), "{notes}");
        assert_eq!(notes.contains("beyond the model's context of 8192 tokens"), row["seq_len"] == "8190", "{notes}");
        for absent in ["ttft_ms", "model_ms_p50", "model_bytes", "model_ratio", "tokens_per_s"] {
            assert_eq!(row[absent], "", "{absent}");
        }
        assert_eq!((row["fill"].as_str(), row["model"].as_str()), ("generated", "smollm2-135m (shape alone)"));
        let number = |name: &str| row[name].parse::<f64>().unwrap();
        assert!(number("tpot_ms_p50") >= number("cache_ms_p50") && number("cache_ms_p50") > 0.0, "{row:?}");
        // A step is the cache's part and the way to it, and both are scaled.
        assert!(number("tpot_ms_p50") <= 1.5 * (number("cache_ms_p50") + number("seam_ms_p50")), "{row:?}");
    }
    let page = std::fs::read_to_string(part.path().join("report/index.html")).unwrap();
    assert!(page.contains("attention level: no model; rows generated with seed 9; 2 of 30 layers were measured"));
    assert!(text(&output.stdout).contains("attention level: no model"), "{}", text(&output.stdout));

    // What is measured of all layers is what two of them were scaled to.
    let output = sweep(whole.path(), &config("", "lengths = [64]\nseed = 9"), &["--only", "[fq]*"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for row in table(&whole.path().join("report/results.csv")) {
        let scaled = rows.iter().find(|other| other["label"] == row["label"] && other["seq_len"] == "64").unwrap();
        for bytes in ["payload_bytes", "read_bytes"] {
            assert_eq!(row[bytes], scaled[bytes], "{} of {}", bytes, row["label"]);
        }
        assert!(!row["notes"].contains("layers"), "{}", row["notes"]);
    }
}

#[test]
fn batches_tokens_one_by_one_and_the_time_to_first_token_are_measured_without_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let sweeps = "lengths = [48]\nbatch = [1, 3]\nworkloads = ['decode', 'generate']\nttft = true";
    let output = sweep(folder.path(), &config("layers = 1", sweeps), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows = table(&folder.path().join("report/results.csv"));
    assert_eq!(rows.len(), 3 * 2 * 2);
    for row in rows {
        assert_eq!((row["status"].as_str(), row["ttft_source"].as_str()), ("ok", "cache"));
        let ttft: f64 = row["ttft_ms"].parse().unwrap();
        assert!(ttft > 0.0);
        let seen: usize = row["seen_tokens"].parse().unwrap();
        assert_eq!(seen, 48 * row["batch"].parse::<usize>().unwrap(), "{row:?}");
    }
    let again = run(&["report", folder.path().join("report").to_str().unwrap()]);
    assert!(again.status.success(), "{}", text(&again.stderr));
}

#[test]
fn a_plan_without_a_model_says_what_it_takes_and_refuses_what_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let output = sweep(folder.path(), &config("layers = 2", "lengths = [100_000]"), &["--dry-run"]);
    let listing = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(listing.contains("decode at 100000") && !listing.contains("recorded") && !listing.contains("weights"), "{listing}");

    let large = config("layers = 30", "lengths = [64, 1_000_000]\nmemory_limit = '1 GiB'");
    let output = sweep(folder.path(), &large, &["--dry-run"]);
    let listing = text(&output.stdout);
    // 1000004 tokens of 30 layers, 3 KV heads and 128 numbers in f16, or up to twice as many.
    assert!(listing.contains("not measured: f16 at 1000000: it needs "), "{listing}");
    assert!(listing.contains(" of memory, and 1.0 GiB are free for a worker (`memory_limit`)"), "{listing}");
}

#[test]
fn what_is_about_a_model_is_refused_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let lengths = "lengths = [64]";
    let fill = format!("{lengths}\nfill = 'prefill'");
    for (config, arguments, expected) in [
        (config("weights = 'q8_0'", lengths), &[][..], "`weights` in [model] is about weights, and `level = \"attention\"` has none"),
        (config("layers = 31", lengths), &[], "how many of the 30 layers of `smollm2-135m` are measured, 1 to 30"),
        (config("", &fill), &[], "`fill` says what becomes of a model's prompts, and `level = \"attention\"` feeds caches with rows alone"),
        (config("", lengths), &["--pages", "ordinary"], "`--pages` is about the model's weights"),
        (config("", "lengths = [9223372036854775000]"), &[], "impossible lengths"),
        (config("", lengths).replace("'attention'", "'attentive'"), &[], "attentive"),
        (
            config("", "lengths = [8190]").replace("level = 'attention'", ""),
            &[],
            "`level = \"attention\"` with a `preset` of random weights measures caches alone",
        ),
    ] {
        let output = sweep(folder.path(), &config, arguments);
        let error = words(&text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

/// A peer's times have a model in them.
#[test]
fn peers_are_not_drawn_beside_caches_alone() {
    let folder = tempfile::tempdir().unwrap();
    let output = sweep(folder.path(), &config("layers = 1", "lengths = [16]"), &["--only", "f16"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let peers = folder.path().join("peers.csv");
    std::fs::write(&peers, "peer,seq_len,tpot_ms_p50,ttft_ms\nother,16,1.0,2.0\n").unwrap();
    let output = run(&["report", folder.path().join("report").to_str().unwrap(), "--peer", peers.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&text(&output.stderr)).contains("has times of caches alone"), "{}", text(&output.stderr));
}

/// The rows of a model that was loaded are the model's own, so its context is a limit.
#[test]
fn a_models_rows_are_recorded_and_feed_caches_alone() {
    let folder = tempfile::tempdir().unwrap();
    Chain::new(300).then(&[1, 2, 3]).write(folder.path());
    let of_model = |sweep: &str| config("", sweep).replace("preset = 'smollm2-135m'", "hugging_face = '.'");
    let output = sweep(
        folder.path(),
        &of_model("lengths = [20, 64]\nprefill_chunk = 16\nworkloads = ['decode', 'generate']\nttft = true\nseed = 3"),
        &[],
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows = table(&folder.path().join("report/results.csv"));
    assert_eq!(rows.len(), 3 * 2 * 2);
    for row in &rows {
        let notes = &row["notes"];
        assert!(
            notes.contains("attention level: caches alone; rows recorded from") && notes.contains("random tokens of seed 3"),
            "{notes}"
        );
        let fill = if row["workload"] == "decode" { "replay" } else { "steps" };
        assert_eq!((row["fill"].as_str(), row["ttft_source"].as_str(), row["status"].as_str()), (fill, "cache", "ok"), "{row:?}");
        for absent in ["model_ms_p50", "ttft_real_ms", "model_bytes", "tokens_per_s"] {
            assert_eq!(row[absent], "", "{absent}");
        }
        let number = |name: &str| row[name].parse::<f64>().unwrap();
        assert!(number("tpot_ms_p50") >= number("cache_ms_p50") && number("heap_live_bytes") > 0.0, "{row:?}");
        assert!(!notes.contains("ledger"), "{notes}");
    }
    let output = sweep(folder.path(), &of_model("lengths = [510]"), &["--dry-run"]);
    let error = words(&text(&output.stderr));
    assert!(error.contains("length 510 with 4 decode steps needs 514 positions, and the model's context is 512"), "{error}");
    let output = sweep(folder.path(), &of_model("lengths = [500]").replace("'.'", "'.'\nlayers = 1"), &["--dry-run"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
}
