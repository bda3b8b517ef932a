//! An image that is asked about several times.

use super::scripted::{config, ran};

const STRATEGIES: [(&str, &str); 5] = [
    ("f32", "use = 'contiguous'"),
    ("f16", "use = 'contiguous'\nconfig = { format = 'f16' }"),
    ("paged", "use = 'paged'"),
    ("q8_0", "use = 'quantized'\nconfig = { format = 'q8_0' }"),
    ("naive", "use = 'naive'"),
];

const SECTION: &str = "patches = 160\nquestions = 3\nquestion_tokens = 5\nanswer_tokens = 8";

#[test]
fn answers_about_a_kept_image_equal_those_about_one_that_is_computed_again() {
    let ran = ran(&config("multimodal", SECTION, &STRATEGIES), &[]).well();
    for (label, _) in STRATEGIES {
        if ["f32", "paged", "naive"].contains(&label) {
            let row = ran.row(label);
            assert_eq!(row["first_difference_tokens"], "", "{label}: the answers are the same");
        }
        for metric in ["ttft_ms", "cumulative_ms"] {
            for variant in ["forked", "recomputed"] {
                assert_eq!(ran.along(label, variant, metric).len(), 3, "{label}: {variant}: {metric}");
            }
        }
        assert_eq!(ran.along(label, "forked", "ttft_ratio").len(), 3, "{label}");
    }
    let bytes = |label, variant, at| ran.at(label, variant, "heap_bytes", at);
    assert!(bytes("paged", "recomputed", 3.0) > 2.9 * bytes("paged", "forked", 0.0), "three images");
    assert!(bytes("paged", "forked", 3.0) < 2.1 * bytes("paged", "forked", 0.0), "one image");
    assert!(bytes("f32", "forked", 3.0) > 3.9 * bytes("f32", "forked", 0.0), "four copies");
    let page = std::fs::read_to_string(ran.report("index.html")).unwrap();
    assert!(page.contains("multimodal: paged answers question 3 after "));
    assert!(ran.report("multimodal-ttft.png").exists() && ran.report("multimodal-bytes.png").exists());
}

/// The shape `tiny` has 256 hidden values.
#[test]
fn an_image_may_come_from_a_file_of_the_models_width() {
    let section = SECTION.replace("160", "40\nembeddings = 'image.f32'");
    let config = config("multimodal", &section, &STRATEGIES[..1]);
    let file = |values: usize| (0..values).flat_map(|value| ((value * 37 % 101) as f32 / 500.0 - 0.1).to_le_bytes()).collect::<Vec<u8>>();
    let ok = ran(&config, &[("image.f32", &file(40 * 256))]).well();
    assert_eq!(ok.row("f32")["first_difference_tokens"], "");
    let refused = ran(&config, &[("image.f32", &file(40 * 250))]).refusal();
    let expected = "in [multimodal], `embeddings`: `image.f32` has 40000 bytes: 250 values for each of the 40 patches, and the model's \
                    hidden size is 256; 40 × 256 values in f32 are 40960 bytes";
    assert!(refused.contains(expected), "{refused}");
    assert!(ran(&config, &[]).refusal().contains("cannot read `image.f32`"));
}
