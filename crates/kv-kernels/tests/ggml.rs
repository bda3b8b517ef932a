//! Compares rows with those encoded and decoded by llama.cpp's `gguf` and by `ml_dtypes`. They must be equal, bit for bit.
//! `make_ggml.py` in this folder generates them.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use kv_kernels::{Format, WeightFormat};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    format: String,
    row: String,
    /// The bits of the values. Empty for bytes that were not encoded from values.
    values: Option<Vec<u32>>,
    /// In hexadecimal.
    encoded: String,
    /// The bits of the values.
    decoded: Vec<u32>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("ggml.json")).unwrap()
}

/// The cases of formats that caches have.
fn cache_cases() -> impl Iterator<Item = (Format, Case)> {
    cases().into_iter().filter_map(|case| Some((case.format.parse().ok()?, case)))
}

/// The cases of formats that weights have.
fn weight_cases() -> impl Iterator<Item = (WeightFormat, Case)> {
    let format = |case: &Case| WeightFormat::ALL.into_iter().find(|format| format.name() == case.format);
    cases().into_iter().filter_map(move |case| Some((format(&case)?, case)))
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    hexadecimal.as_bytes().chunks(2).map(|digits| u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap()).collect()
}

#[test]
fn decodes_to_the_same_bits() {
    for (format, Case { row, encoded, decoded, .. }) in cache_cases() {
        let mut values = vec![f32::NAN; decoded.len()];
        format.decode_rows(decoded.len(), &bytes(&encoded), &mut values);
        assert_eq!(bits(&values), decoded, "{format}, {row}");
    }
}

#[test]
fn weights_decode_to_the_same_bits() {
    for (format, Case { row, encoded, decoded, .. }) in weight_cases() {
        let mut values = vec![f32::NAN; decoded.len()];
        format.decode(&bytes(&encoded), &mut values);
        assert_eq!(bits(&values), decoded, "{format}, {row}");
    }
}

#[test]
fn encodes_to_the_same_bytes() {
    for (format, Case { row, values, encoded, .. }) in cache_cases() {
        let Some(values) = values else { continue };
        let values: Vec<f32> = values.into_iter().map(f32::from_bits).collect();
        let mut own = vec![0; format.row_bytes(values.len())];
        format.encode_row(&values, &mut own);
        assert_eq!(own, bytes(&encoded), "{format}, {row}");
    }
}

#[test]
fn every_format_that_others_have_is_compared() {
    for format in ["f16", "bf16", "fp8_e4m3", "q8_0", "q4_0", "q4_1"].map(|name| name.parse::<Format>().unwrap()) {
        assert!(cache_cases().filter(|(other, _)| *other == format).count() >= 9, "{format}");
    }
    for format in WeightFormat::ALL.into_iter().filter(|format| *format != WeightFormat::F32) {
        assert!(weight_cases().any(|(other, case)| other == format && case.decoded.len() >= 2 * format.block().0), "{format}");
    }
}
