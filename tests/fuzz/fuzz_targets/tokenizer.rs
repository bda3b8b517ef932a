//! Hostile `tokenizer.json` files, and texts and ids through those that load: an error may come, a panic may not.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz tokenizer`
#![no_main]

mod edits;
mod panics;

use edits::edited;
use kv_model::TextTokenizer;
use libfuzzer_sys::fuzz_target;
use workspace_tests::tokenizers::{byte_level, metaspace, sentence_piece};

fuzz_target!(|input: &[u8]| {
    panics::end_only_at_uncaught_ones();
    let [kind, rest @ ..] = input else { return };
    let file = match kind % 4 {
        0 => rest.to_vec(),
        1 => edited(byte_level(&[b"ab", "水".as_bytes()]).to_string().into_bytes(), rest),
        2 => edited(sentence_piece(&["▁this", "ア"]).to_string().into_bytes(), rest),
        _ => edited(metaspace(&["▁this", "ア"]).to_string().into_bytes(), rest),
    };
    let Ok(tokenizer) = TextTokenizer::from_json(&String::from_utf8_lossy(&file)) else { return };
    let ids = tokenizer.encode("this is ア\u{FFFD} 水\n").unwrap_or_default();
    let Ok(mut stream) = tokenizer.stream(&ids) else { return };
    for id in rest.chunks_exact(2).map(|bytes| u32::from(u16::from_le_bytes([bytes[0], bytes[1]]))) {
        if stream.push(id % 300).is_err() {
            return;
        }
    }
    let _ = stream.finish();
});
