//! The tokenizer in a file's metadata: byte-level BPE.

use serde_json::{Value, json};

use crate::gguf::special::{self, Ends};
use crate::gguf::splitting::Splitting;
use crate::gguf::{File, Value as Stored};
use crate::{LoadError, TextTokenizer};

/// `tokenizer.ggml.token_type`: what stands for text that the vocabulary cannot spell.
const UNKNOWN: i64 = 2;
/// `tokenizer.ggml.token_type`: a token with a meaning of its own, such as end of text.
const CONTROL: i64 = 3;
/// `tokenizer.ggml.token_type`: a token that is matched in the text before it is split.
const USER_DEFINED: i64 = 4;

/// Keys that change the ids of a text, or which tokens may be generated, and that are not supported.
const FOREIGN: [&str; 7] = [
    "tokenizer.ggml.add_sep_token",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.remove_extra_whitespaces",
    "tokenizer.ggml.precompiled_charsmap",
    "tokenizer.ggml.normalizer.lowercase",
    "tokenizer.ggml.normalizer.strip_accents",
    "tokenizer.ggml.suppress_tokens",
];

const PRE: &str = "tokenizer.ggml.pre";

/// What a user must know who reads the text of this file.
pub(super) fn notes(file: &File<'_>) -> Vec<String> {
    match file.value(PRE) {
        Some(_) => vec![],
        None => vec![format!(
            "the file has no `{PRE}`: text is split as by `default`, as in llama.cpp, which may not be how the model was trained"
        )],
    }
}

/// Builds the tokenizer of a file.
pub(super) fn tokenizer(file: &File<'_>) -> Result<TextTokenizer, LoadError> {
    let model = file.string("tokenizer.ggml.model")?;
    if model != "gpt2" {
        return Err(LoadError::key("tokenizer.ggml.model", format!("is `{model}`; only byte-level BPE (`gpt2`) is supported")));
    }
    refuse_foreign(file)?;
    // As in llama.cpp, which warns.
    let splitting = Splitting::of(if file.value(PRE).is_some() { file.string(PRE)? } else { "default" })?;
    let tokens = file.array("tokenizer.ggml.tokens")?.strings("tokenizer.ggml.tokens")?;
    let merges = file.array("tokenizer.ggml.merges")?.strings("tokenizer.ggml.merges")?;
    let types = types(file, tokens.len())?;
    let vocabulary: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), id.into())).collect();
    if vocabulary.len() < tokens.len() {
        let repeats = tokens.len() - vocabulary.len();
        return Err(LoadError::key(
            "tokenizer.ggml.tokens",
            format!("has {} tokens, {repeats} of which repeat an earlier one", tokens.len()),
        ));
    }
    let ends = special::ends(file, &tokens)?;
    let description = json!({
        "version": "1.0",
        "added_tokens": added(&tokens, &types, &ends),
        "normalizer": splitting.normalizer,
        "pre_tokenizer": splitting.pre_tokenizer,
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false },
        "model": { "type": "BPE", "vocab": vocabulary, "merges": merges, "ignore_merges": splitting.ignore_merges },
    });

    let edge = |add_key: &str, default: bool, id_key: &str| {
        let adds = if file.value(add_key).is_some() { file.bool(add_key)? } else { default };
        let id = special::id(file, id_key, tokens.len())?;
        match (adds, id) {
            (false, _) => Ok(vec![]),
            (true, Some(id)) => Ok(vec![id]),
            (true, None) => Err(LoadError::key(id_key, format!("is missing, and `{add_key}` asks for it"))),
        }
    };
    let before = edge("tokenizer.ggml.add_bos_token", splitting.adds_bos, "tokenizer.ggml.bos_token_id")?;
    let after = edge("tokenizer.ggml.add_eos_token", false, "tokenizer.ggml.eos_token_id")?;
    let tokenizer = TextTokenizer::from_json(&description.to_string())?;
    Ok(tokenizer.between(before, after).ended_by(ends.ids.into_iter().collect()))
}

/// Refuses the keys that are not supported, unless they are false or empty.
fn refuse_foreign(file: &File<'_>) -> Result<(), LoadError> {
    for key in FOREIGN {
        let asks = match file.value(key) {
            None | Some(Stored::Bool(false)) => false,
            Some(Stored::Array(array)) => !array.is_empty(),
            Some(_) => true,
        };
        if asks {
            return Err(LoadError::key(key, "is set, which is not supported with byte-level BPE and would change the text"));
        }
    }
    Ok(())
}

/// The type of each token; none if the file does not say.
fn types(file: &File<'_>, tokens: usize) -> Result<Vec<i64>, LoadError> {
    const KEY: &str = "tokenizer.ggml.token_type";
    if file.value(KEY).is_none() {
        return Ok(vec![]);
    }
    let types = file.array(KEY)?.integers(KEY)?;
    if types.len() < tokens {
        return Err(LoadError::key(KEY, format!("has {} types for {tokens} tokens", types.len())));
    }
    Ok(types)
}

/// The tokens that are matched in a text before it is split, as `tokenizer.json` lists them.
fn added(tokens: &[&str], types: &[i64], ends: &Ends) -> Vec<Value> {
    let mut added = vec![];
    for (id, content) in tokens.iter().enumerate() {
        let kind = types.get(id).copied();
        let control = matches!(kind, Some(CONTROL | UNKNOWN)) || ends.named.contains(&(id as u32));
        if control || kind == Some(USER_DEFINED) {
            added.push(json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                "special": control,
            }));
        }
    }
    added
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The metadata of a file without tensors.
    #[derive(Clone)]
    struct Metadata(Vec<(String, Vec<u8>)>);

    impl Metadata {
        /// Tokens that are letters, then `special`, all of them plain text; no merges.
        fn new(special: &[&str]) -> Metadata {
            let letters: Vec<String> = ('a'..='e').map(String::from).collect();
            let tokens: Vec<&str> = letters.iter().map(String::as_str).chain(special.iter().copied()).collect();
            Metadata(vec![])
                .with("tokenizer.ggml.model", 8, &string("gpt2"))
                .with("tokenizer.ggml.pre", 8, &string("gpt-2"))
                .with_list("tokenizer.ggml.tokens", 8, tokens.iter().map(|token| string(token)))
                .with_list("tokenizer.ggml.merges", 8, std::iter::empty())
        }

        fn with(mut self, key: &str, kind: u32, value: &[u8]) -> Metadata {
            self.0.retain(|(known, _)| known != key);
            self.0.push((key.to_owned(), [&kind.to_le_bytes(), value].concat()));
            self
        }

        fn with_id(self, key: &str, id: u32) -> Metadata {
            self.with(key, 4, &id.to_le_bytes())
        }

        fn with_bool(self, key: &str, value: bool) -> Metadata {
            self.with(key, 7, &[value.into()])
        }

        fn with_list(self, key: &str, kind: u32, elements: impl Iterator<Item = Vec<u8>>) -> Metadata {
            let elements: Vec<Vec<u8>> = elements.collect();
            let count = (elements.len() as u64).to_le_bytes();
            self.with(key, 9, &[kind.to_le_bytes().as_slice(), &count, &elements.concat()].concat())
        }

        fn bytes(&self) -> Vec<u8> {
            let mut bytes = [b"GGUF".as_slice(), &3u32.to_le_bytes(), &0u64.to_le_bytes(), &(self.0.len() as u64).to_le_bytes()].concat();
            for (key, value) in &self.0 {
                bytes.extend([string(key).as_slice(), value].concat());
            }
            bytes
        }

        fn load(&self) -> Result<TextTokenizer, LoadError> {
            let bytes = self.bytes();
            tokenizer(&File::parse(&bytes, bytes.len() as u64)?)
        }
    }

    fn string(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
    }

    fn ends(metadata: &Metadata) -> Vec<u32> {
        let tokenizer = metadata.load().unwrap();
        (0..20).filter(|id| tokenizer.is_end(*id)).collect()
    }

    #[test]
    fn the_names_in_use_end_a_text_beside_the_keys() {
        let file = Metadata::new(&["<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<|file_sep|>", "<|begin_of_text|>"]);
        assert_eq!(ends(&file), [5, 6, 7, 8]);
        assert_eq!(ends(&file.clone().with_id("tokenizer.ggml.eos_token_id", 0)), [0, 5, 6, 7, 8]);
        let keyed = file.with_id("tokenizer.ggml.eot_token_id", 1).with_id("tokenizer.ggml.eom_token_id", 2);
        assert_eq!(ends(&keyed.with_id("tokenizer.ggml.fim_sep_token_id", 3)), [1, 2, 3, 5, 6, 7]);
        assert_eq!(ends(&Metadata::new(&["<|return|>", "<|call|>", "<|end|>"])), [5, 6], "a channel's end is not the text's");
        assert_eq!(ends(&Metadata::new(&["</s>"])), [5]);
        assert_eq!(ends(&Metadata::new(&["</s>", "<|tool_response>"])), [6]);
    }

    #[test]
    fn a_name_that_ends_a_text_is_never_spelt_in_letters() {
        let tokenizer = Metadata::new(&["<|im_end|>"]).load().unwrap();
        assert_eq!(tokenizer.encode("ab<|im_end|>c").unwrap(), [0, 1, 5, 2]);
    }

    #[test]
    fn an_id_of_all_ones_is_none() {
        let file = Metadata::new(&[]).with_id("tokenizer.ggml.bos_token_id", u32::MAX).with_id("tokenizer.ggml.eos_token_id", u32::MAX);
        assert_eq!(file.load().unwrap().encode("ab").unwrap(), [0, 1]);
        assert_eq!(ends(&file.clone().with("tokenizer.ggml.eos_token_id", 5, &(-1i32).to_le_bytes())), [0u32; 0]);
        let message = file.clone().with_bool("tokenizer.ggml.add_bos_token", true).load().unwrap_err().to_string();
        assert_eq!(message, "key `tokenizer.ggml.bos_token_id` is missing, and `tokenizer.ggml.add_bos_token` asks for it");
        let message = file.with_id("tokenizer.ggml.bos_token_id", 7).load().unwrap_err().to_string();
        assert_eq!(message, "key `tokenizer.ggml.bos_token_id` is 7, and there are 5 tokens");
    }

    #[test]
    fn a_prompt_is_put_between_the_tokens_that_the_file_asks_for() {
        let file = Metadata::new(&["<s>", "</s>"]).with_id("tokenizer.ggml.bos_token_id", 5).with_id("tokenizer.ggml.eos_token_id", 6);
        assert_eq!(file.load().unwrap().encode("ab").unwrap(), [0, 1]);
        let both = file.with_bool("tokenizer.ggml.add_bos_token", true).with_bool("tokenizer.ggml.add_eos_token", true);
        assert_eq!(both.load().unwrap().encode("ab").unwrap(), [5, 0, 1, 6]);
    }

    #[test]
    fn keys_that_are_not_supported_are_refused_unless_they_are_off() {
        for key in ["tokenizer.ggml.add_space_prefix", "tokenizer.ggml.add_sep_token", "tokenizer.ggml.remove_extra_whitespaces"] {
            assert!(Metadata::new(&[]).with_bool(key, false).load().is_ok(), "{key}");
            let message = Metadata::new(&[]).with_bool(key, true).load().unwrap_err().to_string();
            assert!(message.starts_with(&format!("key `{key}` is set, which is not supported")), "{message}");
        }
        let suppressed = Metadata::new(&[]).with_list("tokenizer.ggml.suppress_tokens", 5, std::iter::once(vec![1, 0, 0, 0]));
        assert!(suppressed.load().is_err());
    }

    #[test]
    fn a_file_that_names_no_splitting_has_the_default_one() {
        let named = Metadata::new(&["Ġa", "1", "."]).with("tokenizer.ggml.pre", 8, &string("default"));
        let mut unnamed = named.clone();
        unnamed.0.retain(|(key, _)| key != PRE);
        let ids = |file: &Metadata| file.load().unwrap().encode("a a1.b").unwrap();
        assert_eq!(ids(&unnamed), ids(&named));
        let told = |file: &Metadata| {
            let bytes = file.bytes();
            notes(&File::parse(&bytes, bytes.len() as u64).unwrap())
        };
        assert!(told(&named).is_empty());
        assert!(told(&unnamed)[0].starts_with("the file has no `tokenizer.ggml.pre`"), "{:?}", told(&unnamed));
    }

    #[test]
    fn a_vocabulary_that_contradicts_itself_is_refused() {
        let message = Metadata::new(&["a"]).load().unwrap_err().to_string();
        assert_eq!(message, "key `tokenizer.ggml.tokens` has 6 tokens, 1 of which repeat an earlier one");
        let short = Metadata::new(&[]).with_list("tokenizer.ggml.token_type", 5, std::iter::repeat_n(vec![1, 0, 0, 0], 4));
        assert_eq!(short.load().unwrap_err().to_string(), "key `tokenizer.ggml.token_type` has 4 types for 5 tokens");
    }
}
