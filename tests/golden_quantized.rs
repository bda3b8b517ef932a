//! Compares files that llama.cpp quantized with llama.cpp: the same decoded values, bit for bit, and the same greedy text.
//!
//! `golden/make_tiny_quantized.py` made random models in K-quants, which are tested by default. The others are the fetched
//! model in other types, and must be made:
//!
//! ```sh
//! cargo run -p runner -- fetch smollm2-135m
//! pip install llama-cpp-python gguf
//! python tests/golden/make_quantized.py PATH_OF_THE_GGUF
//! cargo test -p workspace-tests --test golden_quantized -- --ignored
//! ```
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod known_text;

use std::collections::BTreeMap;
use std::io::Cursor;

use kv_model::{LoadOptions, gguf};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use known_text::{KnownText, Logits};

/// What `llama_text.py` writes about files.
#[derive(Deserialize)]
struct Golden {
    files: Vec<Known>,
}

#[derive(Deserialize)]
struct Known {
    file: String,
    sha256: String,
    /// By the name of the type.
    decoded: BTreeMap<String, Decoded>,
    cases: Vec<Case>,
}

#[derive(Deserialize, Debug, PartialEq)]
struct Decoded {
    tensors: usize,
    /// Of the `f32` values of these tensors, in the order of their names.
    sha256: String,
}

#[derive(Deserialize)]
struct Case {
    prompt_tokens: Vec<u32>,
    generated: Vec<u32>,
    #[serde(default)]
    logits: Vec<Logits>,
}

impl Known {
    fn check_values(&self, bytes: &[u8]) {
        let file = gguf::File::parse(bytes, bytes.len() as u64).unwrap();
        let mut hashes: BTreeMap<String, (usize, Sha256)> = BTreeMap::new();
        for name in file.tensor_names() {
            let tensor = file.tensor(name).unwrap();
            let mut values = vec![f32::NAN; tensor.shape.iter().product()];
            tensor.format.decode(&bytes[tensor.start as usize..][..tensor.len], &mut values);
            let (tensors, hash) = hashes.entry(tensor.format.name().to_uppercase()).or_default();
            *tensors += 1;
            values.iter().for_each(|value| hash.update(value.to_le_bytes()));
        }
        let decoded: BTreeMap<String, Decoded> = (hashes.into_iter())
            .map(|(name, (tensors, hash))| (name, Decoded { tensors, sha256: hexadecimal(&hash.finalize()) }))
            .collect();
        assert_eq!(decoded, self.decoded, "{}", self.file);
    }

    fn check_text(&self, bytes: &[u8]) {
        let model = gguf::load(&mut Cursor::new(bytes), LoadOptions::default()).unwrap().decoder;
        for Case { prompt_tokens, generated, logits } in &self.cases {
            KnownText { prompt: prompt_tokens, generated, logits }.check(&model, ("contiguous", ""), 16, &self.file);
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The committed models of K-quants, with what is known about them.
fn tiny() -> Vec<(Known, &'static [u8])> {
    let files: [&[u8]; 3] = [
        include_bytes!("golden/tiny-quantized/q4_k_m.gguf"),
        include_bytes!("golden/tiny-quantized/q5_k_m.gguf"),
        include_bytes!("golden/tiny-quantized/q6_k.gguf"),
    ];
    let golden: Golden = serde_json::from_str(include_str!("golden/tiny-quantized/expected.json")).unwrap();
    assert_eq!(golden.files.len(), files.len());
    golden.files.into_iter().zip(files).collect()
}

/// The requantized model, one file after another: they are large.
fn smollm2() -> impl Iterator<Item = (Known, Vec<u8>)> {
    let golden: Golden = serde_json::from_str(include_str!("golden/quantized.json")).unwrap();
    let source = runner::fetched("smollm2-135m").expect("run `cargo run -p runner -- fetch smollm2-135m` first");
    let make = format!("python tests/golden/make_quantized.py {}", source.display());
    golden.files.into_iter().map(move |known| {
        let path = source.with_file_name("quantized").join(&known.file);
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run `{make}` first", path.display()));
        let is_known = hexadecimal(&Sha256::digest(&bytes)) == known.sha256;
        assert!(is_known, "{} is not the file that golden/quantized.json describes; `{make}` writes both", path.display());
        (known, bytes)
    })
}

#[test]
fn k_quants_decode_to_the_bits_of_llama_cpp() {
    tiny().into_iter().for_each(|(known, bytes)| known.check_values(bytes));
}

#[test]
fn models_of_k_quants_compute_what_llama_cpp_computes() {
    tiny().into_iter().for_each(|(known, bytes)| known.check_text(bytes));
}

#[test]
#[ignore = "needs smollm2-135m requantized by golden/make_quantized.py"]
fn needs_quantized_smollm2_values_decode_to_the_bits_of_llama_cpp() {
    smollm2().for_each(|(known, bytes)| known.check_values(&bytes));
}

#[test]
#[ignore = "needs smollm2-135m requantized by golden/make_quantized.py"]
fn needs_quantized_smollm2_writes_what_llama_cpp_writes() {
    smollm2().for_each(|(known, bytes)| known.check_text(&bytes));
}
