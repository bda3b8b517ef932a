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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_none_and_one_that_is_no_short_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let read = || read_small(&path, 4).map_err(|problem| problem.to_string());
        assert_eq!(read(), Ok(None));
        assert_eq!(read_small(folder.path(), 4).unwrap(), None, "a folder");
        std::fs::write(&path, "four").unwrap();
        assert_eq!(read(), Ok(Some("four".into())));
        assert_eq!(read_small(&path.join("below"), 4).unwrap(), None, "below a file");
        for (contents, expected) in [(&b"fives"[..], "is longer than 4 bytes"), (b"\xff", "is not UTF-8")] {
            std::fs::write(&path, contents).unwrap();
            let message = read().unwrap_err();
            assert!(message.contains(expected) && message.contains(path.to_str().unwrap()), "{message}");
        }
    }
}
