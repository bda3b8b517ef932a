//! The formats of keys and values in a strategy's config.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Format, FormatError};

/// The formats in which a cache stores its keys and its values.
///
/// In a config, either one name for both, `format = "f16"`, or one for each,
/// `format = { keys = "q8_0", values = "q4_0" }`. The default is `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Formats {
    /// Format of the keys.
    pub keys: Format,
    /// Format of the values.
    pub values: Format,
}

impl Formats {
    /// Full precision for both.
    pub const F32: Formats = Formats::both(Format::F32);

    /// The same format for keys and values.
    pub const fn both(format: Format) -> Formats {
        Formats { keys: format, values: format }
    }

    /// Whether attention over the stored rows equals attention over the appended rows.
    pub fn is_exact(self) -> bool {
        self.keys.is_exact() && self.values.is_exact()
    }

    /// Bounds on the errors of decoded keys and values, see [`Format::max_relative_error`]. `None` if exact.
    pub fn max_relative_errors(self) -> Option<(f32, f32)> {
        (!self.is_exact()).then(|| (self.keys.max_relative_error(), self.values.max_relative_error()))
    }

    /// Whether keys or values are integer codes with a scale.
    pub fn is_quantised(self) -> bool {
        self.keys.is_quantised() || self.values.is_quantised()
    }

    /// Checks both formats against the dimensions of their rows.
    ///
    /// # Errors
    /// [`FormatError::Group`] if a row is not a whole number of groups.
    pub fn check_dims(self, key_dim: usize, value_dim: usize) -> Result<(), FormatError> {
        if self.keys.key_tokens() == 1 {
            self.keys.check_dim(key_dim)?;
        }
        self.values.check_dim(value_dim)
    }

    /// Like [`check_dims`](Self::check_dims), for a cache that writes tokens one by one.
    ///
    /// # Errors
    /// [`FormatError::Group`], or [`FormatError::KeyTokens`] if the keys of several tokens are encoded together.
    pub fn check_rows(self, key_dim: usize, value_dim: usize) -> Result<(), FormatError> {
        match self.keys.key_tokens() {
            1 => self.check_dims(key_dim, value_dim),
            tokens => Err(FormatError::KeyTokens { format: self.keys, tokens }),
        }
    }
}

impl Default for Formats {
    fn default() -> Formats {
        Formats::F32
    }
}

impl fmt::Display for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.keys == self.values { self.keys.fmt(f) } else { write!(f, "keys {}, values {}", self.keys, self.values) }
    }
}

impl Serialize for Formats {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        if self.keys == self.values {
            return serializer.collect_str(&self.keys);
        }
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("keys", &self.keys.to_string())?;
        map.serialize_entry("values", &self.values.to_string())?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Formats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Formats, D::Error> {
        deserializer.deserialize_any(FormatsVisitor)
    }
}

struct FormatsVisitor;

impl<'de> Visitor<'de> for FormatsVisitor {
    type Value = Formats;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a format such as \"f16\", or a table such as { keys = \"q8_0\", values = \"q4_0\" }")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Formats, E> {
        name.parse().map(Formats::both).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Formats, A::Error> {
        let mut formats = Formats::F32;
        while let Some((key, name)) = map.next_entry::<String, String>()? {
            let format = name.parse().map_err(A::Error::custom)?;
            match key.as_str() {
                "keys" => formats.keys = format,
                "values" => formats.values = format,
                _ => return Err(A::Error::unknown_field(&key, &["keys", "values"])),
            }
        }
        Ok(formats)
    }
}

impl JsonSchema for Formats {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Formats".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let name = json_schema!({ "type": "string", "pattern": "^(f32|f16|bf16|fp8_e4m3|q8_0|q4_0|q4_1|kivi[24]|(q8|q4|q4_1|kivi[24])_g[0-9]+)$" });
        json_schema!({
            "description": "One format for keys and values, or a table { keys, values }: f32, f16, bf16, fp8_e4m3, q8_0, q4_0, q4_1, kivi4, kivi2, or q8_gN, q4_gN, q4_1_gN, kivi4_gN, kivi2_gN for groups of N.",
            "anyOf": [
                name,
                {
                    "type": "object",
                    "properties": { "keys": name, "values": name },
                    "additionalProperties": false
                }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Config {
        format: Formats,
    }

    fn read(text: &str) -> Result<Formats, String> {
        toml::from_str::<Config>(text).map(|config| config.format).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn one_name_or_a_table() {
        let mixed = Formats { keys: Format::Q8 { group: 32 }, values: Format::F32 };
        assert_eq!(read("format = 'f16'"), Ok(Formats::both(Format::F16)));
        assert_eq!(read("format = { keys = 'q8_0' }"), Ok(mixed));
        for formats in [mixed, Formats::both(Format::Bf16)] {
            let text = toml::to_string(&Config { format: formats }).unwrap();
            assert_eq!(read(&text), Ok(formats));
        }
    }

    #[test]
    fn a_wrong_name_is_told_what_is_known() {
        assert!(read("format = 'int8'").unwrap_err().contains("unknown format `int8`; known are f32"));
        assert!(read("format = { key = 'f16' }").unwrap_err().contains("unknown field `key`"));
        assert!(read("format = 8").unwrap_err().contains("a format such as \"f16\""));
    }
}
