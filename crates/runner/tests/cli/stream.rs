//! Texts that go on beyond a window and the model's context.

use super::swept::{Row, Rows, sweep, table};
use crate::{text, words};

const STRATEGIES: &str = "
[[strategy]]
label = 'window'
use = 'sliding'
config = { window = 60, sinks = 4 }
baseline = true
[[strategy]]
label = 'f32'
use = 'contiguous'
[[strategy]]
label = 'paged'
use = 'paged'
[[strategy]]
label = 'reserved'
use = 'contiguous'
config = { growth = { reserve = 1000 } }
[[strategy]]
label = 'naive'
use = 'naive'
";

/// A stream on the small model, whose context has 4096 tokens.
fn config(stream: &str, quality: &str) -> String {
    format!(
        "[model]\npreset = 'small'\n[sweep]\nworkloads = ['stream']\ndecode_steps = 2\nlaunches = 1\n[stream]\n{stream}\n{quality}\n{STRATEGIES}"
    )
}

/// The places and values of a label's metric.
fn along(rows: &Rows, label: &str, metric: &str) -> Vec<(f64, f64)> {
    let number = |row: &Row, column: &str| row[column].parse::<f64>().unwrap();
    let of = rows.iter().filter(|row| row["label"] == label && row["metric"] == metric);
    of.map(|row| (number(row, "at"), number(row, "value"))).collect()
}

#[test]
fn a_bounded_cache_goes_on_and_the_others_end_where_they_must() {
    let folder = tempfile::tempdir().unwrap();
    let quality = "[quality]\ntext = 'held-out'";
    let output = sweep(folder.path(), &config("tokens = 4500\nbursts = 9\nburst = 4\nchunk = 128", quality), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report = folder.path().join("report");
    let (rows, points) = (table(&report.join("results.csv")), table(&report.join("workload.csv")));
    let row = |label: &str| rows.iter().find(|row| row["label"] == label).unwrap();
    let at = |depths: &[usize]| depths.iter().map(|depth| *depth as f64).collect::<Vec<_>>();
    let places = |label: &str, metric: &str| along(&points, label, metric).iter().map(|(at, _)| *at).collect::<Vec<_>>();
    let all: Vec<usize> = (1..=9).map(|burst| 500 * burst).collect();
    for metric in ["tpot_ms", "heap_bytes", "ppl"] {
        assert_eq!(places("window", metric), at(&all), "{metric}");
    }
    let bytes = along(&points, "window", "heap_bytes");
    let first = bytes[0].1;
    assert!(bytes.iter().all(|(_, bytes)| *bytes == first), "it is bounded: {bytes:?}");
    assert!(row("window")["ended_at_tokens"].is_empty());

    let within = [&all[..8], &[4096]].concat();
    for label in ["f32", "paged", "naive"] {
        assert_eq!(row(label)["ended_at_tokens"], "4096", "{label}");
        assert_eq!(row(label)["status"], "ok");
        assert!(row(label)["notes"].contains("ended at 4096 tokens: 4097 positions needed, and with this cache a sequence may have 4096"));
        assert_eq!(places(label, "tpot_ms"), at(&all[..8]), "{label}");
        assert_eq!((places(label, "ppl"), places(label, "heap_bytes")), (at(&within), at(&within)), "{label}");
        assert!(along(&points, label, "ppl_beyond_context").is_empty());
    }
    assert!(
        row("f32")["notes"].contains("it would have needed")
            && row("f32")["notes"].contains("for all 4500, and its bytes are not what ended it"),
        "{}",
        row("f32")["notes"]
    );
    // By doubling, 4500 tokens take room for 8192: in f32, keys and values of 32 numbers in 2 heads of 6 layers.
    let needed = row("f32")["needed_bytes"].parse::<f64>().unwrap() / (8192 * 6 * 2 * (32 + 32) * 4) as f64;
    assert!((1.0..1.001).contains(&needed), "{needed}");
    assert_eq!(row("reserved")["ended_at_tokens"], "1000");
    assert!(row("reserved")["notes"].contains("ended at 1000 tokens: cache is full: 1 more tokens needed, 0 free"));
    // It has no room for more, so what counts is the rows themselves.
    let needed = row("reserved")["needed_bytes"].parse::<f64>().unwrap() / (4500 * 6 * 2 * (32 + 32) * 4) as f64;
    assert!((1.0..1.01).contains(&needed), "{needed}");
    assert!(!row("reserved")["notes"].contains("its bytes are not what ended it"), "{}", row("reserved")["notes"]);
    assert_eq!(row("naive")["needed_bytes"], "", "it keeps nothing");

    // What holds every row reads the same text alike, recomputed or not.
    for ((_, one), (_, other)) in along(&points, "f32", "ppl").iter().zip(&along(&points, "paged", "ppl")) {
        assert!((one / other - 1.0).abs() < 1e-4, "{one} and {other}");
    }
    for ((_, one), (_, other)) in along(&points, "f32", "ppl").iter().zip(&along(&points, "naive", "ppl")) {
        assert!((one / other - 1.0).abs() < 1e-3, "{one} and {other}");
    }
    let page = std::fs::read_to_string(report.join("index.html")).unwrap();
    assert!(page.contains("stream: window takes ") && page.contains("ended at 4096 of 4500 tokens, and would have needed"));
    for chart in ["stream-time", "stream-bytes", "stream-perplexity"] {
        assert!(report.join(format!("{chart}.png")).exists(), "{chart}");
    }
}

/// With sinks, a window reads on as well as before where the model alone would have to end.
#[test]
fn at_four_times_the_context_bytes_are_flat_and_the_text_stays_likely() {
    let folder = tempfile::tempdir().unwrap();
    let stream = config("bursts = 8\nburst = 4", "[quality]\ntext = 'held-out'").replace("launches = 1", "launches = 1\nrounds = 1");
    let output = sweep(folder.path(), &stream, &["--only", "window"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let points = table(&folder.path().join("report/workload.csv"));
    let along = |metric: &str| along(&points, "window", metric);
    let whole = |metric: &str| along(metric)[0].1;
    assert_eq!(along("ppl").last().unwrap().0, 16384.0);
    assert!(along("ppl").iter().all(|(_, perplexity)| perplexity.is_finite()));
    let ratio = whole("ppl_beyond_context") / whole("ppl_within_context");
    assert!(ratio < 1.5, "{ratio}");
    let bytes = along("heap_bytes");
    let (_, first) = bytes[0];
    assert!(bytes.len() == 8 && bytes.iter().all(|(_, bytes)| *bytes == first), "{bytes:?}");
}

#[test]
fn without_a_text_random_tokens_are_fed_and_nothing_is_judged() {
    let folder = tempfile::tempdir().unwrap();
    let output = sweep(folder.path(), &config("tokens = 60\nbursts = 3\nsteps = 'each'", ""), &["--only", "f32"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let points = table(&folder.path().join("report/workload.csv"));
    assert_eq!(along(&points, "f32", "tpot_ms").iter().map(|(at, _)| *at).collect::<Vec<_>>(), [20.0, 40.0, 60.0]);
    assert!(points.iter().all(|row| row["variant"] == "one by one" && !row["metric"].starts_with("ppl")));
}

#[test]
fn what_cannot_be_streamed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let held_out = "[quality]\ntext = 'held-out'";
    for (stream, quality, expected) in [
        ("tokens = 0", "", "in [stream], `tokens` is 0: it must be at least 1"),
        ("burst = 1", "", "in [stream], `burst` is 1: it must be at least 2"),
        ("steps = 'each'\nchunk = 4", "", "leave `chunk` out"),
        ("steps = 'all'", "", "`stream.steps` is \"all\": it takes \"bursts\" or \"each\""),
        ("token = 3", "", "unknown field `token`"),
        ("tokens = 90000", held_out, "tokens for this model, and the stream needs 90001"),
        ("", "[quality]\ntext = 'held-out'\nwindows = 3", "`windows` in [quality] is read where \"decode\" is among `workloads`"),
        ("", "[quality]", "[quality] names no `text`, and a stream reads nothing else of it"),
    ] {
        let output = sweep(folder.path(), &config(stream, quality), &["--dry-run"]);
        let error = words(&text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{stream}: {error}");
        assert!(error.contains(expected), "{stream}: {error}");
    }
    let alone = config("", "").replace("decode_steps", "level = 'attention'\ndecode_steps");
    let error = words(&text(&sweep(folder.path(), &alone, &["--dry-run"]).stderr));
    assert!(error.contains("the workload `stream` asks a model what follows"), "{error}");
}
