//! Hostile `tokenizer.json` files, and texts and ids through those that load: an error may come, a panic may not.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz tokenizer`
#![no_main]

use std::sync::Once;

use kv_model::{TextTokenizer, panic_becomes_error};
use libfuzzer_sys::fuzz_target;
use workspace_tests::tokenizers::{byte_level, metaspace, sentence_piece};

static HOOK: Once = Once::new();

fuzz_target!(|input: &[u8]| {
    // libFuzzer ends the process at every panic; those that the model's crate catches are not what is looked for.
    HOOK.call_once(|| {
        let end = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic_becomes_error() {
                end(panic);
            }
        }));
    });
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

/// Replaces stretches of a file by others of it, or by bytes of the instructions.
fn edited(mut file: Vec<u8>, instructions: &[u8]) -> Vec<u8> {
    for instruction in instructions.chunks_exact(6).take(8) {
        let [to, to_high, from, from_high, len, own] = *instruction else { break };
        let place = |low: u8, high: u8| usize::from(u16::from_le_bytes([low, high])) % file.len().max(1);
        let (to, from, len) = (place(to, to_high), place(from, from_high), usize::from(len % 64));
        let copied = match own % 3 {
            0 => vec![own],
            _ => file[from.min(file.len())..(from + len).min(file.len())].to_vec(),
        };
        file.splice(to.min(file.len())..(to + usize::from(own % 16)).min(file.len()), copied);
    }
    file
}
