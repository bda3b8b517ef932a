//! Encoded tensors of GGUF files, in every format: whole ones load, and others are refused by their names.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Cursor;

use kv_kernels::WeightFormat;
use kv_model::{LoadOptions, gguf};
use workspace_tests::chain::Chain;
use workspace_tests::gguf::Gguf;

/// The last tensor of a file.
const LAST: &str = "token_embd.weight";

/// ggml's numbers of the formats (`enum ggml_type` in ggml.h).
const TYPE_IDS: [(WeightFormat, u32); 12] = [
    (WeightFormat::F32, 0),
    (WeightFormat::F16, 1),
    (WeightFormat::Q4_0, 2),
    (WeightFormat::Q4_1, 3),
    (WeightFormat::Q5_0, 6),
    (WeightFormat::Q5_1, 7),
    (WeightFormat::Q8_0, 8),
    (WeightFormat::Q4K, 12),
    (WeightFormat::Q5K, 13),
    (WeightFormat::Q6K, 14),
    (WeightFormat::Iq4Nl, 20),
    (WeightFormat::Bf16, 30),
];

/// A chain of so many tokens, which is also the length of the embedding's rows, with the embedding in a format.
fn file(format: WeightFormat, type_id: u32, vocabulary: usize) -> Vec<u8> {
    let bytes = vec![0; format.bytes_of(vocabulary * vocabulary).unwrap()];
    Gguf::of(&Chain::new(vocabulary), "llama").with_encoded(LAST, type_id, bytes).bytes()
}

fn refusal(file: &[u8]) -> String {
    gguf::load(&mut Cursor::new(file), LoadOptions::default()).unwrap_err().to_string()
}

#[test]
fn every_format_is_listed() {
    assert!(WeightFormat::ALL.iter().all(|format| TYPE_IDS.iter().any(|(other, _)| other == format)));
}

#[test]
fn a_tensor_of_any_format_is_loaded_whole_or_not_at_all() {
    for (format, type_id) in TYPE_IDS {
        let file = file(format, type_id, 256);
        let model = gguf::load(&mut Cursor::new(&file), LoadOptions::default()).unwrap();
        let bytes = format.bytes_of(256 * 256).unwrap();
        assert!(format == WeightFormat::F32 || model.decoder.weights().formats().contains(&(format, bytes)), "{format}");
        for missing in [1, format.block().1, bytes - 1] {
            let message = refusal(&file[..file.len() - missing]);
            let start = format!("tensor `{LAST}` of shape [256, 256] at offset ");
            let end = format!("reaches beyond the file's {} bytes of tensors", data_bytes(&file) - missing);
            assert!(message.starts_with(&start) && message.ends_with(&end), "{format}, {missing} bytes missing: {message}");
        }
    }
}

/// Bytes of a file's tensors.
fn data_bytes(file: &[u8]) -> usize {
    let parsed = gguf::File::parse(file, file.len() as u64).unwrap();
    file.len() - parsed.tensor_names().map(|name| parsed.tensor(name).unwrap().start).min().unwrap() as usize
}

/// All values together would be a whole number of blocks.
#[test]
fn a_row_that_is_no_whole_number_of_blocks_is_refused() {
    for (format, type_id) in TYPE_IDS.into_iter().filter(|(format, _)| format.block().0 > 1) {
        let (block, _) = format.block();
        let row = if block == 256 { 96 } else { 40 };
        let message = refusal(&file(format, type_id, row));
        assert_eq!(message, format!("tensor `{LAST}` has rows of {row} values, not a multiple of {block}"), "{format}");
    }
}
