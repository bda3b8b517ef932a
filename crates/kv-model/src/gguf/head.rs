//! Reading the beginning of a file, as far as its metadata and its tensor table go.

use std::cell::Cell;
use std::io::{Read, SeekFrom};

use crate::gguf::File;
use crate::gguf::reader::malformed;
use crate::{LoadError, ReadSeek};

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
        drop(parsed);
        if !is_short.get() {
            return Ok((head, file_len));
        }
        if wanted >= MOST {
            return Err(malformed(format!("its metadata do not end within {MOST} bytes")));
        }
        wanted *= 2;
    }
}
