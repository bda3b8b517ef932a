//! The ids that end a text, as `config.json` and `generation_config.json` name them.

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use crate::LoadError;

/// `eos_token_id`: one id, a list, or none (left out, null, or -1).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct EndIds(Vec<u32>);

/// What of `generation_config.json` a greedy text needs.
#[derive(Deserialize)]
struct GenerationConfig {
    #[serde(default)]
    eos_token_id: EndIds,
}

/// The ids of `config.json` and those of a `generation_config.json`: either file's end a text.
///
/// # Errors
/// [`LoadError::File`] if `generation_config` is not readable.
pub(crate) fn union(config: &EndIds, generation_config: Option<&str>) -> Result<Vec<u32>, LoadError> {
    let mut ids = config.0.clone();
    if let Some(json) = generation_config {
        let parsed: GenerationConfig = serde_json::from_str(json.trim_start_matches('\u{FEFF}'))
            .map_err(|error| LoadError::File { format: "generation_config.json", reason: error.to_string() })?;
        ids.extend(parsed.eos_token_id.0);
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

impl<'de> Deserialize<'de> for EndIds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EndIds, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "`eos_token_id` must be one token id, a list of them, or -1 for none")]
        enum Stored {
            None,
            One(i64),
            Many(Vec<i64>),
        }
        let ids = match Stored::deserialize(deserializer)? {
            Stored::None => vec![],
            Stored::One(id) => vec![id],
            Stored::Many(ids) => ids,
        };
        let ids = ids.into_iter().filter(|id| *id != -1).map(|id| {
            u32::try_from(id)
                .map_err(|_| D::Error::custom(format!("`eos_token_id` is {id}: a token id is not negative (-1: none) and below 2³²")))
        });
        ids.collect::<Result<_, _>>().map(EndIds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(eos_token_id: &str) -> EndIds {
        serde_json::from_str(eos_token_id).unwrap()
    }

    #[test]
    fn a_text_ends_where_either_file_says() {
        let generation_config = r#"{"eos_token_id": [2, 7], "temperature": 0.6}"#;
        assert_eq!(union(&of("3"), Some(generation_config)).unwrap(), [2, 3, 7]);
        assert_eq!(union(&of("[7, 2]"), Some(r#"{"eos_token_id": 2}"#)).unwrap(), [2, 7]);
        assert_eq!(union(&of("3"), Some("{}")).unwrap(), [3]);
        assert_eq!(union(&EndIds::default(), None).unwrap(), [0u32; 0]);
    }

    #[test]
    fn minus_one_is_no_id() {
        for none in ["-1", "null", "[]", "[-1]"] {
            assert_eq!(of(none), EndIds(vec![]), "{none}");
        }
    }

    #[test]
    fn what_is_no_id_is_refused_by_its_name() {
        for (stored, expected) in [("-2", "`eos_token_id` is -2"), ("4294967296", "is 4294967296"), ("\"</s>\"", "must be one token id")] {
            let message = serde_json::from_str::<EndIds>(stored).unwrap_err().to_string();
            assert!(message.contains(expected), "{stored}: {message}");
        }
        let message = union(&EndIds::default(), Some("{")).unwrap_err().to_string();
        assert!(message.starts_with("not a readable generation_config.json file: EOF"), "{message}");
    }
}
