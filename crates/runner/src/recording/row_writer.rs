//! Writing down the rows that a cache is given.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use kv_core::{Geometry, Tensor};

use super::Queries;

/// The file of a recording's rows. It keeps the first error: a cache has no error for that.
#[derive(Debug)]
pub(crate) struct RowWriter {
    file: BufWriter<File>,
    queries: Queries,
    position: u64,
    error: Option<io::Error>,
}

impl RowWriter {
    pub(super) fn new(file: File, queries: Queries) -> RowWriter {
        RowWriter { file: BufWriter::with_capacity(1 << 20, file), queries, position: 0, error: None }
    }

    /// Writes the keys and values of a step in one layer.
    pub(crate) fn appended(&mut self, keys: &Tensor<3>, values: &Tensor<3>) {
        self.add(keys);
        self.add(values);
    }

    /// Writes the queries of a step in one layer, if they are to be recorded.
    pub(crate) fn asked(&mut self, queries: &Tensor<3>) {
        if self.queries == Queries::Recorded {
            self.add(queries);
        }
    }

    /// Bytes written so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Brings everything to the disk.
    ///
    /// # Errors
    /// The first error of writing.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.error.take().map_or(Ok(()), Err)?;
        self.file.flush()?;
        self.file.get_ref().sync_data()
    }

    fn add(&mut self, rows: &Tensor<3>) {
        if self.error.is_some() {
            return;
        }
        let data = rows.clone().into_data();
        match data.as_slice::<f32>() {
            Ok(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                self.position += bytes.len() as u64;
                self.error = self.file.write_all(&bytes).err();
            }
            Err(_) => self.error = Some(io::Error::other("rows that are not `f32`")),
        }
    }
}

/// Bytes of one token's rows in one layer.
pub(super) fn row_bytes(geometry: &Geometry, queries: Queries) -> u64 {
    let Geometry { heads, kv_heads, key_dim, value_dim, .. } = *geometry;
    let of_queries = if queries == Queries::Recorded { heads.saturating_mul(key_dim) } else { 0 };
    let values = kv_heads.saturating_mul(key_dim.saturating_add(value_dim)).saturating_add(of_queries);
    (values as u64).saturating_mul(size_of::<f32>() as u64)
}
