//! What `tokenizer_config.json` says about the tokens at the edges of a prompt.

use serde_json::Value;

use crate::hugging_face::document::Document;
use crate::{LoadError, TextTokenizer};

/// Says where `add_bos_token` and `add_eos_token` contradict `tokenizer.json`, which is what counts.
///
/// transformers 5 drops both keys if there is a `tokenizer.json` (`_from_pretrained` in `tokenization_utils_base.py`).
/// Release 4 followed them in Llama's tokenizers (`LlamaTokenizerFast.update_post_processor`) and in no others.
pub(super) fn notes(config: &str, tokenizer: &TextTokenizer) -> Result<Vec<String>, LoadError> {
    let config = Document::parse("tokenizer_config.json", config)?;
    // A tokenizer that refuses this text refuses the prompt as well, and says why there.
    let Ok(ids) = tokenizer.encode("a") else { return Ok(vec![]) };
    let mut notes = vec![];
    for (flag, key, edge) in [("add_bos_token", "bos_token", ids.first()), ("add_eos_token", "eos_token", ids.last())] {
        let (Some(asked), Some(token)) = (config.flag(flag)?, token(&config, key)) else { continue };
        let adds = edge.copied() == tokenizer.id(token) && edge.is_some();
        if adds != asked {
            let does = if adds { "adds" } else { "does not add" };
            notes.push(format!(
                "`{flag}` is {asked} in tokenizer_config.json, but tokenizer.json {does} `{token}`: tokenizer.json is followed, as in \
                 transformers 5"
            ));
        }
    }
    Ok(notes)
}

/// A token is stored as its text or as an object with it.
fn token<'a>(config: &'a Document, key: &str) -> Option<&'a str> {
    let stored = config.value(key)?;
    stored.as_str().or_else(|| stored.get("content").and_then(Value::as_str))
}
