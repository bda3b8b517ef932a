//! What a cache does to attention, and to what a model says.

use std::path::Path;

use super::swept::{Row, Rows, number, sweep, table};
use crate::{run, runner, text, words};

const STRATEGIES: &str = "
[[strategy]]
label = 'f32'
use = 'contiguous'
[[strategy]]
label = 'paged'
use = 'paged'
[[strategy]]
label = 'q8_0'
use = 'quantized'
config = { format = 'q8_0' }
[[strategy]]
label = 'q4_0'
use = 'quantized'
config = { format = 'q4_0' }
[[strategy]]
label = 'window'
use = 'sliding'
config = { window = 40, sinks = 0 }
[[strategy]]
label = 'naive'
use = 'naive'
";

/// A text of 6000 bytes, which are the tokens of random weights.
pub(super) fn write_text(folder: &Path) {
    let text: String = (0..1000).map(|index| format!("{:05} ", index * 7919 % 99_991)).collect();
    std::fs::write(folder.join("text.txt"), text).unwrap();
}

fn config(sweep: &str, quality: &str) -> String {
    format!(
        "[model]\npreset = 'tiny'\nlayers = 2\n[sweep]\nlengths = [60, 128]\nprefill_chunk = 48\ndecode_steps = 2\nlaunches = 1\n{sweep}\n\
         [quality]\n{quality}\n{STRATEGIES}"
    )
}

pub(super) fn of<'a>(rows: &'a Rows, label: &str, length: &str) -> &'a Row {
    rows.iter().find(|row| row["label"] == label && row["seq_len"] == length).unwrap()
}

#[test]
fn a_model_reads_a_text_with_every_cache_and_an_exact_one() {
    let folder = tempfile::tempdir().unwrap();
    write_text(folder.path());
    let quality = "text = 'text.txt'\nwindows = 3\nsteps = 8\nstreamed = 100\nchunk = 16";
    let output = sweep(folder.path(), &config("", quality), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows = table(&folder.path().join("report/results.csv"));
    for length in ["60", "128"] {
        let of = |label: &str| of(&rows, label, length);
        for label in ["f32", "paged"] {
            let row = of(label);
            // The same sums of the same rows: not one bit differs.
            for (column, expected) in [("kld_mean", 0.0), ("kld_max", 0.0), ("ppl_delta", 0.0), ("same_top1", 1.0), ("retained_mass", 1.0)]
            {
                assert_eq!(number(row, column), expected, "{label}, {column}");
            }
            assert_eq!([number(row, "needle_acc"), number(row, "needle_acc_dense")], [1.0, 1.0]);
            assert!(number(row, "attn_rel_l2") < 1e-5 && number(row, "kld_floor") < 1e-6, "{row:?}");
        }
        let (fine, coarse, window) = (of("q8_0"), of("q4_0"), of("window"));
        for column in ["attn_rel_l2", "key_rel_l2", "value_rel_l2", "kld_mean"] {
            assert!(0.0 < number(fine, column) && number(fine, column) < number(coarse, column), "{column}: {fine:?}, {coarse:?}");
        }
        assert!(number(window, "retained_mass") < 0.9 && number(window, "kld_mean") > number(fine, "kld_mean"), "{window:?}");
        assert_eq!(number(window, "recency_acc"), 1.0, "the newest tokens are in the window");
        assert!(number(window, "needle_acc") < 0.9, "{window:?}");
        assert_eq!((number(fine, "quality_windows"), number(fine, "quality_tokens")), (3.0, 24.0));
        for column in
            ["ppl", "ppl_delta", "kld_mean", "same_top1", "attn_rel_l2", "retained_mass", "needle_acc", "recency_acc", "needle_acc_dense"]
        {
            for row in [fine, coarse, window] {
                let of = |end: &str| number(row, &format!("{column}{end}"));
                assert!(of("_low") <= of("") && of("") <= of("_high"), "{column}: {row:?}");
            }
        }
        assert_eq!((fine["kld_p99"].as_str(), fine["kld_p99_low"].as_str()), ("", ""), "24 tokens have no 99th percentile");
        assert!(
            fine["notes"].contains("quality is not ranked: the model does not know this text"),
            "random weights know nothing: {}",
            fine["notes"]
        );
        // The reference is the same whatever is beside it.
        assert_eq!(fine["ppl_reference"], coarse["ppl_reference"]);
        assert_eq!(of("naive")["kld_mean"], "", "what recomputes is the reference");
        // The same for all of a length.
        for column in ["kld_floor", "needle_acc_dense", "needle_acc_dense_low"] {
            assert_eq!(fine[column], window[column], "{column}");
        }
        assert_eq!(!fine["streamed_kld_mean"].is_empty(), length == "128", "streamed once, at the longest length");
    }
    let parts = table(&folder.path().join("report/quality.csv"));
    let has = |protocol: &str, part: &str| parts.iter().any(|row| row["protocol"] == protocol && row["part"].starts_with(part));
    for (protocol, part) in [
        ("rows", "layer 1"),
        ("planted", "recent, margin"),
        ("prompt exact", "tokens 0 to 2"),
        ("streamed", "tail"),
        ("streamed", "tokens 12 to 25"),
    ] {
        assert!(has(protocol, part), "{protocol}, {part}");
    }
    let metrics = |protocol: &str, part: &str| {
        let of_part = parts
            .iter()
            .filter(|row| row["protocol"] == protocol && row["part"] == part && row["label"] == "q4_0" && row["seq_len"] == "128");
        of_part.map(|row| row["metric"].as_str()).collect::<Vec<_>>()
    };
    assert_eq!(metrics("streamed", "tail"), metrics("prompt exact", "tail"));
    assert_eq!(metrics("streamed", "tail").len(), 9, "{:?}", metrics("streamed", "tail"));
    assert!(metrics("rows", "layer 1").contains(&"attn_cosine"), "{:?}", metrics("rows", "layer 1"));
    let time = text(&output.stdout).lines().find(|line| line.starts_with("time of the processes: ")).map(str::to_owned).unwrap();
    assert!(time.contains("quality ") && time.contains("attention "), "{time}");
    assert!(text(&output.stdout).contains("\nQuality\n"), "{}", text(&output.stdout));

    // The same seed, text and threads say the same; on one thread sums are taken in another order.
    let deterministic = |rows: &Rows, columns: &[&str]| -> Vec<String> {
        rows.iter().flat_map(|row| columns.iter().map(|column| row[*column].clone())).collect()
    };
    let columns = ["kld_mean", "ppl", "same_top1", "attn_rel_l2", "needle_acc", "recency_acc", "streamed_kld_mean"];
    let output = sweep(folder.path(), &config("", quality), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(deterministic(&table(&folder.path().join("report/results.csv")), &columns), deterministic(&rows, &columns));
    let output = sweep(folder.path(), &config("", quality), &["--threads", "1"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for (one, two) in table(&folder.path().join("report/results.csv")).iter().zip(&rows).filter(|(row, _)| row["label"] != "naive") {
        for column in ["kld_mean", "ppl", "attn_rel_l2"] {
            let (one, two) = (number(one, column), number(two, column));
            assert!((one - two).abs() <= 1e-10 + 2e-3 * two.abs(), "{column}: {one} and {two}");
        }
        assert_eq!(one["needle_acc"], two["needle_acc"]);
    }
}

#[test]
fn a_model_is_asked_for_facts_beside_an_exact_cache() {
    let folder = tempfile::tempdir().unwrap();
    let asked = |questions: usize| {
        let small = format!(
            "[model]\npreset = 'small'\n[sweep]\nlengths = [256]\ndecode_steps = 2\nlaunches = 1\n\
             [quality]\ntext = 'held-out'\nwindows = 2\nsteps = 2\nstreamed = 0\nquestions = {questions}\n{STRATEGIES}"
        );
        let output = sweep(folder.path(), &small, &[]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        table(&folder.path().join("report/results.csv"))
    };
    let rows = asked(32);
    for row in rows.iter().filter(|row| row["label"] != "naive") {
        for task in ["model_needle", "lookup"] {
            let (own, dense) = (number(row, &format!("{task}_acc")), number(row, &format!("{task}_acc_dense")));
            let within = number(row, &format!("{task}_acc_dense_low"))..=number(row, &format!("{task}_acc_dense_high"));
            assert!(within.contains(&dense), "{row:?}");
            assert!(row["label"] != "f32" && row["label"] != "paged" || own == dense, "the same sums of the same rows: {row:?}");
        }
        assert_eq!(number(row, "lookup_questions"), 32.0);
        assert!((6.0..=32.0).contains(&number(row, "model_needle_questions")), "{row:?}");
        // This model was not trained to look anything up.
        assert!(row["notes"].contains("the lookup task says nothing about this cache"), "{}", row["notes"]);
    }
    assert_eq!(of(&rows, "naive", "256")["lookup_acc_dense"], "", "what recomputes is the reference");
    let parts = table(&folder.path().join("report/quality.csv"));
    let dense = |row: &&Row| row["protocol"] == "recall" && row["metric"] == "lookup_acc_dense" && row["label"] == "f32";
    assert_eq!(parts.iter().filter(dense).map(|row| row["count"].parse::<usize>().unwrap()).sum::<usize>(), 32);
    let page = std::fs::read_to_string(folder.path().join("report/index.html")).unwrap();
    assert!(page.contains("lookups at 256 tokens: this task says nothing about the caches here."));

    assert!(asked(0).iter().all(|row| row["lookup_acc_dense"].is_empty() && row["model_needle_acc"].is_empty()));
}

#[test]
fn attention_is_compared_without_a_text_or_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let output = sweep(folder.path(), &config("level = 'attention'", ""), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows = table(&folder.path().join("report/results.csv"));
    assert!(number(of(&rows, "q8_0", "128"), "attn_rel_l2") < number(of(&rows, "q4_0", "128"), "attn_rel_l2"));
    assert!(number(of(&rows, "window", "128"), "retained_mass") < 1.0);
    assert!(rows.iter().all(|row| row["kld_mean"].is_empty()));

    let output = sweep(folder.path(), &config("ttft = false", ""), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows = table(&folder.path().join("report/results.csv"));
    assert!(number(of(&rows, "q8_0", "60"), "attn_rel_l2") > 0.0);
}

#[test]
fn what_cannot_be_judged_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_text(folder.path());
    for (sweep_keys, quality, expected) in [
        ("", "text = 'nowhere.txt'", "there is no text `"),
        ("", "text = 'smollm2-135m'", "`smollm2-135m` is a model, not a text"),
        ("", "text = 'text.txt'\nsteps = 0", "`steps` in [quality] is 0"),
        ("", "text = 'text.txt'\nwindows = 0", "`windows` in [quality] is 0"),
        ("", "text = 'text.txt'\nchunk = 0", "`chunk` in [quality] is 0"),
        ("", "text = 'text.txt'\nstreamed = 16\nchunk = 16", "`streamed` is 16: it must be more than `chunk`, 16"),
        ("", "text = 'text.txt'\nwindows = 50", "has 6000 tokens for this model, and 50 windows of 193 need 9650"),
        ("", "text = 'text.txt'\nsteps = 100000", "quality needs 100128 positions, and the model's context is"),
        ("", "txt = 'text.txt'", "did you mean `text`?"),
        ("", "lengths = [60, 90]", "`lengths` in [quality] has 90, which [sweep] does not measure"),
        ("", "lengths = []", "`lengths` in [quality] is empty"),
        ("level = 'attention'", "text = 'text.txt'", "`text` in [quality] is for a model to read"),
        ("", "windows = 3", "`windows` in [quality] is about a text, and none is named"),
        ("", "questions = 8", "`questions` in [quality] is about a text, and none is named"),
        ("", "text = 'text.txt'\nquestions = 5", "`questions` in [quality] is 5: fewer than 6 right answers never tell caches apart"),
        ("batch = 2", "", "quality is judged with one sequence after a prompt"),
    ] {
        let output = sweep(folder.path(), &config(sweep_keys, quality), &["--dry-run"]);
        let error = words(&text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{quality}: {error}");
        assert!(error.contains(expected), "{quality}: {error}");
    }
}

#[test]
fn quality_is_judged_at_the_lengths_that_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    write_text(folder.path());
    let quality = "text = 'text.txt'\nlengths = 60\nwindows = 2\nsteps = 4\nstreamed = 0";
    let output = sweep(folder.path(), &config("ttft = false", quality), &["--only", "{f32,q4_0}"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows = table(&folder.path().join("report/results.csv"));
    assert!(number(of(&rows, "q4_0", "60"), "kld_mean") > 0.0 && number(of(&rows, "q4_0", "60"), "attn_rel_l2") > 0.0);
    let longer = of(&rows, "q4_0", "128");
    assert!(longer["kld_mean"].is_empty() && longer["attn_rel_l2"].is_empty() && longer["status"] == "ok", "{longer:?}");
}

#[test]
fn the_small_model_does_not_read_what_it_was_trained_on_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    write_text(folder.path());
    std::fs::copy(folder.path().join("text.txt"), folder.path().join("moby-dick.txt")).unwrap();
    let warned = |text_of: &str, name: &str| {
        let path = folder.path().join(name);
        let small = "[model]\npreset = 'small'\n[sweep]\nlengths = [16]\n[quality]\nwindows = 2\nsteps = 4\n";
        std::fs::write(&path, format!("{small}text = '{text_of}'\n{STRATEGIES}")).unwrap();
        let output = runner(&[path.to_str().unwrap(), "--dry-run"]).env("KVLAB_CACHE", folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("quality adds about"), "{}", text(&output.stdout));
        text(&output.stderr).contains("`small` was trained on `moby-dick`")
    };
    assert!(warned("moby-dick", "seen.toml"));
    assert!(!warned("held-out", "held-out.toml"));
}

/// A limit that holds one window is enough, and one that does not says so.
#[test]
fn a_cache_with_room_for_one_sequence_reads_the_windows_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    write_text(folder.path());
    let limited = "[model]\npreset = 'tiny'\nlayers = 1\n[sweep]\nlengths = [64]\ndecode_steps = 2\nlaunches = 1\n\
                   [quality]\ntext = 'text.txt'\nwindows = 2\nsteps = 8\nstreamed = 0\n\
                   [[strategy]]\nlabel = 'enough'\nuse = 'paged'\nconfig = { block_size = 16, max_blocks = 5 }\n\
                   [[strategy]]\nlabel = 'too few'\nuse = 'contiguous'\nconfig = { growth = { reserve = 66 } }\n";
    let output = sweep(folder.path(), limited, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows = table(&folder.path().join("report/results.csv"));
    assert_eq!(number(of(&rows, "enough", "64"), "kld_mean"), 0.0);
    let few = of(&rows, "too few", "64");
    assert!(few["kld_mean"].is_empty() && few["status"] == "ok", "{few:?}");
    assert!(few["notes"].contains("the text was not read") && few["notes"].contains("full"), "{}", few["notes"]);
    assert!(number(few, "attn_rel_l2") < 1e-5, "what was compared counts: {few:?}");
}

#[test]
fn the_best_strategy_is_named_with_why_not_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let small = "[model]\npreset = 'small'\n[sweep]\nlengths = [64, 256]\ndecode_steps = 2\nlaunches = 1\n\
                 [quality]\ntext = 'held-out'\nwindows = 6\nsteps = 8\nstreamed = 0\n"
        .to_owned()
        + STRATEGIES;
    let output = sweep(folder.path(), &small, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report = folder.path().join("report");
    let best = |arguments: &[&str]| run(&[&["best", report.to_str().unwrap()], arguments].concat());
    let answer = |arguments: &[&str]| text(&best(arguments).stdout);

    let unbounded = words(&answer(&["--context", "256"]));
    assert!(unbounded.contains("Nothing was asked for but the context, so the most exact is named"), "{unbounded}");
    assert!(unbounded.contains("its KL divergence (prompt exact) is"), "{unbounded}");
    let all = answer(&["--context", "256", "--max-kld", "1"]);
    assert!(all.contains("\nq4_0\n") && all.find("q4_0") < all.find("Why not the others"), "{all}");
    let strict = answer(&["--context", "256", "--max-kld", "0"]);
    let winner = strict.split("Why not").next().unwrap();
    assert!(winner.contains("\nf32\n") || winner.contains("\npaged\n"), "{strict}");
    // Bytes come from the formula where they were not measured, and a window is not judged by what it had not lost yet.
    let longer = answer(&["--context", "4096", "--max-kld", "0.05"]);
    assert!(
        longer.contains("(predicted)")
            && longer.contains("It evicts, and its KL divergence (prompt exact) was measured at 256 tokens only."),
        "{longer}"
    );
    let fast = best(&["--context", "1000", "--max-tpot-ms", "5"]);
    assert_eq!(fast.status.code(), Some(2), "latency is never predicted: {}", text(&fast.stdout));
    assert!(text(&fast.stdout).contains("latency is never predicted"), "{}", text(&fast.stdout));
    for (arguments, expected) in [
        (&["--context", "0"][..], "a sequence has at least 1 token"),
        (&["--context", "8", "--bytes", "64"], "`--bytes 64` is not a size"),
        (&["--context", "8", "--max-kld", "-1"], "a bound is a number that is not negative"),
    ] {
        let output = best(arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(words(&text(&output.stderr)).contains(expected), "{}", text(&output.stderr));
    }
}

#[test]
fn a_run_without_quality_has_no_best_and_says_how_to_measure_it() {
    let folder = tempfile::tempdir().unwrap();
    let small = "[model]\npreset = 'tiny'\nlayers = 1\n[sweep]\nlengths = [16]\ndecode_steps = 2\nlaunches = 1\n".to_owned() + STRATEGIES;
    assert!(sweep(folder.path(), &small, &[]).status.success());
    let output = run(&["best", folder.path().join("report").to_str().unwrap(), "--context", "16", "--max-kld", "0.1"]);
    let message = words(&text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        message.contains("measured no quality: its config has no section [quality]") && message.contains("add `[quality]`"),
        "{message}"
    );
}
