//! Whether a model's folder has a tokenizer.

use std::path::Path;

use crate::Problem;

/// Tokenizers in other formats than the one that is read.
const OTHER_FORMATS: [&[&str]; 4] = [&["tokenizer.model"], &["spiece.model"], &["vocab.json", "merges.txt"], &["vocab.txt"]];

/// Refuses a folder without `tokenizer.json`: the model runs, but its ids cannot be turned into text.
///
/// # Errors
/// A [`Problem`] that says what is there instead, and how to make what is missing.
pub(super) fn require_tokenizer(folder: &Path) -> Result<(), Problem> {
    if folder.join("tokenizer.json").exists() {
        return Ok(());
    }
    let shown = folder.display();
    let found = OTHER_FORMATS.into_iter().find(|files| files.iter().all(|file| folder.join(file).exists()));
    let problem = Problem::new(format!("the model `{shown}` has no tokenizer.json, so it cannot read or write text"));
    Err(match found {
        Some(files) => problem.help(format!(
            "it has `{}`, which is not supported; `transformers` can convert it:\n\
             python -c \"from transformers import AutoTokenizer as T; T.from_pretrained('{shown}').save_pretrained('{shown}')\"",
            files.join("` and `")
        )),
        None => {
            problem.help("copy tokenizer.json from where the model comes from; a sweep needs none, because its prompts are random tokens")
        }
    })
}
