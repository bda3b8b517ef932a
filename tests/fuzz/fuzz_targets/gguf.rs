//! Hostile GGUF files: an error may come, a panic may not.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz gguf`
#![no_main]

mod edits;
mod panics;

use std::io::Cursor;

use kv_model::{LoadOptions, gguf};
use libfuzzer_sys::fuzz_target;
use workspace_tests::chain::Chain;
use workspace_tests::gguf::Gguf;

fuzz_target!(|input: &[u8]| {
    panics::end_only_at_uncaught_ones();
    let [kind, type_id, rest @ ..] = input else { return };
    let file = match kind % 4 {
        0 => rest.to_vec(),
        1 => edits::edited(Gguf::of(&Chain::new(24), "llama").bytes(), rest),
        2 => edits::edited(Gguf::of(&Chain::new(24), "qwen3").bytes(), rest),
        _ => {
            // Bytes of the instructions as a tensor in an encoding.
            let bytes = rest.iter().cycle().take(256 * 256 * 4).copied().collect();
            let file = Gguf::of(&Chain::new(256), "llama").with_encoded("token_embd.weight", u32::from(*type_id), bytes);
            edits::edited(file.bytes(), rest)
        }
    };
    let _ = gguf::load(&mut Cursor::new(file), LoadOptions::default());
});
