//! A decoder that reads an encoder's rows.

use super::scripted::{config, ran};

const STRATEGIES: [(&str, &str); 5] = [
    ("f32", "use = 'contiguous'"),
    ("paged", "use = 'paged'\nconfig = { format = 'f16' }"),
    ("q8_0", "use = 'quantized'\nconfig = { format = 'q8_0' }"),
    ("window", "use = 'sliding'\nconfig = { window = 32 }"),
    ("naive", "use = 'naive'"),
];

#[test]
fn the_encoders_rows_are_read_exactly_and_its_bytes_are_the_shapes() {
    let ran = ran(&config("summarise", "shape = 't5-small'\ninput = 128\nsteps = 6", &STRATEGIES), &[]).well();
    for (label, errors) in [("f32", 0.0..1e-5), ("paged", 1e-6..1e-2), ("q8_0", 1e-4..0.1), ("window", 0.1..100.0)] {
        let whole = |metric| ran.at(label, "encoder kept", metric, 0.0);
        assert!(errors.contains(&whole("read_error")), "{label}: {}", whole("read_error"));
        assert_eq!(ran.along(label, "encoder kept", "step_ms").len(), 6, "{label}");
        assert_eq!(ran.along(label, "recomputed", "step_ms").len(), 4, "{label}");
        assert!(whole("step_ratio") > 0.0, "{label}");
        let row = ran.row(label);
        assert!(row["notes"].contains("the shape of t5-small: 6 layers, 8 heads of 64; no model ran"), "{row:?}");
        assert_eq!((row["model_bytes"].as_str(), row["fill"].as_str()), ("", "generated"));
    }
    // 6 layers of 8 heads of 64 + 64 numbers, whatever the model's shape is.
    let of_encoder = ran.at("f32", "encoder kept", "encoder_heap_bytes", 0.0);
    let rows = (128 * 6 * 8 * 128 * size_of::<f32>()) as f64;
    assert!((1.0..1.01).contains(&(of_encoder / rows)), "{of_encoder} of {rows}");
    assert!(ran.at("f32", "encoder kept", "decoder_heap_bytes", 0.0) < of_encoder / 4.0);
    let naive = ran.row("naive");
    assert_eq!(naive["status"], "not supported");
    assert!(naive["error"].contains("does not support read: it keeps no rows between steps"), "{naive:?}");
    let page = std::fs::read_to_string(ran.report("index.html")).unwrap();
    assert!(page.contains("summarise: paged takes ") && page.contains("summarise: naive was not measured (not supported: "));
    assert!(ran.report("summarise-time.png").exists());
}

#[test]
fn shapes_and_sizes_that_make_no_sense_are_refused() {
    let refusal = |section: &str| ran(&config("summarise", section, &STRATEGIES[..1]), &[]).refusal();
    assert!(refusal("shape = 'bert'").contains("bart-large-cnn"));
    assert!(refusal("steps = 1").contains("in [summarise], `steps` is 1: it must be at least 4"));
}

/// The model's context does not limit another shape, and its memory is the shape's.
#[test]
fn a_longer_input_than_the_models_context_is_planned_by_its_own_shape() {
    let config = config("summarise", "shape = 't5-small'\ninput = 20000", &STRATEGIES[..1]);
    let large = config.replace("[sweep]", "[sweep]\nmemory_limit = '512 MiB'");
    let message = ran(&large, &[]).refusal();
    // Room for 32768 + 32 rows of 6 layers, 8 heads and 128 numbers in f32.
    assert!(message.contains("`f32` at length 20000: it needs ") && message.contains("512 MiB are free for a worker"), "{message}");
}
