//! The tokens with a meaning of their own: where a prompt begins, and what ends a text.

use std::collections::BTreeSet;

use crate::LoadError;
use crate::gguf::{File, Value};

/// Tokens that end a text wherever they occur in a vocabulary (`special_eog_ids` in llama.cpp's `llama-vocab.cpp`):
/// a file's `eos_token_id` names one of them, and a chat model ends its turn with another.
const ENDS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Keys whose token ends a text, with the names it is known by if the file has no such key.
const END_KEYS: [(&str, &[&str]); 6] = [
    ("tokenizer.ggml.eos_token_id", &[]),
    ("tokenizer.ggml.eot_token_id", &[]),
    ("tokenizer.ggml.eom_token_id", &[]),
    ("tokenizer.ggml.fim_pad_token_id", &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"]),
    ("tokenizer.ggml.fim_rep_token_id", &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"]),
    ("tokenizer.ggml.fim_sep_token_id", &["<|file_sep|>"]),
];

/// The ids that end a text.
pub(super) struct Ends {
    /// All of them.
    pub(super) ids: BTreeSet<u32>,
    /// Those known by their name, which are never plain text, whatever `tokenizer.ggml.token_type` says.
    pub(super) named: BTreeSet<u32>,
}

/// The id that a key names, if it names one: in files without such a token the key is missing, or all ones.
///
/// # Errors
/// [`LoadError::Key`] if there is no such token.
pub(super) fn id(file: &File<'_>, key: &str, tokens: usize) -> Result<Option<u32>, LoadError> {
    match file.value(key) {
        None | Some(Value::Integer(-1 | 0xFFFF_FFFF)) => Ok(None),
        Some(_) => match file.count(key)? {
            id if id < tokens => Ok(Some(id as u32)),
            id => Err(LoadError::key(key, format!("is {id}, and there are {tokens} tokens"))),
        },
    }
}

/// The ids that end a text of this file.
///
/// # Errors
/// [`LoadError::Key`] if a key names a token that does not exist.
pub(super) fn ends(file: &File<'_>, tokens: &[&str]) -> Result<Ends, LoadError> {
    let position = |name: &str| tokens.iter().position(|token| *token == name).map(|id| id as u32);
    let mut named: BTreeSet<u32> = ENDS.into_iter().filter_map(position).collect();
    let mut keyed = BTreeSet::new();
    for (key, names) in END_KEYS {
        match id(file, key, tokens.len())? {
            Some(id) => keyed.extend([id]),
            None => named.extend(names.iter().find_map(|name| position(name))),
        }
    }
    let mut ids = &named | &keyed;
    // llama.cpp's exceptions: beside these tokens, `<|end|>` only closes a channel, and `</s>` is a leftover.
    let has = |name: &str| position(name).is_some_and(|id| ids.contains(&id));
    let channels = (has("<|return|>") && has("<|call|>")) || (has("<|flush|>") && (has("<|call|>") || has("<|calls|>")));
    let no_ends = [("<|end|>", channels), ("</s>", has("<|tool_response>"))];
    for (name, _) in no_ends.into_iter().filter(|(_, applies)| *applies) {
        ids.retain(|id| position(name) != Some(*id));
        named.retain(|id| position(name) != Some(*id));
    }
    Ok(Ends { ids, named })
}
