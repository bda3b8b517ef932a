//! The container: header, metadata, tensor table.

use std::collections::BTreeMap;

use crate::LoadError;
use crate::gguf::TensorType;

/// A parsed file; strings and tensors still lie in its bytes.
#[derive(Debug)]
pub struct File<'a> {
    metadata: BTreeMap<String, Value<'a>>,
    tensors: BTreeMap<String, TensorInfo<'a>>,
}

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Any of the integer types.
    Integer(i128),
    /// Either of the floating-point types.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A string.
    String(&'a str),
    /// An array of scalars or strings.
    Array(Array<'a>),
}

/// An array whose elements are decoded when they are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Array<'a> {
    element: u32,
    count: usize,
    bytes: &'a [u8],
}

/// A tensor's place in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo<'a> {
    /// Extents, outermost first (the file lists them innermost first).
    pub shape: Vec<usize>,
    /// The encoding.
    pub tensor_type: TensorType,
    /// The encoded values.
    pub bytes: &'a [u8],
}

const STRING: u32 = 8;
const ARRAY: u32 = 9;
const DEFAULT_ALIGNMENT: usize = 32;
const MOST_DIMENSIONS: u32 = 4;

/// The part of a file behind its metadata.
#[derive(Debug)]
pub(super) struct TensorTable<'a> {
    cursor: Cursor<'a>,
    count: u64,
}

impl<'a> File<'a> {
    /// Parses the header, the metadata and the tensor table.
    ///
    /// # Errors
    /// [`LoadError`] says where the file stops making sense.
    pub fn parse(bytes: &'a [u8]) -> Result<File<'a>, LoadError> {
        let (file, table) = File::parse_metadata(bytes)?;
        file.with_tensors(table)
    }

    /// Parses the header and the metadata alone, so that they can be judged before the tensors are.
    pub(super) fn parse_metadata(bytes: &'a [u8]) -> Result<(File<'a>, TensorTable<'a>), LoadError> {
        let mut cursor = Cursor { bytes, at: 0 };
        if cursor.take(4, "the magic number")? != b"GGUF" {
            return Err(malformed("it does not start with `GGUF`"));
        }
        let version = cursor.u32("the version")?;
        if !(2..=3).contains(&version) {
            return Err(malformed(format!("version {version} (2 and 3 are known; a big-endian file shows a huge number)")));
        }
        let tensor_count = cursor.u64("the number of tensors")?;
        let key_count = cursor.u64("the number of keys")?;
        let mut metadata = BTreeMap::new();
        for index in 0..key_count {
            let key = cursor.string(&format!("the name of key {index} of {key_count}"))?;
            let value_type = cursor.u32(key)?;
            let value = cursor.value(value_type, key)?;
            if metadata.insert(key.to_owned(), value).is_some() {
                return Err(LoadError::key(key, "appears twice"));
            }
        }
        let file = File { metadata, tensors: BTreeMap::new() };
        file.check_whole()?;
        Ok((file, TensorTable { cursor, count: tensor_count }))
    }

    /// Parses the tensor table.
    pub(super) fn with_tensors(mut self, table: TensorTable<'a>) -> Result<File<'a>, LoadError> {
        let TensorTable { mut cursor, count } = table;
        let bytes = cursor.bytes;
        let alignment = match self.metadata.get("general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(Value::Integer(alignment @ 1..=65536)) if (*alignment as usize).is_power_of_two() => *alignment as usize,
            Some(other) => {
                return Err(LoadError::key("general.alignment", format!("is {}, not a power of two up to 65536", other.shown())));
            }
        };
        let mut table = vec![];
        for index in 0..count {
            let name = cursor.string(&format!("the name of tensor {index} of {count}"))?;
            table.push((name, cursor.tensor_entry(name)?));
        }
        let data = bytes.get(cursor.at.next_multiple_of(alignment)..).unwrap_or_default();
        for (name, entry) in table {
            if self.tensors.insert(name.to_owned(), entry.locate(name, data, alignment)?).is_some() {
                return Err(LoadError::tensor(name, "appears twice"));
            }
        }
        Ok(self)
    }

    /// Refuses a part of a model that llama.cpp's `gguf-split` has cut.
    fn check_whole(&self) -> Result<(), LoadError> {
        const KEY: &str = "split.count";
        match self.value(KEY).map(|_| self.count(KEY)).transpose()? {
            Some(parts @ 2..) => {
                Err(LoadError::key(KEY, format!("is {parts}: the file is one of {parts} parts, which `llama-gguf-split --merge` joins")))
            }
            _ => Ok(()),
        }
    }

    /// The names of all tensors.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A metadata value.
    pub fn value(&self, key: &str) -> Option<&Value<'a>> {
        self.metadata.get(key)
    }

    /// A tensor.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo<'a>> {
        self.tensors.get(name)
    }

    /// A string.
    ///
    /// # Errors
    /// [`LoadError::Key`] if it is missing or something else.
    pub fn string(&self, key: &str) -> Result<&'a str, LoadError> {
        match self.required(key)? {
            Value::String(text) => Ok(text),
            other => Err(wrong_type(key, other, "a string")),
        }
    }

    /// A count.
    ///
    /// # Errors
    /// [`LoadError::Key`] if it is missing, something else, negative, or more than any model has.
    pub fn count(&self, key: &str) -> Result<usize, LoadError> {
        match self.required(key)? {
            Value::Integer(count @ 0..=0x7FFF_FFFF) => Ok(*count as usize),
            other => Err(wrong_type(key, other, "a count below 2³¹")),
        }
    }

    /// A number, whole or not.
    ///
    /// # Errors
    /// [`LoadError::Key`] if it is missing or something else.
    pub fn number(&self, key: &str) -> Result<f64, LoadError> {
        match self.required(key)? {
            Value::Float(number) if number.is_finite() => Ok(*number),
            Value::Integer(number) => Ok(*number as f64),
            other => Err(wrong_type(key, other, "a finite number")),
        }
    }

    /// A truth value.
    ///
    /// # Errors
    /// [`LoadError::Key`] if it is missing or something else.
    pub fn bool(&self, key: &str) -> Result<bool, LoadError> {
        match self.required(key)? {
            Value::Bool(value) => Ok(*value),
            other => Err(wrong_type(key, other, "true or false")),
        }
    }

    /// An array.
    ///
    /// # Errors
    /// [`LoadError::Key`] if it is missing or something else.
    pub fn array(&self, key: &str) -> Result<&Array<'a>, LoadError> {
        match self.required(key)? {
            Value::Array(array) => Ok(array),
            other => Err(wrong_type(key, other, "an array")),
        }
    }

    fn required(&self, key: &str) -> Result<&Value<'a>, LoadError> {
        self.value(key).ok_or_else(|| LoadError::key(key, "is missing"))
    }
}

impl Value<'_> {
    /// The value in a message.
    pub(super) fn shown(&self) -> String {
        match self {
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => format!("{number:?}"),
            Value::Bool(flag) => flag.to_string(),
            Value::String(text) => format!("`{text}`"),
            Value::Array(array) => format!("an array of {}", array.len()),
        }
    }
}

impl<'a> Array<'a> {
    /// Elements.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The elements of an array of strings; `key` names it in errors.
    ///
    /// # Errors
    /// [`LoadError::Key`] if it holds something else.
    pub fn strings(&self, key: &str) -> Result<Vec<&'a str>, LoadError> {
        if self.element != STRING {
            return Err(LoadError::key(key, "is not an array of strings"));
        }
        let mut cursor = Cursor { bytes: self.bytes, at: 0 };
        (0..self.count).map(|_| cursor.string(key)).collect()
    }

    /// The elements of an array of integers; `key` names it in errors.
    ///
    /// # Errors
    /// [`LoadError::Key`] if it holds something else.
    pub fn integers(&self, key: &str) -> Result<Vec<i64>, LoadError> {
        let mut cursor = Cursor { bytes: self.bytes, at: 0 };
        (0..self.count)
            .map(|_| match cursor.value(self.element, key)? {
                Value::Integer(integer) => i64::try_from(integer).map_err(|_| LoadError::key(key, "holds an integer beyond 64 bits")),
                _ => Err(LoadError::key(key, "is not an array of integers")),
            })
            .collect()
    }
}

/// A row of the tensor table.
struct Entry {
    shape: Vec<usize>,
    type_id: u32,
    offset: u64,
}

impl Entry {
    fn locate<'a>(self, name: &str, data: &'a [u8], alignment: usize) -> Result<TensorInfo<'a>, LoadError> {
        let Entry { shape, type_id, offset } = self;
        let tensor_type = TensorType::from_id(type_id).ok_or_else(|| {
            let type_name = TensorType::name(type_id);
            LoadError::tensor(name, format!("has ggml type {type_id} ({type_name}); supported: F32, F16, BF16, Q8_0, Q4_0, Q4_1"))
        })?;
        let (block_values, block_bytes) = tensor_type.block();
        let row = *shape.last().unwrap_or(&1);
        if !row.is_multiple_of(block_values) {
            return Err(LoadError::tensor(name, format!("has rows of {row} values, not a multiple of {block_values}")));
        }
        let values = shape.iter().try_fold(1usize, |values, extent| values.checked_mul(*extent));
        let bytes = values.and_then(|values| (values / block_values).checked_mul(block_bytes));
        let offset = usize::try_from(offset).ok().filter(|offset| offset.is_multiple_of(alignment));
        let Some(offset) = offset else {
            return Err(LoadError::tensor(name, format!("has an offset that is not a multiple of the alignment, {alignment}")));
        };
        let located = bytes.and_then(|bytes| data.get(offset..offset.checked_add(bytes)?));
        let bytes = located.ok_or_else(|| {
            LoadError::tensor(
                name,
                format!("of shape {shape:?} at offset {offset} reaches beyond the file's {} bytes of tensors", data.len()),
            )
        })?;
        Ok(TensorInfo { shape, tensor_type, bytes })
    }
}

#[derive(Debug)]
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8], LoadError> {
        let taken = self.at.checked_add(len).and_then(|end| self.bytes.get(self.at..end));
        let taken =
            taken.ok_or_else(|| malformed(format!("it ends within {what}: {len} bytes needed, {} left", self.bytes.len() - self.at)))?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], LoadError> {
        Ok(self.take(N, what)?.try_into().expect("`take` answers that many bytes"))
    }

    fn u32(&mut self, what: &str) -> Result<u32, LoadError> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, LoadError> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn string(&mut self, what: &str) -> Result<&'a str, LoadError> {
        let len = usize::try_from(self.u64(what)?).unwrap_or(usize::MAX);
        let bytes = self.take(len, what)?;
        std::str::from_utf8(bytes).map_err(|_| malformed(format!("{what} is not UTF-8")))
    }

    fn value(&mut self, value_type: u32, key: &str) -> Result<Value<'a>, LoadError> {
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
        Ok(Array { element, count: count as usize, bytes: &self.bytes[start..self.at] })
    }

    fn tensor_entry(&mut self, name: &str) -> Result<Entry, LoadError> {
        let dimensions = self.u32(name)?;
        if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
            return Err(LoadError::tensor(name, format!("has {dimensions} dimensions; 1 to {MOST_DIMENSIONS} are possible")));
        }
        let mut shape = (0..dimensions)
            .map(|_| Ok(usize::try_from(self.u64(name)?).unwrap_or(usize::MAX)))
            .collect::<Result<Vec<usize>, LoadError>>()?;
        shape.reverse();
        Ok(Entry { shape, type_id: self.u32(name)?, offset: self.u64(name)? })
    }
}

fn malformed(reason: impl Into<String>) -> LoadError {
    LoadError::File { format: "GGUF", reason: reason.into() }
}

fn wrong_type(key: &str, value: &Value<'_>, expected: &str) -> LoadError {
    LoadError::key(key, format!("is {}, not {expected}", value.shown()))
}
