//! Text of a model in a folder, from the prompt to what is printed.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use workspace_tests::chain::{Chain, write_json};
use workspace_tests::tokenizers::{END, FIRST_BYTE, FIRST_WORD, sentence_piece};

const THIS: u32 = FIRST_WORD;
const WORLD: u32 = FIRST_WORD + 1;

fn words() -> Value {
    sentence_piece(&["▁this", "▁world"])
}

/// A folder with a model that continues "this" with " world", a character in bytes, `</s>`, and " world" again.
fn folder(config: &[(&str, Value)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u32> = "水".bytes().map(|byte| FIRST_BYTE + u32::from(byte)).collect();
    let chain = Chain::new(FIRST_WORD as usize + 2).then(&[&[THIS, WORLD], bytes.as_slice(), &[END, WORLD]].concat());
    chain.write(folder.path());
    let mut stored = chain.config();
    config.iter().for_each(|(key, value)| stored[key] = value.clone());
    write_json(folder.path(), "config.json", &stored);
    write_json(folder.path(), "tokenizer.json", &words());
    folder
}

fn runner(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    command.args(arguments).env("NO_COLOR", "1").env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    command.output().unwrap()
}

fn generate(folder: &Path, more: &[&str]) -> Output {
    let arguments = ["generate", "--model", folder.to_str().unwrap(), "--prompt", "this", "--max-new-tokens", "6"];
    runner(&[&arguments, more].concat())
}

fn sweep(folder: &Path) -> Output {
    let config = folder.join("sweep.toml");
    std::fs::write(
        &config,
        "[model]\nhugging_face = '.'\n[sweep]\nlengths = [8]\ndecode_steps = 2\n[[strategy]]\nlabel = 'a'\nuse = 'contiguous'\n",
    )
    .unwrap();
    let out = folder.join("out");
    runner(&[config.to_str().unwrap(), "--out", out.to_str().unwrap()])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A message without the line breaks and bars that a narrow screen gives it.
fn words_of(message: &str) -> String {
    message.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

#[test]
fn a_generated_text_continues_the_prompt_with_its_spaces_and_characters() {
    let folder = folder(&[]);
    let output = generate(folder.path(), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), " world水</s> world\n");
    let traced = text(&generate(folder.path(), &["--trace"]).stdout);
    assert!(traced.ends_with("\nthis world水</s> world\n"), "{traced}");
    let shown: Vec<&str> = traced.lines().filter(|line| line.contains("..")).map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(shown, ["prompt, 2 tokens", " world", "(incomplete)", "(incomplete)", "水", "</s>"], "{traced}");
}

#[test]
fn the_ids_of_generation_config_end_a_text_as_well() {
    for (config, generation_config, expected) in [
        (json!(2), json!(null), " world水\n"),
        (json!(-1), json!([2, 0]), " world水\n"),
        (json!([0, 1]), json!(WORLD), "\n"),
        (json!(-1), json!(-1), " world水</s> world\n"),
    ] {
        let folder = folder(&[("eos_token_id", config.clone())]);
        write_json(folder.path(), "generation_config.json", &json!({ "eos_token_id": generation_config, "do_sample": true }));
        let output = generate(folder.path(), &[]);
        assert_eq!(text(&output.stdout), expected, "{config} and {generation_config}: {}", text(&output.stderr));
    }
}

#[test]
fn a_folder_without_tokenizer_json_generates_nothing_and_says_what_is_missing() {
    let folder = folder(&[]);
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    for (files, expected) in [
        (&[][..], "copy tokenizer.json from where the model comes from"),
        (&["vocab.json", "merges.txt"], "it has `vocab.json` and `merges.txt`, which is not supported"),
        (&["tokenizer.model"], "it has `tokenizer.model`, which is not supported"),
    ] {
        files.iter().for_each(|name| std::fs::write(folder.path().join(name), "").unwrap());
        let output = generate(folder.path(), &[]);
        let message = words_of(&text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("has no tokenizer.json") && message.contains(expected), "{message}");
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn a_folder_without_tokenizer_json_can_be_swept() {
    let folder = folder(&[]);
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let output = sweep(folder.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_tokenizer_that_makes_the_library_panic_is_one_clean_message() {
    let folder = folder(&[]);
    let mut unlisted = words();
    unlisted["post_processor"]["special_tokens"] = json!({});
    let mut empty_map = words();
    empty_map["normalizer"] = json!({ "type": "Precompiled", "precompiled_charsmap": "" });
    let whole = words().to_string();
    for json in [unlisted.to_string(), empty_map.to_string(), whole[..whole.find("\"decoder\"").unwrap() + 20].to_owned()] {
        std::fs::write(folder.path().join("tokenizer.json"), json).unwrap();
        let output = generate(folder.path(), &[]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(words_of(&message).contains("unusable tokenizer"), "{message}");
        assert!(!message.contains("panicked at") && !message.contains("RUST_BACKTRACE"), "{message}");
    }
}

#[test]
fn keys_of_generation_config_that_change_a_greedy_text_stop_it_but_no_sweep() {
    let folder = folder(&[]);
    for (key, neutral, value) in [
        ("suppress_tokens", json!([]), json!([WORLD])),
        ("begin_suppress_tokens", json!(null), json!([WORLD])),
        ("bad_words_ids", json!([]), json!([[WORLD]])),
        ("forced_bos_token_id", json!(null), json!(1)),
        ("forced_eos_token_id", json!(null), json!(END)),
        ("no_repeat_ngram_size", json!(0), json!(2)),
        ("min_new_tokens", json!(null), json!(4)),
        ("min_length", json!(0), json!(4)),
        ("guidance_scale", json!(1.0), json!(1.5)),
        ("stop_strings", json!(null), json!(["world"])),
    ] {
        write_json(folder.path(), "generation_config.json", &json!({ key: neutral }));
        let output = generate(folder.path(), &[]);
        assert_eq!(text(&output.stdout), " world水</s> world\n", "{key}: {}", text(&output.stderr));
        write_json(folder.path(), "generation_config.json", &json!({ key: value }));
        let output = generate(folder.path(), &[]);
        let message = words_of(&text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{key}: {message}");
        assert!(message.contains(&format!("key `generation_config.json: {key}` is ")), "{message}");
        assert!(!message.contains("loading"), "before the weights are read: {message}");
    }
    assert!(sweep(folder.path()).status.success(), "prompts of a sweep are random tokens");
}

#[test]
fn a_repetition_penalty_is_not_applied_and_the_user_is_told() {
    let folder = folder(&[]);
    let told = |penalty: f64| {
        write_json(folder.path(), "generation_config.json", &json!({ "repetition_penalty": penalty }));
        let output = generate(folder.path(), &[]);
        assert_eq!(text(&output.stdout), " world水</s> world\n");
        words_of(&text(&output.stderr)).contains("`repetition_penalty` 1.05 of generation_config.json is not applied")
    };
    assert!(told(1.05));
    assert!(!told(1.0));
}

/// The tokenizer adds `<s>` and nothing at the end.
#[test]
fn flags_of_tokenizer_config_that_contradict_the_tokenizer_are_named() {
    let folder = folder(&[]);
    let told = |config: Value| {
        write_json(folder.path(), "tokenizer_config.json", &config);
        let output = generate(folder.path(), &[]);
        assert_eq!(text(&output.stdout), " world水</s> world\n", "{config}: {}", text(&output.stderr));
        words_of(&text(&output.stderr))
    };
    let bos = json!({ "content": "<s>", "special": true });
    let agreed = json!({ "add_bos_token": true, "add_eos_token": false, "bos_token": bos, "eos_token": "</s>" });
    assert!(!told(agreed).contains("tokenizer_config"), "both agree");
    assert!(!told(json!({ "add_bos_token": false, "bos_token": null })).contains("tokenizer_config"), "there is no such token");
    let message = told(json!({ "add_bos_token": false, "bos_token": bos }));
    assert!(message.contains("`add_bos_token` is false in tokenizer_config.json, but tokenizer.json adds `<s>`"), "{message}");
    let message = told(json!({ "add_eos_token": true, "eos_token": "</s>" }));
    assert!(message.contains("`add_eos_token` is true in tokenizer_config.json, but tokenizer.json does not add `</s>`"), "{message}");
}

#[test]
fn a_folder_of_another_model_is_refused_as_that_before_its_tokenizer() {
    let folder = folder(&[("model_type", json!("gpt2"))]);
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let message = words_of(&text(&generate(folder.path(), &[]).stderr));
    assert!(message.contains("key `model_type` is `gpt2`") && !message.contains("tokenizer"), "{message}");
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    let message = words_of(&text(&generate(folder.path(), &[]).stderr));
    assert!(message.contains("has no config.json") && !message.contains("tokenizer"), "{message}");
}

#[test]
fn a_trace_tells_an_id_without_text_from_the_beginning_of_a_character() {
    let folder = folder(&[]);
    let beyond = FIRST_WORD + 2;
    let incomplete = FIRST_BYTE + 0xE6;
    let chain = Chain::new(beyond as usize + 1).then(&[THIS, beyond, incomplete, WORLD]);
    chain.write(folder.path());
    let traced = text(&generate(folder.path(), &["--trace"]).stdout);
    let shown: Vec<&str> = traced.lines().filter(|line| line.contains("..")).map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(shown[1..3], [format!("(no text, id {beyond})").as_str(), "(incomplete)"], "{traced}");
}
