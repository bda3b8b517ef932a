//! The memory ledger of a run.

use super::swept::{Row, number, sweep, table};
use crate::text;

/// The rows of a run of this config, by label and length.
fn rows(config: &str) -> Vec<Row> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let output = sweep(folder.path(), config, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("Memory ledger\n\nlabel"), "one workload needs no column: {}", text(&output.stdout));
    let rows = table(&out.join("results.csv"));
    agree_with_the_text(&rows, &table(&out.join("text.csv")));
    rows
}

/// The heap at the end of a text that was followed is that of the ledger, however the tokens came.
fn agree_with_the_text(rows: &[Row], text: &[Row]) {
    let mut followed = 0;
    for row in rows {
        let is_at_its_end = |point: &&Row| point["cell"] == row["cell"] && point["tokens"] == row["seq_len"];
        if let Some(end) = text.iter().find(is_at_its_end) {
            followed += 1;
            let (along, ledger) = (number(end, "heap_bytes"), number(row, "heap_live_bytes"));
            assert!((along - ledger).abs() <= 64.0, "{}: {along} bytes along the text, and {ledger} in the ledger", row["label"]);
        }
    }
    assert!(followed > 0);
}

const STRATEGIES: &str = "
[[strategy]]
label = 'doubling'
use = 'contiguous'
config = { format = 'f16' }
[[strategy]]
label = 'concat'
use = 'contiguous'
config = { growth = 'concat' }
[[strategy]]
label = 'reserved'
use = 'contiguous'
config = { growth = { reserve = 2048 } }
[[strategy]]
label = 'paged'
use = 'paged'
config = { format = 'q8_0' }
[[strategy]]
label = 'window'
use = 'sliding'
config = { window = 100, sinks = 4 }
[[strategy]]
label = 'kivi2'
use = 'quantized'
config = { format = 'kivi2', residual = 64 }
[[strategy]]
label = 'naive'
use = 'naive'
";

/// At lengths around those at which buffers double, for one sequence and two.
#[test]
fn every_level_agrees_for_every_strategy() {
    let sweep = "lengths = [511, 513, 1024]\nbatch = [1, 2]\ndecode_steps = 3\nlaunches = 1\nttft = false\nprefill_chunk = 200";
    let rows = rows(&format!("[model]\npreset = 'tiny'\nlayers = 2\n[sweep]\n{sweep}\n{STRATEGIES}"));
    assert_eq!(rows.len(), 7 * 3 * 2);
    for row in &rows {
        let what = format!("{} at {} ×{}: {}", row["label"], row["seq_len"], row["batch"], row["notes"]);
        assert!(!row["notes"].contains("ledger:"), "{what}");
        assert_eq!(number(row, "formula_residual_bytes"), 0.0, "{what}");
        assert!(number(row, "ledger_residual_bytes").abs() <= 4096.0, "{what}");
        assert!(number(row, "rss_residual_bytes").abs() <= (1 << 20) as f64, "{what}");
        let tokens = number(row, "seq_len") * number(row, "batch");
        assert_eq!(number(row, "seen_tokens"), tokens, "bytes are counted at exactly this length: {what}");
        assert_eq!(number(row, "heap_closed_bytes") < 4096.0, row["label"] != "paged", "only a pool keeps its pages: {what}");
        let followed = row["seq_len"] == "1024" && row["batch"] == "1" && row["label"] != "naive";
        assert_eq!(!row["heap_slope"].is_empty(), followed, "{what}");
    }
    let of = |label: &str, length: &str| rows.iter().find(|row| row["label"] == label && row["seq_len"] == length).unwrap();
    // A token's keys and values of two layers, 2 heads of 32 each.
    let row_values = 2.0 * 2.0 * 2.0 * 32.0;
    // Concatenation holds what is there and nothing more, and makes a layer's copy at every step.
    assert_eq!(number(of("concat", "1024"), "slack_bytes"), 0.0);
    let copy = number(of("concat", "1024"), "transient_peak_decode_bytes");
    let layer = 1024.0 * row_values * 4.0 / 2.0;
    assert!((layer..1.5 * layer).contains(&copy), "{copy} for a layer of {layer} bytes");
    // So it does in a prefill: of the layer's tokens after a chunk, beside those before it.
    let copy = number(of("concat", "1024"), "transient_peak_prefill_bytes");
    assert!((0.8 * layer..1.5 * layer).contains(&copy), "{copy} for a layer of {layer} bytes");
    // The last step of a prompt has scratch for its queries, which does not depend on what is stored of it.
    let scratch = |label: &str| number(of(label, "511"), "transient_peak_prefill_bytes");
    let ratio = scratch("doubling") / scratch("reserved");
    // Each thread that takes part has some of its own.
    assert!((0.3..3.0).contains(&ratio), "{} and {}", scratch("doubling"), scratch("reserved"));
    // Doubling is exact at a power of two, and has room for as many tokens just after it.
    assert_eq!(number(of("doubling", "1024"), "slack_bytes"), 0.0);
    assert_eq!(number(of("doubling", "513"), "slack_bytes"), (1024.0 - 513.0) * row_values * 2.0);
    // A pool gives its pages to a fork, and copies only the one that is written to.
    assert!(number(of("paged", "1024"), "fork_bytes") < 4096.0);
    // What two sequences share is f32 or codes of whole pages; a batch that was not forked shares nothing.
    assert!(number(of("paged", "1024"), "fork_shared_bytes") > 0.0);
    assert_eq!(number(of("paged", "1024"), "shared_bytes"), 0.0);
    assert!((number(of("concat", "1024"), "sequence_bytes") / (1024.0 * row_values * 4.0) - 1.0).abs() < 0.01);
    assert!(number(of("concat", "1024"), "fork_bytes") >= 1024.0 * row_values * 4.0);
    // What grows along the text: all of an exact cache, nothing of a full window.
    let slope = number(of("concat", "1024"), "heap_slope");
    assert!((slope / (row_values * 4.0) - 1.0).abs() < 0.01, "{slope}");
}

#[test]
fn a_config_that_only_generates_is_followed_along_the_text() {
    let sweep = "lengths = [64, 200]\nworkloads = ['generate']\nlaunches = 1";
    let rows = rows(&format!("[model]\npreset = 'tiny'\nlayers = 1\n[sweep]\n{sweep}\n{STRATEGIES}"));
    for row in &rows {
        assert_eq!(!row["heap_slope"].is_empty(), row["seq_len"] == "200" && row["label"] != "naive", "{row:?}");
    }
}

/// ggml's formats, and a published figure: 131,072 bytes per token of Llama-3-8B in f16.
#[test]
fn bits_and_bytes_are_those_of_the_formats() {
    let mut config =
        "[model]\npreset = 'llama-3-8b'\nlayers = 2\n[sweep]\nlevel = 'attention'\nlengths = [4096]\ndecode_steps = 2\nlaunches = 1\n"
            .to_owned();
    for format in ["f16", "q8_0", "q4_0", "q4_1"] {
        config += &format!("[[strategy]]\nlabel = '{format}'\nuse = 'contiguous'\nconfig = {{ format = '{format}' }}\n");
    }
    let rows = rows(&config);
    let tokens = 4096.0;
    // Values of a token in all 32 layers: 8 heads of 128, for keys and for values.
    let values = 32.0 * 8.0 * 256.0;
    for (row, bits) in rows.iter().zip([16.0, 8.5, 4.5, 5.0]) {
        let heap = number(row, "heap_live_bytes");
        // Beside codes and scales a cache holds some hundred bytes of tables for each layer.
        let beside = heap - tokens * values * bits / 8.0;
        assert!((0.0..32.0 * 4096.0).contains(&beside), "{}: {heap} bytes, {beside} beside {bits} bits per value", row["label"]);
        assert!((number(row, "effective_bits") - bits).abs() < 0.001, "{row:?}");
    }
    assert!((number(&rows[0], "formula_bytes") / tokens - 131_072.0).abs() < 32.0);
    assert!((number(&rows[0], "heap_live_bytes") / tokens - 131_072.0).abs() < 32.0);
}

/// What 8 layers of SmolLM2's shape hold at 4096 tokens is 3 to 50 MB, so that pages that nobody accounts for would show.
#[test]
fn resident_pages_are_what_the_heap_holds() {
    let sweep = "level = 'attention'\nlengths = [4096]\ndecode_steps = 2\nlaunches = 1";
    let config =
        format!("[model]\npreset = 'smollm2-135m'\nlayers = 8\n[sweep]\n{sweep}\n{STRATEGIES}").replace("reserve = 2048", "reserve = 8192");
    for row in rows(&config) {
        let what = format!("{}: {}", row["label"], row["notes"]);
        assert!(!row["notes"].contains("ledger:"), "{what}");
        let [heap, resident, untouched] = ["heap_live_bytes", "rss_bytes", "untouched_bytes"].map(|column| number(&row, column));
        // What nobody explains is that of the 8 layers which stand for 30.
        let margin = f64::max(heap * 8.0 / 30.0 / 100.0, (1 << 20) as f64);
        assert!((resident - (heap - untouched)).abs() <= margin + number(&row, "allocator_kept_bytes"), "{what}: {row:?}");
        match row["label"].as_str() {
            "reserved" => assert!(untouched > 0.45 * heap, "half of the room is for tokens that never came: {row:?}"),
            "doubling" | "concat" => assert!(resident > 0.9 * heap && heap > 75e6, "{row:?}"),
            _ => {}
        }
    }
}
