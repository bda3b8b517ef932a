//! The container: header, metadata, tensor table.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{Read, SeekFrom};
use std::ops::Range;

use kv_kernels::WeightFormat;

use crate::gguf::tensor_type;
use crate::{LoadError, ReadSeek};

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

const STRING: u32 = 8;
const ARRAY: u32 = 9;
const DEFAULT_ALIGNMENT: usize = 32;
const MOST_DIMENSIONS: u32 = 4;

/// Reads as much of a file as holds its metadata and its tensor table, and answers it with the file's length.
///
/// # Errors
/// [`LoadError`] if the file cannot be read.
pub(super) fn read_head(file: &mut dyn ReadSeek) -> Result<(Vec<u8>, u64), LoadError> {
    const FIRST: u64 = 1 << 20;
    /// The metadata of the largest vocabularies are some 20 MB.
    const MOST: u64 = 1 << 28;
    let failed = |source| LoadError::read("the file's metadata", source);
    let file_len = file.seek(SeekFrom::End(0)).map_err(failed)?;
    let mut head = vec![];
    let mut wanted = FIRST;
    loop {
        file.seek(SeekFrom::Start(head.len() as u64)).map_err(failed)?;
        (&mut *file).take(wanted - head.len() as u64).read_to_end(&mut head).map_err(failed)?;
        if head.len() as u64 >= file_len {
            return Ok((head, file_len));
        }
        let is_short = Cell::new(false);
        let parsed = File::parse_tracked(&head, file_len, Some(&is_short)).and_then(|(file, table)| file.with_tensors(table));
        if !is_short.get() {
            return Ok((head, file_len));
        }
        if wanted >= MOST {
            return Err(parsed.err().unwrap_or_else(|| malformed(format!("its metadata do not end within {MOST} bytes"))));
        }
        wanted *= 4;
    }
}

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
    fn parse_tracked(bytes: &'a [u8], file_len: u64, is_short: Option<&'a Cell<bool>>) -> Result<(File<'a>, TensorTable<'a>), LoadError> {
        let mut cursor = Cursor { bytes, at: 0, is_short };
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
            table.push((name, cursor.tensor_entry(name)?));
        }
        let data = (cursor.at.next_multiple_of(alignment) as u64).min(file_len)..file_len;
        for (name, entry) in table {
            if self.tensors.insert(name.to_owned(), entry.locate(name, data.clone(), alignment)?).is_some() {
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
        let mut cursor = Cursor { bytes: self.bytes, at: 0, is_short: None };
        (0..self.count).map(|_| cursor.string(key)).collect()
    }

    /// The elements of an array of integers; `key` names it in errors.
    ///
    /// # Errors
    /// [`LoadError::Key`] if it holds something else.
    pub fn integers(&self, key: &str) -> Result<Vec<i64>, LoadError> {
        let mut cursor = Cursor { bytes: self.bytes, at: 0, is_short: None };
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

#[derive(Debug)]
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Is set when more bytes are asked for than there are.
    is_short: Option<&'a Cell<bool>>,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8], LoadError> {
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
