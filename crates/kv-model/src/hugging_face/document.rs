//! JSON whose keys are asked for by name, so that a wrong one is named.

use serde_json::{Map, Value};

use crate::LoadError;

/// An object of a JSON file. A key that is null counts as absent.
#[derive(Debug, Clone)]
pub(super) struct Document {
    /// What leads to it: the file, unless it is `config.json`, and keys with a dot behind each.
    path: String,
    values: Map<String, Value>,
}

impl Document {
    /// The object that is the whole of a file.
    pub(super) fn parse(file: &'static str, text: &str) -> Result<Document, LoadError> {
        let unreadable = |reason: String| LoadError::File { format: file, reason };
        // Some editors put a byte-order mark in front, which JSON does not know.
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        let path = if file == "config.json" { String::new() } else { format!("{file}: ") };
        match serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))? {
            Value::Object(values) => Ok(Document { path, values }),
            _ => Err(unreadable("the top level is not a JSON object".into())),
        }
    }

    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there, be it null.
    pub(super) fn names(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.values.iter()
    }

    /// An error about one of its keys.
    pub(super) fn wrong(&self, key: &str, reason: impl Into<String>) -> LoadError {
        LoadError::key(format!("{}{key}", self.path), reason)
    }

    pub(super) fn count(&self, key: &str) -> Result<Option<usize>, LoadError> {
        const MOST: u64 = 0x7FFF_FFFF;
        let count = |value: &Value| value.as_u64().filter(|count| *count <= MOST).map(|count| count as usize);
        self.read(key, "a count below 2³¹", count)
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, LoadError> {
        self.read(key, "a number", Value::as_f64)
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, LoadError> {
        self.read(key, "true or false", Value::as_bool)
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>, LoadError> {
        self.read(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    pub(super) fn object(&self, key: &str) -> Result<Option<Document>, LoadError> {
        let path = format!("{}{key}.", self.path);
        self.read(key, "an object", |value| Some(Document { path, values: value.as_object()?.clone() }))
    }

    fn read<T>(&self, key: &str, expected: &str, read: impl FnOnce(&Value) -> Option<T>) -> Result<Option<T>, LoadError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.wrong(key, format!("is {value}, not {expected}")))
    }
}
