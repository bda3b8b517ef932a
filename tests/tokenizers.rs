//! Small tokenizers as `tokenizer.json` stores them, one of each kind that decides how text comes out.

use serde_json::{Value, json};

/// Byte-level BPE, as GPT-2, Llama 3 and Qwen have it: ids below 256 are the bytes, and `pieces` follow.
///
/// There are no merges, so that a text is always encoded as its bytes; a chain can write the pieces.
pub fn byte_level(pieces: &[&[u8]]) -> Value {
    let bytes: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let tokens = bytes.iter().map(Vec::as_slice).chain(pieces.iter().copied());
    let vocabulary: serde_json::Map<String, Value> = tokens.zip(0..).map(|(piece, id)| (spelt(piece), Value::from(id))).collect();
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": { "type": "BPE", "vocab": vocabulary, "merges": [] },
    })
}

/// The id of the first piece of [`byte_level`].
pub const FIRST_PIECE: u32 = 256;

/// A vocabulary of words that begin with `▁`, as SentencePiece makes it: ids are `<unk>`, `<s>`, `</s>`, the bytes as
/// `<0x00>` to `<0xFF>`, and `words`. The decoder is that of Llama 2, which joins bytes and strips the first space.
pub fn sentence_piece(words: &[&str]) -> Value {
    let replace = |from: &str, to: &str| json!({ "type": "Replace", "pattern": { "String": from }, "content": to });
    json!({
        "version": "1.0",
        "added_tokens": special_tokens(),
        "normalizer": { "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "▁" }, replace(" ", "▁")] },
        "post_processor": starting_with_s(),
        "decoder": {
            "type": "Sequence",
            "decoders": [
                replace("▁", " "),
                { "type": "ByteFallback" },
                { "type": "Fuse" },
                { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
            ],
        },
        "model": unigram(words),
    })
}

/// The vocabulary of [`sentence_piece`] with the decoder of older folders, which only turns `▁` into spaces.
pub fn metaspace(words: &[&str]) -> Value {
    let metaspace = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false });
    json!({
        "version": "1.0",
        "added_tokens": special_tokens(),
        "pre_tokenizer": metaspace,
        "post_processor": starting_with_s(),
        "decoder": metaspace,
        "model": unigram(words),
    })
}

/// The id of `</s>` in [`sentence_piece`] and [`metaspace`].
pub const END: u32 = 2;
/// The id of `<0x00>` there.
pub const FIRST_BYTE: u32 = 3;
/// The id of the first word there.
pub const FIRST_WORD: u32 = FIRST_BYTE + 256;

/// Writes bytes in the letters that byte-level vocabularies use for them.
fn spelt(bytes: &[u8]) -> String {
    let letter = |byte: u8| match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
        // The others follow one another from U+0100.
        0..=0x20 => char::from_u32(0x100 + u32::from(byte)).expect("a letter"),
        0x7F..=0xA0 => char::from_u32(0x121 + u32::from(byte - 0x7F)).expect("a letter"),
        0xAD => '\u{143}',
    };
    bytes.iter().map(|byte| letter(*byte)).collect()
}

fn special_tokens() -> Value {
    let token = |id: u32, content: &str| json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true });
    json!([token(0, "<unk>"), token(1, "<s>"), token(END, "</s>")])
}

fn starting_with_s() -> Value {
    let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    json!({
        "type": "TemplateProcessing",
        "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, text],
        "pair": [text],
        "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } },
    })
}

/// The likeliest words; what is in none of them, in bytes.
fn unigram(words: &[&str]) -> Value {
    let special = ["<unk>", "<s>", "</s>"].map(|token| json!([token, 0.0]));
    let bytes = (0..=255).map(|byte| json!([format!("<0x{byte:02X}>"), -20.0]));
    let words = words.iter().map(|word| json!([word, -1.0]));
    let vocabulary: Vec<Value> = special.into_iter().chain(bytes).chain(words).collect();
    json!({ "type": "Unigram", "unk_id": 0, "byte_fallback": true, "vocab": vocabulary })
}
