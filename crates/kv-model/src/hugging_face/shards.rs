//! Safetensors files: what they hold, and reading a tensor of it.

use std::io::{Read, SeekFrom};

use kv_kernels::WeightFormat;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde_json::{Map, Value};

use crate::{LoadError, ReadSeek};

/// A tensor's place in one of the files.
#[derive(Debug, Clone)]
pub(super) struct StoredTensor {
    pub(super) shape: Vec<usize>,
    dtype: Dtype,
    /// The index of its file.
    shard: usize,
    /// The first byte, counted from the beginning of the file.
    start: u64,
    len: u64,
}

impl StoredTensor {
    /// The encoding of its values.
    pub(super) fn format(&self, name: &str) -> Result<WeightFormat, LoadError> {
        match self.dtype {
            Dtype::F32 => Ok(WeightFormat::F32),
            Dtype::F16 => Ok(WeightFormat::F16),
            Dtype::BF16 => Ok(WeightFormat::Bf16),
            other => Err(LoadError::tensor(name, format!("has type {other:?}; supported: F32, F16, BF16"))),
        }
    }
}

/// The safetensors files of a folder.
pub(super) struct Shards<'a> {
    files: Vec<(String, Box<dyn ReadSeek + 'a>)>,
}

impl<'a> Shards<'a> {
    pub(super) fn new(files: Vec<(String, Box<dyn ReadSeek + 'a>)>) -> Shards<'a> {
        Shards { files }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|(name, _)| name.as_str())
    }

    /// The tensors of each file, by name.
    pub(super) fn tensors(&mut self) -> Result<Vec<Vec<(String, StoredTensor)>>, LoadError> {
        self.files.iter_mut().enumerate().map(|(shard, (name, file))| parse(shard, name, file.as_mut())).collect()
    }

    /// Whether two tensors are stored differently.
    pub(super) fn differ(&mut self, [a, b]: [(&str, &StoredTensor); 2]) -> Result<bool, LoadError> {
        const PART: u64 = 1 << 20;
        if (a.1.dtype, &a.1.shape) != (b.1.dtype, &b.1.shape) {
            return Ok(true);
        }
        let mut start = 0;
        while start < a.1.len {
            let part = |(name, tensor): (&str, &StoredTensor), shards: &mut Shards<'_>| {
                let mut bytes = vec![0; PART.min(tensor.len - start) as usize];
                shards.read(name, tensor, start, &mut bytes).map(|()| bytes)
            };
            if part(a, self)? != part(b, self)? {
                return Ok(true);
            }
            start += PART;
        }
        Ok(false)
    }

    /// Reads bytes of a tensor, from its byte `from` on.
    pub(super) fn read(&mut self, name: &str, tensor: &StoredTensor, from: u64, bytes: &mut [u8]) -> Result<(), LoadError> {
        let (file_name, file) = &mut self.files[tensor.shard];
        let read = file.seek(SeekFrom::Start(tensor.start + from)).and_then(|_| file.read_exact(bytes));
        read.map_err(|source| LoadError::read(format!("the tensor `{name}` of `{file_name}`"), source))
    }
}

/// Reads a file's header: its length in eight bytes, and JSON.
fn parse(shard: usize, name: &str, file: &mut dyn ReadSeek) -> Result<Vec<(String, StoredTensor)>, LoadError> {
    /// As in the `safetensors` crate.
    const MOST: u64 = 100_000_000;
    let malformed = |reason: String| LoadError::File { format: "safetensors", reason: format!("`{name}`: {reason}") };
    let failed = |source| LoadError::read(format!("the header of `{name}`"), source);
    let file_len = file.seek(SeekFrom::End(0)).map_err(failed)?;
    let mut len = [0; 8];
    file.rewind().map_err(failed)?;
    if file_len < len.len() as u64 {
        return Err(malformed(format!("it has {file_len} bytes, and the length of its header takes 8")));
    }
    file.read_exact(&mut len).map_err(failed)?;
    let header_len = u64::from_le_bytes(len);
    let data_len = file_len - len.len() as u64;
    if header_len > MOST.min(data_len) {
        return Err(malformed(format!("its header of {header_len} bytes is longer than the {data_len} that follow, or than {MOST}")));
    }
    let mut header = vec![];
    file.take(header_len).read_to_end(&mut header).map_err(failed)?;
    let header: Map<String, Value> = serde_json::from_slice(&header).map_err(|error| malformed(format!("its header: {error}")))?;
    let (start, left) = (len.len() as u64 + header_len, data_len - header_len);
    let mut tensors = vec![];
    for (tensor, value) in header.into_iter().filter(|(key, _)| key != "__metadata__") {
        let info: TensorInfo =
            serde_json::from_value(value).map_err(|error| LoadError::tensor(&tensor, format!("of `{name}` is not described: {error}")))?;
        tensors.push((tensor, info));
    }
    // As the format asks: the tensors follow each other without gaps and have the bytes of their shape.
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let mut end = 0;
    for (tensor, info) in &tensors {
        let (from, to) = info.data_offsets;
        let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |bits, extent| bits.checked_mul(*extent));
        if from as u64 != end || to < from || bits.is_none_or(|bits| !bits.is_multiple_of(8) || bits / 8 != to - from) {
            let reason = format!(
                "of `{name}` takes the bytes {from} to {to}; its shape {:?} in {:?} and the tensors before it ask for another place",
                info.shape, info.dtype
            );
            return Err(LoadError::tensor(tensor, reason));
        }
        end = to as u64;
    }
    if end != left {
        return Err(malformed(format!("its tensors take {end} bytes, and {left} follow the header")));
    }
    let stored = |(name, TensorInfo { dtype, shape, data_offsets: (from, to) }): (String, TensorInfo)| {
        (name, StoredTensor { shape, dtype, shard, start: start + from as u64, len: (to - from) as u64 })
    };
    Ok(tensors.into_iter().map(stored).collect())
}
