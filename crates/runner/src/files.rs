//! Writing files so that nothing is lost.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes a file beside its place, brings it to the disk and renames it: whatever interrupts this leaves either the old
/// file or the new one.
///
/// # Errors
/// The system's, a full disk for example.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Two processes may write the same file. One of them wins.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_folder(path.parent())
    };
    let written = write();
    if written.is_err() {
        // What could not be written completely is of no use.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Brings the names of a folder's files to the disk.
///
/// # Errors
/// The system's.
pub(crate) fn sync_folder(folder: Option<&Path>) -> io::Result<()> {
    let here = |folder: &&Path| !folder.as_os_str().is_empty();
    File::open(folder.filter(here).unwrap_or(Path::new(".")))?.sync_all()
}
