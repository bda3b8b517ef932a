//! Taking values from a file's bytes one after the other.

use std::cell::Cell;

use crate::LoadError;
use crate::gguf::reader::malformed;
use crate::gguf::{Array, Value};

/// The type number of a string.
pub(super) const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// A place in bytes.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Is set when more bytes are asked for than there are.
    is_short: Option<&'a Cell<bool>>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], is_short: Option<&'a Cell<bool>>) -> Cursor<'a> {
        Cursor { bytes, at: 0, is_short }
    }

    /// Bytes taken so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8], LoadError> {
        let taken = self.at.checked_add(len).and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| {
            self.is_short.inspect(|is_short| is_short.set(true));
            malformed(format!("it ends within {what}: {len} bytes needed, {} left", self.bytes.len() - self.at))
        })?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], LoadError> {
        Ok(self.take(N, what)?.try_into().expect("`take` answers that many bytes"))
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, LoadError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, LoadError> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(super) fn string(&mut self, what: &str) -> Result<&'a str, LoadError> {
        let len = usize::try_from(self.u64(what)?).unwrap_or(usize::MAX);
        let bytes = self.take(len, what)?;
        std::str::from_utf8(bytes).map_err(|_| malformed(format!("{what} is not UTF-8")))
    }

    pub(super) fn value(&mut self, value_type: u32, key: &str) -> Result<Value<'a>, LoadError> {
        Ok(match value_type {
            0 => Value::Integer(u8::from_le_bytes(self.array(key)?).into()),
            1 => Value::Integer(i8::from_le_bytes(self.array(key)?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.array(key)?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.array(key)?).into()),
            4 => Value::Integer(u32::from_le_bytes(self.array(key)?).into()),
            5 => Value::Integer(i32::from_le_bytes(self.array(key)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array(key)?).into()),
            7 => match self.array(key)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(LoadError::key(key, format!("is {other}, neither true nor false"))),
            },
            STRING => Value::String(self.string(key)?),
            ARRAY => Value::Array(self.array_value(key)?),
            10 => Value::Integer(u64::from_le_bytes(self.array(key)?).into()),
            11 => Value::Integer(i64::from_le_bytes(self.array(key)?).into()),
            12 => Value::Float(f64::from_le_bytes(self.array(key)?)),
            other => return Err(LoadError::key(key, format!("has the unknown type {other}"))),
        })
    }

    fn array_value(&mut self, key: &str) -> Result<Array<'a>, LoadError> {
        let element = self.u32(key)?;
        let count = self.u64(key)?;
        if element == ARRAY {
            return Err(LoadError::key(key, "is an array of arrays, which no model needs"));
        }
        let start = self.at;
        // Walking the elements proves the count against the file's size; nothing is allocated for it.
        for _ in 0..count {
            self.value(element, key)?;
        }
        Ok(Array::new(element, count as usize, &self.bytes[start..self.at]))
    }
}
