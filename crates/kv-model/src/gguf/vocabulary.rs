//! The tokenizer in a file's metadata: byte-level BPE.

use std::collections::BTreeSet;

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

/// Keys that would change the ids of a text or what is chosen, and ask for what byte-level BPE does not do here.
const FOREIGN: [&str; 7] = [
    "tokenizer.ggml.add_sep_token",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.remove_extra_whitespaces",
    "tokenizer.ggml.precompiled_charsmap",
    "tokenizer.ggml.normalizer.lowercase",
    "tokenizer.ggml.normalizer.strip_accents",
    "tokenizer.ggml.suppress_tokens",
];

/// Builds the tokenizer of a file.
pub(super) fn tokenizer(file: &File<'_>) -> Result<TextTokenizer, LoadError> {
    let model = file.string("tokenizer.ggml.model")?;
    if model != "gpt2" {
        return Err(LoadError::key("tokenizer.ggml.model", format!("is `{model}`; only byte-level BPE (`gpt2`) is supported")));
    }
    refuse_foreign(file)?;
    let splitting = Splitting::of(file.string("tokenizer.ggml.pre")?)?;
    let tokens = file.array("tokenizer.ggml.tokens")?.strings("tokenizer.ggml.tokens")?;
    let merges = file.array("tokenizer.ggml.merges")?.strings("tokenizer.ggml.merges")?;
    let types = types(file, tokens.len())?;
    let vocabulary: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), id.into())).collect();
    if vocabulary.len() < tokens.len() {
        let mut seen = BTreeSet::new();
        let twice = tokens.iter().find(|token| !seen.insert(**token)).copied().unwrap_or_default();
        return Err(LoadError::key("tokenizer.ggml.tokens", format!("names `{twice}` twice")));
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

/// Refuses what another kind of vocabulary would do; a key that is false or empty asks for nothing.
fn refuse_foreign(file: &File<'_>) -> Result<(), LoadError> {
    for key in FOREIGN {
        let asks = match file.value(key) {
            None | Some(Stored::Bool(false)) => false,
            Some(Stored::Array(array)) => !array.is_empty(),
            Some(_) => true,
        };
        if asks {
            return Err(LoadError::key(key, "asks for what is not done here with byte-level BPE, and would change the text"));
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
