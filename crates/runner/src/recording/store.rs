//! The folder of recordings in the user's cache folder.
//!
//! A recording belongs to the run that made it, which holds a lock on it as long as it lives and removes it in the end.
//! A run that was killed leaves it behind for `--resume`. When its report folder is gone or finished, it is stale, and
//! the next run removes it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use kv_core::Geometry;
use serde::{Deserialize, Serialize};

use super::row_writer::row_bytes;
use super::{Header, Recording, RecordingKey, segments};
use crate::free_memory::size;
use crate::models::cache_folder;
use crate::{Problem, progress};

/// Where recordings lie.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
}

/// A recording's folder, locked for this run.
#[derive(Debug)]
pub(crate) struct StoredRecording {
    folder: PathBuf,
    kept: Kept,
    _lock: File,
}

/// What becomes of a recording after the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kept {
    /// It stays until somebody removes it.
    Always,
    /// It is removed when the run is finished.
    UntilTheEnd,
}

/// `owner.json`: whose recording it is.
#[derive(Debug, Serialize, Deserialize)]
struct Owner {
    kept: Kept,
    /// The folder of the unfinished run.
    run: PathBuf,
}

const OWNER: &str = "owner.json";
const LOCK: &str = "lock";

impl Store {
    /// The user's store.
    ///
    /// # Errors
    /// A [`Problem`] if the user has no cache folder.
    pub(crate) fn of_user() -> Result<Store, Problem> {
        Ok(Store::at(cache_folder()?.join("recordings")))
    }

    /// A store in this folder.
    pub(crate) fn at(folder: PathBuf) -> Store {
        Store { folder }
    }

    /// Bytes that a recording takes on disk.
    pub(crate) fn bytes(key: &RecordingKey, geometry: &Geometry) -> u64 {
        let tokens: u64 = segments(&key.lengths, key.chunk).iter().map(|segment| segment.len() as u64).sum();
        tokens.saturating_mul(geometry.layers as u64).saturating_mul(row_bytes(geometry, key.queries))
    }

    /// Removes recordings that no run needs: neither a living one nor one that can be resumed.
    pub(crate) fn remove_stale(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for folder in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let is_wanted = owner_of(&folder).is_some_and(|owner| owner.kept == Kept::Always || owner.run.exists());
            if !is_wanted && let Ok(Some(_lock)) = lock(&folder) {
                // It may be gone already: another run removes stale recordings too.
                let _ = fs::remove_dir_all(&folder);
            }
        }
        // The store goes with its last recording.
        let _ = fs::remove_dir(&self.folder);
    }

    /// The folder for a recording, locked. It may hold a finished recording of the same key.
    ///
    /// # Errors
    /// A [`Problem`] if it cannot be made.
    pub(crate) fn claim(&self, key: &RecordingKey, kept: Kept, run: &Path) -> Result<StoredRecording, Problem> {
        /// Runs of the same prompt at the same time.
        const MOST: usize = 100;
        let unusable =
            |folder: &Path, error: io::Error| Problem::new(format!("no recording can be made in `{}`", folder.display())).caused_by(error);
        for copy in 0..MOST {
            let name = if copy == 0 { key.hash() } else { format!("{}-{copy}", key.hash()) };
            let folder = self.folder.join(name);
            fs::create_dir_all(&folder).map_err(|error| unusable(&folder, error))?;
            let Some(lock) = lock(&folder).map_err(|error| unusable(&folder, error))? else { continue };
            let run = std::path::absolute(run).unwrap_or_else(|_| run.to_owned());
            // Whoever asked to keep it still wants it.
            let kept = owner_of(&folder).map_or(kept, |owner| if owner.kept == Kept::Always { Kept::Always } else { kept });
            let owner = serde_json::to_vec(&Owner { kept, run }).unwrap_or_default();
            fs::write(folder.join(OWNER), owner).map_err(|error| unusable(&folder, error))?;
            return Ok(StoredRecording { folder, kept, _lock: lock });
        }
        Err(Problem::new(format!("{MOST} runs hold recordings of the same prompt in `{}`", self.folder.display())))
    }

    /// Refuses a recording for which there is no room on the disk.
    ///
    /// # Errors
    /// A [`Problem`] with both numbers.
    pub(crate) fn require_room(&self, bytes: u64) -> Result<(), Problem> {
        let there = self.folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        // Where the system does not say what is free, writing will.
        let Ok(disk) = rustix::fs::statvfs(there) else { return Ok(()) };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if bytes > free {
            let message =
                format!("a recording of the prompt takes {}, and {} are free in `{}`", size(bytes), size(free), self.folder.display());
            return Err(Problem::new(message).help(
                "KVLAB_CACHE names another folder; `fill = \"prefill\"` in [sweep] records nothing and lets the model compute every prompt",
            ));
        }
        Ok(())
    }
}

/// Whose recording it is, if that can be read.
fn owner_of(folder: &Path) -> Option<Owner> {
    serde_json::from_slice(&fs::read(folder.join(OWNER)).ok()?).ok()
}

/// The lock of a folder, or `None` if somebody else has it.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file = File::create(folder.join(LOCK))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl StoredRecording {
    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the prompt of this key is recorded completely.
    pub(crate) fn is_finished(&self, key: &RecordingKey, geometry: &Geometry) -> bool {
        Recording::open(&self.folder, geometry).is_ok_and(|recording| recording.is_of(key))
    }

    /// Removes it unless it is to be kept.
    pub(crate) fn end(self) {
        if self.kept == Kept::UntilTheEnd {
            self.discard();
        }
    }

    /// Removes it: it is of no use.
    pub(crate) fn discard(self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            progress::say(&format!("the recording in {} cannot be removed: {error}", self.folder.display()));
        }
        // The store goes with its last recording.
        let _ = self.folder.parent().map(fs::remove_dir);
    }
}

/// The file for the rows of a recording.
///
/// # Errors
/// If it cannot be made.
pub(crate) fn rows_file(folder: &Path) -> io::Result<File> {
    // An unfinished recording has no header.
    match fs::remove_file(folder.join("recording.json")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::create(folder.join("rows.bin"))
}

/// Says that a recording is finished.
///
/// # Errors
/// If its header cannot be written.
pub(crate) fn finish(folder: &Path, header: &Header) -> io::Result<()> {
    crate::files::write_durably(&folder.join("recording.json"), &serde_json::to_vec(header)?)
}
