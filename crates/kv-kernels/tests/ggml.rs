//! Compares rows with those encoded and decoded by llama.cpp's `gguf` and by `ml_dtypes`. They must be equal, bit for bit.
//! `make_ggml.py` in this folder generates them.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use kv_kernels::Format;
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

fn bytes(hexadecimal: &str) -> Vec<u8> {
    hexadecimal.as_bytes().chunks(2).map(|digits| u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap()).collect()
}

#[test]
fn decodes_to_the_same_bits() {
    for Case { format, row, encoded, decoded, .. } in cases() {
        let mut values = vec![f32::NAN; decoded.len()];
        format.parse::<Format>().unwrap().decode_rows(decoded.len(), &bytes(&encoded), &mut values);
        let values: Vec<u32> = values.into_iter().map(f32::to_bits).collect();
        assert_eq!(values, decoded, "{format}, {row}");
    }
}

#[test]
fn encodes_to_the_same_bytes() {
    for Case { format, row, values, encoded, .. } in cases() {
        let Some(values) = values else { continue };
        let values: Vec<f32> = values.into_iter().map(f32::from_bits).collect();
        let format: Format = format.parse().unwrap();
        let mut own = vec![0; format.row_bytes(values.len())];
        format.encode_row(&values, &mut own);
        assert_eq!(own, bytes(&encoded), "{format}, {row}");
    }
}

#[test]
fn every_format_that_others_have_is_compared() {
    for format in ["f16", "bf16", "fp8_e4m3", "q8_0", "q4_0", "q4_1"] {
        assert!(cases().iter().filter(|case| case.format == format).count() >= 9, "{format}");
    }
}
