//! The ids that end a text, as `config.json` and `generation_config.json` name them.

use serde_json::Value;

use crate::LoadError;
use crate::hugging_face::document::Document;

const KEY: &str = "eos_token_id";

/// The ids of all the files, in order: each file's end a text.
///
/// # Errors
/// [`LoadError::Key`] if one of them is no id.
pub(super) fn union<'a>(files: impl IntoIterator<Item = &'a Document>) -> Result<Vec<u32>, LoadError> {
    let mut ids = vec![];
    for file in files {
        ids.extend(of(file)?);
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// One id, a list, or none (left out, null, or -1).
fn of(file: &Document) -> Result<Vec<u32>, LoadError> {
    let Some(stored) = file.value(KEY) else { return Ok(vec![]) };
    let ids = match stored {
        Value::Array(ids) => ids.as_slice(),
        one => std::slice::from_ref(one),
    };
    let ids = ids.iter().filter(|id| **id != -1);
    ids.map(|id| {
        let expected = "it must be one token id below 2³², a list of them, or -1 for none";
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| file.wrong(KEY, format!("is {stored}; {expected}")))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(eos_token_id: &str) -> Document {
        Document::parse("config.json", &format!(r#"{{"eos_token_id": {eos_token_id}}}"#)).unwrap()
    }

    #[test]
    fn a_text_ends_where_either_file_says() {
        assert_eq!(union([&file("3"), &file("[2, 7]")]).unwrap(), [2, 3, 7]);
        assert_eq!(union([&file("[7, 2]"), &file("2")]).unwrap(), [2, 7]);
        assert_eq!(union([&file("3"), &Document::parse("config.json", "{}").unwrap()]).unwrap(), [3]);
    }

    #[test]
    fn minus_one_is_no_id() {
        for none in ["-1", "null", "[]", "[-1]"] {
            assert_eq!(of(&file(none)).unwrap(), [0u32; 0], "{none}");
        }
    }

    #[test]
    fn what_is_no_id_is_refused_by_its_name() {
        for stored in ["-2", "4294967296", "\"</s>\"", "[1,-2]", "[[1]]"] {
            let message = of(&file(stored)).unwrap_err().to_string();
            assert!(message.starts_with(&format!("key `eos_token_id` is {stored}; it must be one token id")), "{message}");
        }
    }
}
