//! Reading files that are small by their nature, wherever they come from.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::Problem;

/// The text of a file of at most this many bytes; `None` if there is no such file.
///
/// # Errors
/// A [`Problem`] that names the file if it cannot be read, is longer, or is not UTF-8.
pub(super) fn read_small(path: &Path, most_bytes: u64) -> Result<Option<String>, Problem> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| Problem::new(format!("cannot read `{shown}`")).caused_by(error);
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    }
    let mut bytes = vec![];
    File::open(path).and_then(|file| file.take(most_bytes + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > most_bytes {
        return Err(Problem::new(format!("`{shown}` is longer than {most_bytes} bytes, so it is not what its name says")));
    }
    let text = String::from_utf8(bytes);
    text.map(Some).map_err(|error| Problem::new(format!("`{shown}` is not UTF-8")).caused_by(error))
}
