//! What `generation_config.json` asks of a greedy text.

use crate::LoadError;
use crate::hugging_face::document::Document;
use crate::hugging_face::neutral::{self, ABSENT, EMPTY, Key, NONE, ONE};

/// Keys by which transformers changes the logits of a greedy text, or ends it (`_get_logits_processor` and
/// `_get_stopping_criteria` in its `generation/utils.py`). Absent are those of sampling and of other searches, which
/// a greedy text does not have, `eos_token_id`, and `repetition_penalty`, for which see [`note`].
const KEYS: [Key; 13] = [
    ("suppress_tokens", EMPTY),
    ("begin_suppress_tokens", EMPTY),
    ("bad_words_ids", EMPTY),
    ("sequence_bias", EMPTY),
    ("forced_bos_token_id", ABSENT),
    ("forced_eos_token_id", ABSENT),
    ("forced_decoder_ids", EMPTY),
    ("no_repeat_ngram_size", NONE),
    ("min_length", NONE),
    ("min_new_tokens", NONE),
    ("exponential_decay_length_penalty", ABSENT),
    ("guidance_scale", ONE),
    ("stop_strings", EMPTY),
];

/// Reads a `generation_config.json`.
pub(super) fn parse(text: &str) -> Result<Document, LoadError> {
    Document::parse("generation_config.json", text)
}

/// Refuses the first key that changes a greedy text.
pub(super) fn check(file: &Document) -> Result<(), LoadError> {
    neutral::check_keys(file, &KEYS)
}

/// What a user must know who compares the text with another program's: some folders ask for a penalty that is made
/// for sampling, and to refuse them would gain nothing.
pub(super) fn note(file: &Document) -> Result<Option<String>, LoadError> {
    let penalty = file.number("repetition_penalty")?.filter(|penalty| *penalty != 1.0);
    Ok(penalty.map(|penalty| format!("`repetition_penalty` {penalty} of generation_config.json is not applied")))
}
