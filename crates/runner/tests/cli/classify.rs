//! Labels that are scored after the same text.

use super::scripted::{config, ran};

const STRATEGIES: [(&str, &str); 6] = [
    ("f32", "use = 'contiguous'"),
    ("f16", "use = 'contiguous'\nconfig = { format = 'f16' }"),
    ("paged", "use = 'paged'"),
    ("q8_0", "use = 'quantized'\nconfig = { format = 'q8_0' }"),
    ("window", "use = 'sliding'\nconfig = { window = 64, sinks = 4 }"),
    ("naive", "use = 'naive'"),
];

#[test]
fn forked_scores_equal_recomputed_ones_and_a_shared_prefix_is_counted_once() {
    let ran = ran(&config("classify", "prefix = 256\nlabels = 4\nlabel_tokens = 3", &STRATEGIES), &[]).well();
    for (label, _) in STRATEGIES {
        let whole = |metric| ran.at(label, "forked", metric, 0.0);
        let error = whole("score_error");
        match label {
            // A window is a mask within a step, so nothing is lost by recomputing in one.
            "f32" | "paged" | "naive" | "window" => assert!(error < 1e-4, "{label}: {error}"),
            _ => assert!(error > 1e-4 && error < 1.0, "{label}: {error}"),
        }
        assert_eq!(whole("same_best_label"), 1.0, "{label}");
        assert!(whole("label_ms") > 0.0 && ran.at(label, "recomputed", "label_ms", 0.0) > 0.0, "{label}");
        assert_eq!(ran.along(label, "forked", "cumulative_ms").len(), 5, "{label}: the prefix and four labels");
        let row = ran.row(label);
        assert!(row["tokens_per_s"].is_empty() && row["predicted_bytes"].is_empty(), "{row:?}");
        assert!(!row["tpot_ms_p50"].is_empty(), "{row:?}");
    }
    let bytes = |label, variant, at| ran.at(label, variant, "heap_bytes", at);
    let of_prefix = |label| bytes(label, "forked", 0.0);
    for label in ["f32", "paged"] {
        let recomputed = bytes(label, "recomputed", 4.0);
        assert!(recomputed > 3.9 * of_prefix(label), "{label}: four prefixes, {recomputed} bytes");
    }
    assert!(bytes("f32", "forked", 4.0) > 4.9 * of_prefix("f32"), "five copies");
    // A pool takes up to as much again when it grows.
    assert!(bytes("paged", "forked", 4.0) < 2.1 * of_prefix("paged"), "one prefix, and a page for each label");
    assert_eq!(bytes("naive", "forked", 4.0), bytes("naive", "recomputed", 4.0), "nothing is kept");
    let page = std::fs::read_to_string(ran.report("index.html")).unwrap();
    assert!(page.contains("classify: paged scores 4 labels in ") && page.contains("and finds the same best label"));
    for chart in ["classify-time.png", "classify-bytes.png"] {
        assert!(ran.report(chart).exists(), "{chart}");
    }
}

/// What follows the prefix is known from the prefix alone.
#[test]
fn labels_of_one_token_are_scored_too() {
    let ran = ran(&config("classify", "prefix = 64\nlabels = 3\nlabel_tokens = 1", &STRATEGIES), &[]).well();
    for (label, _) in STRATEGIES {
        let error = ran.at(label, "forked", "score_error", 0.0);
        assert!(if ["f16", "q8_0"].contains(&label) { error < 1.0 } else { error < 1e-4 }, "{label}: {error}");
        assert!(ran.at(label, "forked", "label_ms", 0.0) < ran.at(label, "recomputed", "label_ms", 0.0), "{label}");
    }
}

#[test]
fn labels_that_make_no_sense_are_refused_with_what_would_be_right() {
    let refusal = |section: &str| ran(&config("classify", section, &STRATEGIES[..1]), &[]).refusal();
    assert!(refusal("labels = 1").contains("in [classify], `labels` is 1: it must be at least 2"));
    assert!(refusal("label = 8").contains("did you mean `labels`?"));
    let beyond = refusal("prefix = 16384");
    assert!(beyond.contains("the workload `classify` needs 16386 positions, and the model's context is 16384"), "{beyond}");
}
