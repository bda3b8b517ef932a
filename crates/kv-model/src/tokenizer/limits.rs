//! Sizes of a `tokenizer.json` that no tokenizer in use reaches, checked before the library reads it.
//!
//! The library builds a tree with a level for each byte of a token and takes it down by recursion, and its search
//! for added tokens takes time with their whole length: a file of a few hundred kilobytes could end the process or
//! keep it for minutes. Steps that lengthen a text multiply: forty that double it ask for a terabyte.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::guard::unusable;
use crate::LoadError;

/// The largest in use are about 35 MB.
const MOST_FILE_BYTES: usize = 256 << 20;
/// The longest tokens in use are runs of spaces or dashes, which stay well below this.
const MOST_TOKEN_BYTES: usize = 4096;
/// A merge names two tokens.
const MOST_MERGE_BYTES: usize = 2 * MOST_TOKEN_BYTES + 1;
/// Enough for 100,000 names of 20 bytes. At this limit, in tokens of 4096 bytes, the library takes about 3 s.
const MOST_ADDED_BYTES: usize = 2 << 20;
/// How many times longer the steps may make a text. The steps of Llama 2 reach 12: `▁` has three bytes.
const MOST_GROWTH: f64 = 64.0;

/// The parts of the file that grow with the vocabulary.
#[derive(Deserialize)]
struct Described<'a> {
    #[serde(default, borrow)]
    added_tokens: Vec<Added<'a>>,
    model: Option<Model>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    decoder: Value,
}

#[derive(Deserialize)]
struct Added<'a> {
    #[serde(borrow)]
    content: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
struct Model {
    #[serde(default)]
    vocab: Longest,
    #[serde(default)]
    merges: Longest,
    #[serde(default)]
    continuing_subword_prefix: Longest,
    #[serde(default)]
    end_of_word_suffix: Longest,
}

/// The length of the longest string in a JSON value, keys included.
#[derive(Default)]
struct Longest(usize);

/// Refuses a file that is no JSON, or too large for the library.
///
/// # Errors
/// [`LoadError::Tokenizer`] with the size and the limit.
pub(super) fn check(json: &str) -> Result<(), LoadError> {
    let within = |what: &str, bytes: usize, most: usize| match bytes <= most {
        true => Ok(()),
        false => Err(unusable(format!("{what} has {bytes} bytes; the limit is {most}"))),
    };
    within("the file", json.len(), MOST_FILE_BYTES)?;
    let Described { added_tokens, model, normalizer, pre_tokenizer, decoder } =
        serde_json::from_str(json).map_err(|error| unusable(error.to_string()))?;
    let lengths = added_tokens.iter().map(|token| token.content.len());
    within("its longest added token", lengths.clone().max().unwrap_or(0), MOST_TOKEN_BYTES)?;
    within("the list of its added tokens", lengths.sum(), MOST_ADDED_BYTES)?;
    let Model { vocab, merges, continuing_subword_prefix, end_of_word_suffix } = model.unwrap_or_default();
    within("its longest token", vocab.0, MOST_TOKEN_BYTES)?;
    within("its longest merge", merges.0, MOST_MERGE_BYTES)?;
    within("its `continuing_subword_prefix`", continuing_subword_prefix.0, MOST_TOKEN_BYTES)?;
    within("its `end_of_word_suffix`", end_of_word_suffix.0, MOST_TOKEN_BYTES)?;
    let before = growth(&normalizer) * growth(&pre_tokenizer);
    for (steps, growth) in [("`normalizer` and `pre_tokenizer`", before), ("`decoder`", growth(&decoder))] {
        if growth > MOST_GROWTH {
            return Err(unusable(format!("its {steps} can make a text {growth:.0} times longer; the limit is {MOST_GROWTH}")));
        }
    }
    Ok(())
}

/// The most times by which the steps in a JSON value lengthen a text.
///
/// Steps are known by their fields, since older files leave out their type.
fn growth(steps: &Value) -> f64 {
    let bytes = |text: &str| text.len() as f64;
    match steps {
        Value::Array(steps) => steps.iter().map(growth).product(),
        Value::Object(step) => {
            let content = step.get("content").and_then(Value::as_str).map(bytes);
            let this = match (step.get("pattern"), content, step.get("prepend").and_then(Value::as_str)) {
                (Some(pattern), Some(content), _) => match pattern.get("String").and_then(Value::as_str).map_or(0.0, bytes) {
                    // An expression, which may match between any two characters, or nothing, which does.
                    0.0 => content + 1.0,
                    replaced => content / replaced,
                },
                (_, _, Some(prepended)) => bytes(prepended) + 1.0,
                // Each byte becomes a letter of up to two.
                _ if step.get("type").is_some_and(|kind| kind == "ByteLevel") => 2.0,
                _ => 1.0,
            };
            this.max(1.0) * step.values().map(growth).product::<f64>()
        }
        _ => 1.0,
    }
}

impl<'de> Deserialize<'de> for Longest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Longest, D::Error> {
        deserializer.deserialize_any(Measure)
    }
}

struct Measure;

impl<'de> Visitor<'de> for Measure {
    type Value = Longest;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Longest, E> {
        Ok(Longest(text.len()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Longest, E> {
        Ok(Longest::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Longest, E> {
        Ok(Longest::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Longest, E> {
        Ok(Longest::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Longest, E> {
        Ok(Longest::default())
    }

    fn visit_unit<E>(self) -> Result<Longest, E> {
        Ok(Longest::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Longest, A::Error> {
        let mut longest = 0;
        while let Some(Longest(element)) = elements.next_element()? {
            longest = longest.max(element);
        }
        Ok(Longest(longest))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Longest, A::Error> {
        let mut longest = 0;
        while let Some((Longest(key), Longest(value))) = entries.next_entry()? {
            longest = longest.max(key).max(value);
        }
        Ok(Longest(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_added_token(bytes: usize) -> String {
        format!(r#"{{"added_tokens": [{{"id": 1, "content": "{}", "special": true}}], "model": null}}"#, "x".repeat(bytes))
    }

    #[test]
    fn a_token_may_be_long_but_not_endless() {
        assert!(check(&with_added_token(MOST_TOKEN_BYTES)).is_ok());
        let message = check(&with_added_token(MOST_TOKEN_BYTES + 1)).unwrap_err().to_string();
        assert_eq!(message, "unusable tokenizer: its longest added token has 4097 bytes; the limit is 4096");
    }

    #[test]
    fn many_added_tokens_may_be_short_but_not_long() {
        let list = |bytes: usize| vec![format!(r#"{{"id": 1, "content": "{}"}}"#, "x".repeat(bytes)); 65_000].join(",");
        assert!(check(&format!(r#"{{"added_tokens": [{}]}}"#, list(20))).is_ok());
        let message = check(&format!(r#"{{"added_tokens": [{}]}}"#, list(40))).unwrap_err().to_string();
        assert_eq!(message, "unusable tokenizer: the list of its added tokens has 2600000 bytes; the limit is 2097152");
    }

    #[test]
    fn merges_are_two_tokens_long_at_most() {
        for merge in [|merge: &str| format!(r#""{merge}""#), |merge: &str| format!(r#"["{merge}", "b"]"#)] {
            let with_merge = |bytes: usize| format!(r#"{{"model": {{"merges": [{}]}}}}"#, merge(&"x".repeat(bytes)));
            assert!(check(&with_merge(MOST_MERGE_BYTES)).is_ok());
            let message = check(&with_merge(MOST_MERGE_BYTES + 1)).unwrap_err().to_string();
            assert_eq!(message, "unusable tokenizer: its longest merge has 8194 bytes; the limit is 8193");
        }
    }

    #[test]
    fn steps_that_lengthen_a_text_are_multiplied() {
        let replace = |pattern: &str, content: &str| format!(r#"{{"type": "Replace", "pattern": {pattern}, "content": "{content}"}}"#);
        let sequence = |steps: &[String]| format!(r#"{{"type": "Sequence", "steps": [{}]}}"#, steps.join(","));
        let doubled = replace(r#"{"String": "a"}"#, "aa");
        let message = |steps: &str| check(&format!(r#"{{{steps}}}"#)).err().map_or(String::new(), |error| error.to_string());
        for (steps, expected) in [
            (format!(r#""normalizer": {}"#, sequence(&vec![doubled.clone(); 6])), ""),
            (
                format!(r#""normalizer": {}"#, sequence(&vec![doubled.clone(); 7])),
                "`normalizer` and `pre_tokenizer` can make a text 128 times",
            ),
            (format!(r#""decoder": {}"#, sequence(&vec![doubled; 40])), "its `decoder` can make a text 1099511627776 times"),
            (format!(r#""decoder": {}"#, replace(r#"{"String": "ab"}"#, &"x".repeat(1 << 20))), "a text 524288 times longer"),
            (format!(r#""decoder": {}"#, replace(r#"{"Regex": "x?"}"#, &"x".repeat(64))), "a text 65 times longer; the limit is 64"),
            (format!(r#""decoder": {}"#, replace(r#"{"String": ""}"#, &"x".repeat(64))), "a text 65 times longer"),
            (format!(r#""normalizer": {{"type": "Prepend", "prepend": "{}"}}"#, "x".repeat(64)), "a text 65 times longer"),
            (format!(r#""pre_tokenizer": {}"#, sequence(&vec![r#"{"type": "ByteLevel"}"#.into(); 7])), "a text 128 times longer"),
            (r#""normalizer": null, "decoder": {"type": "Strip", "content": " ", "start": 1, "stop": 0}"#.into(), ""),
        ] {
            let message = message(&steps);
            assert!(message.contains(expected) && message.is_empty() == expected.is_empty(), "{steps:.200}: {message}");
        }
    }

    #[test]
    fn a_vocabulary_is_measured_as_a_list_and_as_a_map() {
        let token = "x".repeat(MOST_TOKEN_BYTES + 1);
        for vocabulary in [format!(r#"{{"{token}": 0}}"#), format!(r#"[["{token}", -1.5]]"#)] {
            let message = check(&format!(r#"{{"model": {{"vocab": {vocabulary}, "unk_id": null}}}}"#)).unwrap_err().to_string();
            assert!(message.contains("its longest token has 4097 bytes"), "{message}");
        }
    }
}
