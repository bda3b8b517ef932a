//! Whether a model's folder says what its tokens mean.

use std::path::Path;

use crate::Problem;

/// Tokenizers in other formats than the one that is read.
const OTHER_FORMATS: [&[&str]; 4] = [&["tokenizer.model"], &["spiece.model"], &["vocab.json", "merges.txt"], &["vocab.txt"]];

/// Refuses a folder without `tokenizer.json`: the model runs on ids, but nobody knows their text.
///
/// # Errors
/// A [`Problem`] that says what is there instead, and how to make what is missing.
pub(super) fn require_tokenizer(folder: &Path) -> Result<(), Problem> {
    if folder.join("tokenizer.json").exists() {
        return Ok(());
    }
    let shown = folder.display();
    let found = OTHER_FORMATS.into_iter().find(|files| files.iter().all(|file| folder.join(file).exists()));
    let problem = Problem::new(format!("the model `{shown}` has no tokenizer.json, so its tokens stand for no text"));
    Err(match found {
        Some(files) => problem.help(format!(
            "it has `{}`, which cannot be read here; `transformers` writes the missing file:\n\
             python -c \"from transformers import AutoTokenizer as T; T.from_pretrained('{shown}').save_pretrained('{shown}')\"",
            files.join("` and `")
        )),
        None => problem.help("copy it from where the model comes from; a sweep needs none, because its prompts are random tokens"),
    })
}
