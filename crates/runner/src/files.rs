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
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut file = File::create(&beside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // What could not be written completely is of no use.
        let _ = fs::remove_file(&beside);
    }
    written
}
