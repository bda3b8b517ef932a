//! Sequence lengths: a list or a range.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Ascending lengths without repetitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lengths(pub Vec<usize>);

/// More lengths than any sweep can mean.
const MOST: usize = 1000;

impl Lengths {
    fn parse(text: &str) -> Result<Lengths, String> {
        let explained = |reason: String| {
            format!("`{text}` {reason}; write \"128-4096*2\" (doubling), \"256-1024+256\" (steps of 256) or a list such as [128, 1024]")
        };
        let number = |part: &str| part.trim().parse::<usize>().map_err(|_| explained(format!("has `{part}` where a number should be")));
        let Some((first, rest)) = text.split_once('-') else { return Ok(Lengths(vec![number(text)?])) };
        let first = number(first)?;
        let (last, next): (usize, Box<dyn Fn(usize) -> Option<usize>>) = match (rest.split_once('*'), rest.split_once('+')) {
            (Some((last, factor)), _) => {
                let factor = number(factor)?;
                if factor < 2 || first == 0 {
                    return Err(explained("never ends: start at 1 or more and multiply by 2 or more".into()));
                }
                (number(last)?, Box::new(move |length| length.checked_mul(factor)))
            }
            (None, Some((last, step))) => {
                let step = number(step)?;
                if step == 0 {
                    return Err(explained("never ends: the step is 0".into()));
                }
                (number(last)?, Box::new(move |length| length.checked_add(step)))
            }
            (None, None) => return Err(explained("has no step".into())),
        };
        if last < first {
            return Err(explained(format!("is empty: {last} is below {first}")));
        }
        let lengths: Vec<usize> =
            std::iter::successors(Some(first), |length| next(*length).filter(|next| *next <= last)).take(MOST + 1).collect();
        if lengths.len() > MOST {
            return Err(explained(format!("has more than {MOST} lengths")));
        }
        Ok(Lengths(lengths))
    }
}

impl<'de> Deserialize<'de> for Lengths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lengths, D::Error> {
        deserializer.deserialize_any(LengthsVisitor)
    }
}

struct LengthsVisitor;

impl<'de> Visitor<'de> for LengthsVisitor {
    type Value = Lengths;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("lengths such as \"128-4096*2\" or [128, 1024]")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Lengths, E> {
        Lengths::parse(text).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, length: i64) -> Result<Lengths, E> {
        usize::try_from(length).map(|length| Lengths(vec![length])).map_err(|_| E::custom(format!("a length cannot be {length}")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Lengths, A::Error> {
        let mut lengths = vec![];
        while let Some(length) = list.next_element::<usize>()? {
            lengths.push(length);
        }
        lengths.sort_unstable();
        lengths.dedup();
        Ok(Lengths(lengths))
    }
}

impl JsonSchema for Lengths {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Lengths".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Sequence lengths: a list, or a range such as \"128-4096*2\" or \"256-1024+256\".",
            "anyOf": [
                { "type": "string", "pattern": "^[0-9]+(-[0-9]+[*+][0-9]+)?$" },
                { "type": "integer", "minimum": 1 },
                { "type": "array", "items": { "type": "integer", "minimum": 1 }, "minItems": 1 }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let lengths = |text: &str| Lengths::parse(text).map(|lengths| lengths.0);
        assert_eq!(lengths("128-1024*2").unwrap(), [128, 256, 512, 1024]);
        assert_eq!(lengths("128-1000*2").unwrap(), [128, 256, 512]);
        assert_eq!(lengths("100-300+100").unwrap(), [100, 200, 300]);
        assert_eq!(lengths("64").unwrap(), [64]);
        for wrong in [
            "",
            "a-b*2",
            "128-4096",
            "4096-128*2",
            "128-4096*1",
            "0-8*2",
            "1-9+0",
            "1-100000000+1",
            "128-4096*2*2",
            "1-18446744073709551616*2",
        ] {
            assert!(lengths(wrong).is_err(), "{wrong}");
        }
    }
}
