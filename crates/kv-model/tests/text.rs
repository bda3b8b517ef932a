//! Text through tokenizers of each kind: nothing lost however it is cut, and no file that stops the process.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use kv_model::{TextTokenizer, panic_becomes_error};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizers::Tokenizer;
use workspace_tests::tokenizers::{FIRST_BYTE, FIRST_PIECE, FIRST_WORD, byte_level, metaspace, sentence_piece};

fn tokenizer(json: &Value) -> TextTokenizer {
    TextTokenizer::from_json(&json.to_string()).unwrap()
}

/// What a stream that continues `prompt` answers for each of the ids, and at the end.
fn streamed(tokenizer: &TextTokenizer, prompt: &[u32], ids: &[u32]) -> Vec<String> {
    let mut stream = tokenizer.stream(prompt).unwrap();
    let mut pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    pieces.push(stream.finish().unwrap());
    pieces
}

/// The ids of bytes in a SentencePiece vocabulary.
fn bytes(text: &[u8]) -> Vec<u32> {
    text.iter().map(|byte| FIRST_BYTE + u32::from(*byte)).collect()
}

#[test]
fn words_of_sentence_piece_keep_their_spaces() {
    for json in [sentence_piece(&["▁this", "▁world"]), metaspace(&["▁this", "▁world"])] {
        let tokenizer = tokenizer(&json);
        let [this, world] = [FIRST_WORD, FIRST_WORD + 1];
        let prompt = tokenizer.encode("this").unwrap();
        assert_eq!(prompt, [1, this]);
        assert_eq!(streamed(&tokenizer, &prompt, &[world, this, world]), [" world", " this", " world", ""]);
        assert_eq!(streamed(&tokenizer, &[], &[world, this]).concat(), "world this");
    }
}

#[test]
fn characters_cut_across_tokens_come_as_they_are_complete() {
    let pieces: [&[u8]; 4] = [&[0xE3, 0x82], &[0xA2, 0xE3, 0x82], &[0xA4, 0xE3, 0x82], &[0xA6, 0xE3, 0x82]];
    let tokenizer = tokenizer(&byte_level(&pieces));
    let ids = [FIRST_PIECE, FIRST_PIECE + 1, FIRST_PIECE + 2, FIRST_PIECE + 3, 0xA8];
    assert_eq!(streamed(&tokenizer, &[0x61], &ids), ["", "ア", "イ", "ウ", "エ", ""]);
    let endless: Vec<u32> = [FIRST_PIECE].into_iter().chain([FIRST_PIECE + 1; 200]).collect();
    let shown = streamed(&tokenizer, &[0x61], &endless);
    assert!(shown[1..=200].iter().all(|piece| piece == "ア"), "{shown:?}");
    assert_eq!(shown[201], "\u{FFFD}");
}

#[test]
fn bytes_of_sentence_piece_come_as_their_characters_are_complete() {
    let tokenizer = tokenizer(&sentence_piece(&["▁this"]));
    let ids = bytes("アイウ".as_bytes());
    assert_eq!(streamed(&tokenizer, &[1, FIRST_WORD], &ids), ["", "", "ア", "", "", "イ", "", "", "ウ", ""]);
    // A character that never becomes complete takes none of those before it away.
    let cut: Vec<u32> = [&ids[..8], &[FIRST_WORD]].concat();
    assert_eq!(streamed(&tokenizer, &[1, FIRST_WORD], &cut).concat(), "アイ\u{FFFD}\u{FFFD} this");
    assert_eq!(tokenizer.decode(&cut).unwrap(), "アイ\u{FFFD}\u{FFFD} this");
}

const CHARACTERS: [&str; 10] = ["a", " ", "é", "ß", "ア", "イ", "水", "🙂", "\u{FFFD}", "\u{301}"];

/// The text without what it has in common with the prompt's, whose last character may only now be completed.
fn new<'a>(whole: &'a str, prompt: &str) -> &'a str {
    let common = whole.chars().zip(prompt.chars()).take_while(|(character, known)| character == known);
    &whole[common.map(|(character, _)| character.len_utf8()).sum()..]
}

#[test]
fn a_replacement_character_of_the_prompt_is_not_written_again() {
    for json in [byte_level(&[]), sentence_piece(&["▁this"])] {
        let tokenizer = tokenizer(&json);
        let byte = |byte: u32| if tokenizer.has_text(FIRST_WORD) { FIRST_BYTE + byte } else { byte };
        let prompt = tokenizer.encode("a\u{FFFD}").unwrap();
        assert_eq!(streamed(&tokenizer, &prompt, &[byte(0x62), byte(0x63)]), ["b", "c", ""]);
        assert_eq!(streamed(&tokenizer, &prompt, &[byte(0xFF)]).concat(), "\u{FFFD}", "one that is new");
        assert_eq!(streamed(&tokenizer, &prompt, &[]).concat(), "");
        let begun = [prompt.as_slice(), &[byte(0xE6), byte(0xB0)]].concat();
        assert_eq!(streamed(&tokenizer, &begun, &[byte(0xB4), byte(0x62)]).concat(), "水b");
        assert_eq!(streamed(&tokenizer, &begun, &[byte(0x62)]).concat(), "b", "what the prompt left incomplete is its own");
    }
}

/// Two bytes of a replacement character count as two of them until its third byte makes them one.
#[test]
fn replacement_characters_are_counted_once_where_the_window_moves_on() {
    let tokenizer = tokenizer(&sentence_piece(&["▁this"]));
    for before in 0..64 {
        let ids = [vec![FIRST_BYTE + 0x61; before], bytes("\u{FFFD}\u{FFFD}\u{FFFD}".as_bytes())].concat();
        assert_eq!(streamed(&tokenizer, &[1], &ids).concat(), "a".repeat(before) + "\u{FFFD}\u{FFFD}\u{FFFD}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Tokens are pieces of a text's bytes, cut anywhere, also where the prompt ends and in a text that breaks off.
    #[test]
    fn a_byte_level_stream_is_the_whole_text_without_the_prompt(
        characters in prop::collection::vec(0usize..CHARACTERS.len(), 1..80),
        lengths in prop::collection::vec(1usize..6, 400),
        prompt in 0usize..20,
        lost in 0usize..3,
    ) {
        let text: String = characters.into_iter().map(|index| CHARACTERS[index]).collect();
        let mut rest = &text.as_bytes()[..text.len() - lost.min(text.len())];
        let mut pieces: Vec<&[u8]> = vec![];
        for length in lengths {
            let (piece, after) = rest.split_at(length.min(rest.len()));
            pieces.extend((!piece.is_empty()).then_some(piece));
            rest = after;
        }
        let mut known = pieces.clone();
        known.retain(|piece| piece.len() > 1);
        known.sort_unstable();
        known.dedup();
        let id = |piece: &&[u8]| match piece {
            [byte] => u32::from(*byte),
            piece => FIRST_PIECE + known.binary_search(piece).unwrap() as u32,
        };
        let json = byte_level(&known);
        let ids: Vec<u32> = pieces.iter().map(id).collect();
        let (before, after) = ids.split_at(prompt.min(ids.len()));

        let library: Tokenizer = json.to_string().parse().unwrap();
        let prompt_text = library.decode(before, false).unwrap();
        let whole = library.decode(&ids, false).unwrap();
        prop_assert_eq!(streamed(&tokenizer(&json), before, after).concat(), new(&whole, &prompt_text));
    }

    /// Tokens are words, or the bytes of what is in none.
    #[test]
    fn a_sentence_piece_stream_is_the_whole_text_without_the_prompt(
        parts in prop::collection::vec((0usize..CHARACTERS.len() + 3, any::<bool>()), 1..80),
        prompt in 0usize..20,
        old in any::<bool>(),
    ) {
        let words = ["▁this", "▁", "s", "ア", "é"];
        let json = if old { metaspace(&words) } else { sentence_piece(&words) };
        let parts: Vec<Vec<u32>> = parts.into_iter().map(|(index, whole)| match (CHARACTERS.get(index), words.iter().position(|word| CHARACTERS.get(index) == Some(word))) {
            (Some(_), Some(word)) if whole || old => vec![FIRST_WORD + word as u32],
            (Some(character), _) if !old => bytes(character.as_bytes()),
            _ => vec![FIRST_WORD + (index % words.len()) as u32],
        }).collect();
        let (before, after) = parts.split_at(prompt.min(parts.len()));
        let (before, after) = ([vec![1], before.concat()].concat(), after.concat());

        let library: Tokenizer = json.to_string().parse().unwrap();
        let prompt_text = library.decode(&before, false).unwrap();
        let whole = library.decode(&[before.as_slice(), &after].concat(), false).unwrap();
        prop_assert_eq!(streamed(&tokenizer(&json), &before, &after).concat(), new(&whole, &prompt_text));
    }
}

#[test]
fn truncation_and_padding_of_a_file_do_not_change_a_prompt() {
    let text = "a text of twenty-one!";
    let mut json = byte_level(&[]);
    let expected = tokenizer(&json).encode(text).unwrap();
    assert_eq!(expected.len(), 21);
    json["truncation"] = json!({ "direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0 });
    json["padding"] = json!({
        "strategy": { "Fixed": 96 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "!",
    });
    assert_eq!(tokenizer(&json).encode(text).unwrap(), expected);
    // One that contradicts itself counts for nothing either.
    json["truncation"]["stride"] = json!(8);
    assert_eq!(tokenizer(&json).encode(text).unwrap(), expected);
}

#[test]
fn a_model_without_a_tokenizer_refuses_text() {
    let missing = TextTokenizer::missing();
    for message in [missing.encode("a").unwrap_err().to_string(), missing.stream(&[1]).unwrap_err().to_string()] {
        assert_eq!(message, "the model came without a tokenizer");
    }
}

/// The message with which a file, or a text through it, is refused.
fn refusal(json: &str) -> String {
    match TextTokenizer::from_json(json) {
        Err(error) => error.to_string(),
        Ok(tokenizer) => tokenizer.encode("a text").unwrap_err().to_string(),
    }
}

#[test]
fn files_that_make_the_library_panic_are_unusable_tokenizers() {
    let whole = byte_level(&[]).to_string();
    let cut = &whole[..whole.find("\"decoder\"").unwrap() + 20];
    let mut empty_map = byte_level(&[]);
    empty_map["normalizer"] = json!({ "type": "Precompiled", "precompiled_charsmap": "" });
    let mut unlisted = sentence_piece(&["▁this"]);
    unlisted["post_processor"]["special_tokens"] = json!({});
    let mut prefix = byte_level(&[]);
    prefix["model"]["continuing_subword_prefix"] = json!("####");
    prefix["model"]["merges"] = json!([["a", "b"]]);
    prefix["model"]["vocab"]["ab"] = json!(256);
    for (name, json) in [
        ("cut", cut.to_owned()),
        ("empty map", empty_map.to_string()),
        ("unlisted token", unlisted.to_string()),
        ("short merge", prefix.to_string()),
        ("no JSON", "{".into()),
        ("a decoder of another type", whole.replace("\"ByteLevel\"", "7")),
    ] {
        let message = refusal(&json);
        assert!(message.starts_with("unusable tokenizer: "), "{name}: {message}");
        assert!(message.chars().count() < 700, "{name}: {message}");
        assert!(!panic_becomes_error(), "{name}: no call is under way");
    }
}

#[test]
fn a_decoder_that_panics_is_an_error() {
    let mut json = sentence_piece(&["sss"]);
    json["decoder"] = json!({ "type": "Strip", "content": "s", "start": 0, "stop": 9 });
    let tokenizer = tokenizer(&json);
    let message = tokenizer.stream(&[]).unwrap().push(FIRST_WORD).unwrap_err().to_string();
    assert!(message.starts_with("unusable tokenizer: the library `tokenizers` panicked"), "{message}");
}

#[test]
fn endless_tokens_are_refused_at_once() {
    let long = "x".repeat(100_000);
    let mut added = byte_level(&[]);
    added["added_tokens"] = json!([{ "id": 256, "content": long, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true }]);
    let unigram = sentence_piece(&[&long]);
    for json in [added, unigram] {
        let message = refusal(&json.to_string());
        assert!(message.contains("has 100000 bytes; the limit is"), "{message}");
    }
}

/// The steps of each would ask for more memory than there is, which ends the process.
#[test]
fn steps_that_lengthen_a_text_without_end_are_refused() {
    let double = json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "aa" });
    let mut normalizer = byte_level(&[]);
    normalizer["normalizer"] = json!({ "type": "Sequence", "normalizers": vec![double.clone(); 40] });
    let mut decoder = sentence_piece(&["aa"]);
    decoder["decoder"] = json!({ "type": "Sequence", "decoders": vec![double; 40] });
    let mut prepend = sentence_piece(&["▁this"]);
    prepend["normalizer"]["normalizers"] = json!(vec![json!({ "type": "Prepend", "prepend": "x".repeat(1000) }); 12]);
    for json in [normalizer, decoder, prepend] {
        let message = TextTokenizer::from_json(&json.to_string()).unwrap_err().to_string();
        assert!(message.contains("times longer; the limit is 64"), "{message}");
    }
}

/// The library takes its tree of tokens down by recursion.
#[test]
fn the_longest_token_that_is_read_does_no_harm() {
    let long = "x".repeat(4096);
    let tokenizer = tokenizer(&sentence_piece(&[&long]));
    assert!(tokenizer.encode(&long).unwrap().contains(&FIRST_WORD));
    drop(tokenizer);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A changed byte, or a value taken from another place, is another tokenizer or an error.
    #[test]
    fn changed_files_do_not_panic(
        kind in 0usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0usize..12), 1..4),
    ) {
        let mut file = match kind {
            0 => byte_level(&[b"ab"]),
            1 => sentence_piece(&["▁this"]),
            _ => metaspace(&["▁this"]),
        }.to_string().into_bytes();
        for (to, from, len) in changes {
            let (to, from) = (to.index(file.len()), from.index(file.len()));
            let copied = file[from..(from + len).min(file.len())].to_vec();
            file.splice(to..(to + len).min(file.len()), copied);
        }
        if let Ok(tokenizer) = TextTokenizer::from_json(&String::from_utf8_lossy(&file)) {
            let ids = tokenizer.encode("this is アイ\u{FFFD}").unwrap_or_default();
            let _ = tokenizer.stream(&ids).and_then(|mut stream| stream.push(FIRST_WORD));
        }
    }
}
