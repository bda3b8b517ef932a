//! The tokenizer in a file's metadata: byte-level BPE.

use serde_json::{Value, json};

use crate::gguf::File;
use crate::{LoadError, TextTokenizer};

/// `tokenizer.ggml.token_type`: a token with a meaning of its own, such as end of text.
const CONTROL: i64 = 3;
/// `tokenizer.ggml.token_type`: a token that is matched in the text before it is split.
const USER_DEFINED: i64 = 4;

/// Builds the tokenizer of a file.
pub(super) fn tokenizer(file: &File<'_>) -> Result<TextTokenizer, LoadError> {
    let model = file.string("tokenizer.ggml.model")?;
    if model != "gpt2" {
        return Err(LoadError::key("tokenizer.ggml.model", format!("is `{model}`; only byte-level BPE (`gpt2`) is supported")));
    }
    let pre = file.string("tokenizer.ggml.pre")?;
    let splitting = Splitting::of(pre)?;
    let tokens = file.array("tokenizer.ggml.tokens")?.strings("tokenizer.ggml.tokens")?;
    let merges = file.array("tokenizer.ggml.merges")?.strings("tokenizer.ggml.merges")?;
    let types = match file.value("tokenizer.ggml.token_type") {
        Some(_) => file.array("tokenizer.ggml.token_type")?.integers("tokenizer.ggml.token_type")?,
        None => vec![],
    };
    let special = tokens.iter().zip(&types).enumerate().filter(|(_, (_, kind))| matches!(**kind, CONTROL | USER_DEFINED));
    let added: Vec<Value> = special
        .map(|(id, (content, kind))| {
            let special = *kind == CONTROL;
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special })
        })
        .collect();
    let vocabulary: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), id.into())).collect();
    let description = json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": splitting.normalizer,
        "pre_tokenizer": splitting.pre_tokenizer,
        "post_processor": null,
        "decoder": byte_level(false),
        "model": { "type": "BPE", "vocab": vocabulary, "merges": merges, "ignore_merges": splitting.ignore_merges },
    });

    let add_bos = match file.value("tokenizer.ggml.add_bos_token") {
        Some(_) => file.bool("tokenizer.ggml.add_bos_token")?,
        None => splitting.adds_bos,
    };
    let token = |key: &str| match file.value(key) {
        None => Ok(None),
        Some(_) => match file.count(key)? {
            id if id < tokens.len() => Ok(Some(id as u32)),
            id => Err(LoadError::key(key, format!("is {id}, and there are {} tokens", tokens.len()))),
        },
    };
    let bos = token("tokenizer.ggml.bos_token_id")?;
    let prefix = if add_bos {
        vec![bos.ok_or_else(|| LoadError::key("tokenizer.ggml.bos_token_id", "is missing, and `add_bos_token` asks for it"))?]
    } else {
        vec![]
    };
    let ends = [token("tokenizer.ggml.eos_token_id")?, token("tokenizer.ggml.eot_token_id")?].into_iter().flatten().collect();
    TextTokenizer::from_json(&description.to_string(), prefix, ends)
}

/// How text is split before merges apply; `tokenizer.ggml.pre` names it.
struct Splitting {
    normalizer: Value,
    pre_tokenizer: Value,
    /// Whether a piece that is in the vocabulary is taken whole.
    ignore_merges: bool,
    /// Whether a prompt starts with the BOS token if the file does not say.
    adds_bos: bool,
}

impl Splitting {
    fn of(pre: &str) -> Result<Splitting, LoadError> {
        let plain = Splitting { normalizer: Value::Null, pre_tokenizer: byte_level(true), ignore_merges: false, adds_bos: false };
        match pre {
            "gpt2" | "gpt-2" | "default" => Ok(plain),
            "smollm" => {
                let digits = json!({ "type": "Digits", "individual_digits": true });
                Ok(Splitting { pre_tokenizer: sequence([digits, byte_level(true)]), ..plain })
            }
            "llama-bpe" | "llama3" | "llama-v3" => Ok(Splitting {
                pre_tokenizer: sequence([split(&pattern("{1,3}")), byte_level(false)]),
                ignore_merges: true,
                adds_bos: true,
                ..plain
            }),
            "qwen2" => {
                let pre_tokenizer = sequence([split(&pattern("")), byte_level(false)]);
                Ok(Splitting { normalizer: json!({ "type": "NFC" }), pre_tokenizer, ..plain })
            }
            other => Err(LoadError::key("tokenizer.ggml.pre", format!("is `{other}`; known are gpt2, smollm, llama-bpe and qwen2"))),
        }
    }
}

/// The splitting pattern of Llama 3 and Qwen 2, which differ in how many digits go together.
fn pattern(digits: &str) -> String {
    format!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
}

fn split(pattern: &str) -> Value {
    json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false })
}

fn sequence(parts: [Value; 2]) -> Value {
    json!({ "type": "Sequence", "pretokenizers": parts })
}

fn byte_level(use_regex: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex })
}
