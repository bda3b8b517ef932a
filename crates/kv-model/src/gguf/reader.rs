//! The container: header, metadata, tensor table.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;

use kv_kernels::WeightFormat;

use crate::LoadError;
use crate::gguf::cursor::{self, Cursor};
use crate::gguf::tensor_type;

/// The parsed beginning of a file: its metadata, and where its tensors lie. Strings lie in the bytes that were parsed.
#[derive(Debug)]
pub struct File<'a> {
    metadata: BTreeMap<String, Value<'a>>,
    tensors: BTreeMap<String, TensorInfo>,
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
pub struct TensorInfo {
    /// Extents, outermost first (the file lists them innermost first).
    pub shape: Vec<usize>,
    /// The encoding.
    pub format: WeightFormat,
    /// The first byte of the encoded values, counted from the beginning of the file.
    pub start: u64,
    /// Bytes of the encoded values, which the file has.
    pub len: usize,
}

const DEFAULT_ALIGNMENT: usize = 32;
const MOST_DIMENSIONS: u32 = 4;

/// The part of a file behind its metadata.
#[derive(Debug)]
pub(super) struct TensorTable<'a> {
    cursor: Cursor<'a>,
    count: u64,
    file_len: u64,
}

impl<'a> File<'a> {
    /// Parses the header, the metadata and the tensor table of a file of `file_len` bytes that begins with these.
    ///
    /// # Errors
    /// [`LoadError`] says where the file stops making sense.
    pub fn parse(bytes: &'a [u8], file_len: u64) -> Result<File<'a>, LoadError> {
        let (file, table) = File::parse_metadata(bytes, file_len)?;
        file.with_tensors(table)
    }

    /// Parses the header and the metadata alone, so that they can be judged before the tensors are.
    pub(super) fn parse_metadata(bytes: &'a [u8], file_len: u64) -> Result<(File<'a>, TensorTable<'a>), LoadError> {
        File::parse_tracked(bytes, file_len, None)
    }

    /// Sets `is_short` if the bytes end before what is parsed.
    pub(super) fn parse_tracked(
        bytes: &'a [u8],
        file_len: u64,
        is_short: Option<&'a Cell<bool>>,
    ) -> Result<(File<'a>, TensorTable<'a>), LoadError> {
        let mut cursor = Cursor::new(bytes, is_short);
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
        Ok((file, TensorTable { cursor, count: tensor_count, file_len }))
    }

    /// Parses the tensor table.
    pub(super) fn with_tensors(mut self, table: TensorTable<'a>) -> Result<File<'a>, LoadError> {
        let TensorTable { mut cursor, count, file_len } = table;
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
            table.push((name, entry(&mut cursor, name)?));
        }
        let data = (cursor.at().next_multiple_of(alignment) as u64).min(file_len)..file_len;
        for (name, entry) in table {
            if self.tensors.insert(name.to_owned(), entry.locate(name, data.clone(), alignment)?).is_some() {
                return Err(LoadError::tensor(name, "appears twice"));
            }
        }
        self.check_places()?;
        Ok(self)
    }

    /// Refuses tensors that share bytes: all tensors together are then no larger than the file.
    fn check_places(&self) -> Result<(), LoadError> {
        let mut in_order: Vec<(&String, &TensorInfo)> = self.tensors.iter().collect();
        in_order.sort_by_key(|(_, tensor)| (tensor.start, tensor.len));
        for pair in in_order.windows(2) {
            let [(before, first), (name, second)] = [pair[0], pair[1]];
            if second.start < first.start + first.len as u64 {
                return Err(LoadError::tensor(name, format!("shares bytes of the file with the tensor `{before}`")));
            }
        }
        Ok(())
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
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
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
    pub(super) fn new(element: u32, count: usize, bytes: &'a [u8]) -> Array<'a> {
        Array { element, count, bytes }
    }

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
        if self.element != cursor::STRING {
            return Err(LoadError::key(key, "is not an array of strings"));
        }
        let mut cursor = Cursor::new(self.bytes, None);
        (0..self.count).map(|_| cursor.string(key)).collect()
    }

    /// The elements of an array of integers; `key` names it in errors.
    ///
    /// # Errors
    /// [`LoadError::Key`] if it holds something else.
    pub fn integers(&self, key: &str) -> Result<Vec<i64>, LoadError> {
        let mut cursor = Cursor::new(self.bytes, None);
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
    /// Finds the tensor in the file's bytes of tensors, which end with the file.
    fn locate(self, name: &str, data: Range<u64>, alignment: usize) -> Result<TensorInfo, LoadError> {
        let Entry { shape, type_id, offset } = self;
        let format = tensor_type::format(type_id).ok_or_else(|| {
            let supported = tensor_type::supported();
            LoadError::tensor(name, format!("has ggml type {type_id} ({}); supported: {supported}", tensor_type::name(type_id)))
        })?;
        let (block_values, _) = format.block();
        let row = *shape.last().unwrap_or(&1);
        if !row.is_multiple_of(block_values) {
            return Err(LoadError::tensor(name, format!("has rows of {row} values, not a multiple of {block_values}")));
        }
        if !offset.is_multiple_of(alignment as u64) {
            return Err(LoadError::tensor(name, format!("has an offset that is not a multiple of the alignment, {alignment}")));
        }
        let values = shape.iter().try_fold(1usize, |values, extent| values.checked_mul(*extent));
        let len = values.and_then(|values| format.bytes_of(values));
        let start = data.start.checked_add(offset);
        let end = start.zip(len).and_then(|(start, len)| start.checked_add(len as u64)).filter(|end| *end <= data.end);
        match (start, len, end) {
            (Some(start), Some(len), Some(_)) => Ok(TensorInfo { shape, format, start, len }),
            _ => Err(LoadError::tensor(
                name,
                format!("of shape {shape:?} at offset {offset} reaches beyond the file's {} bytes of tensors", data.end - data.start),
            )),
        }
    }
}

fn entry(cursor: &mut Cursor<'_>, name: &str) -> Result<Entry, LoadError> {
    let dimensions = cursor.u32(name)?;
    if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
        return Err(LoadError::tensor(name, format!("has {dimensions} dimensions; 1 to {MOST_DIMENSIONS} are possible")));
    }
    let mut shape =
        (0..dimensions).map(|_| Ok(usize::try_from(cursor.u64(name)?).unwrap_or(usize::MAX))).collect::<Result<Vec<usize>, LoadError>>()?;
    shape.reverse();
    Ok(Entry { shape, type_id: cursor.u32(name)?, offset: cursor.u64(name)? })
}

pub(super) fn malformed(reason: impl Into<String>) -> LoadError {
    LoadError::File { format: "GGUF", reason: reason.into() }
}

fn wrong_type(key: &str, value: &Value<'_>, expected: &str) -> LoadError {
    LoadError::key(key, format!("is {}, not {expected}", value.shown()))
}
