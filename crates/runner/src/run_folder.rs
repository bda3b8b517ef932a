//! The folder of a run.
//!
//! A run grows in `NAME.unfinished`, beside the folder it is meant for, and takes that folder's place as a whole when it is
//! finished. So a folder never holds files of two runs, an interrupted run leaves an earlier report as it was, and the same
//! command works every time. `visits.jsonl` is the truth: a line is added and brought to the disk after each pass over a
//! cell. Everything else is made from it and `run.json`.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kv_report::{Pass, RunRecord, RunState, Theme, Visit, read_run, read_visits};

use crate::Problem;
use crate::files::write_durably;
use crate::sweep::LIGHT_PAGE;
use crate::whole_folder::{self, beside, replace, replaced_folder};

/// A run's folder while the run lives: nobody else can take it.
#[derive(Debug)]
pub(crate) struct RunFolder {
    target: PathBuf,
    unfinished: PathBuf,
    log: File,
    _lock: File,
    /// What becomes of the folder when this value goes away.
    worth: Worth,
}

/// Whether a folder holds what somebody may want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// Nothing was measured.
    Nothing,
    /// A run that can be resumed, or one that is finished.
    Kept,
}

/// What to do with an unfinished run that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// Refuse, and say what can be done.
    Refuse,
    /// Go on with it.
    Resume,
    /// Go on with it, or begin if there is none: a task of a scheduler does not know.
    ResumeOrBegin,
    /// Begin again.
    Overwrite,
}

/// An unfinished run, as it was left.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) run: RunRecord,
    pub(crate) visits: Vec<Visit>,
}

const RUN: &str = "run.json";
const VISITS: &str = "visits.jsonl";
const LOCK: &str = "lock";
/// Of version 1.
const OLD_RESULTS: &str = "results.json";

impl RunFolder {
    /// Takes the folder for a run whose report will lie in `target`. Answers the unfinished run that is to be resumed.
    ///
    /// # Errors
    /// A [`Problem`] if another run lives there, an unfinished one is in the way, the folder holds what is not a report, or
    /// nothing can be written.
    pub(crate) fn open(target: &Path, unfinished_run: Unfinished) -> Result<(RunFolder, Option<Left>), Problem> {
        // A link stays one: what is replaced is the folder that it leads to.
        let target = &target.canonicalize().unwrap_or_else(|_| target.to_owned());
        let unfinished = unfinished_folder(target)?;
        let replaced = replaced_folder(target);
        [target, &unfinished, &replaced].into_iter().try_for_each(|folder| require_report(folder))?;
        let unusable = |error: io::Error| whole_folder::unusable(&unfinished, error);
        let was_there = unfinished.exists();
        fs::create_dir_all(&unfinished).map_err(unusable)?;
        let lock = lock(&unfinished).map_err(unusable)?.ok_or_else(|| {
            Problem::new(format!("another run is writing to `{}`", unfinished.display()))
                .help("wait for it, or give another folder with `--out`")
        })?;
        // A run that was killed while it took the place of an earlier one.
        let _ = fs::remove_dir_all(replaced);
        let left = match unfinished_run {
            // Whatever it is, it may be damaged.
            Unfinished::Overwrite => None,
            Unfinished::Refuse | Unfinished::Resume | Unfinished::ResumeOrBegin => {
                left_in(&unfinished)?.filter(|left| !was_replaced(left, target))
            }
        };
        let left = match (left, unfinished_run) {
            (Some(left), Unfinished::Resume | Unfinished::ResumeOrBegin) => Some(left),
            (Some(left), Unfinished::Refuse) => {
                let message = format!(
                    "`{}` holds an unfinished run, started {}, with {} of its {} cells visited",
                    unfinished.display(),
                    left.run.started,
                    visited(&left.visits),
                    left.run.cells.len()
                );
                return Err(Problem::new(message).help("`--resume` goes on with it; `--overwrite` begins again"));
            }
            (None, Unfinished::Resume) => {
                if !was_there {
                    fs::remove_dir_all(&unfinished).map_err(unusable)?;
                }
                return Err(Problem::new(format!("there is no unfinished run in `{}` to resume", unfinished.display()))
                    .help("without `--resume` the run starts from the beginning"));
            }
            (_, Unfinished::Overwrite) | (None, Unfinished::Refuse | Unfinished::ResumeOrBegin) => None,
        };
        if left.is_none() {
            clear(&unfinished).map_err(unusable)?;
        }
        let log = OpenOptions::new().create(true).append(true).open(unfinished.join(VISITS)).map_err(unusable)?;
        let worth = if left.is_some() { Worth::Kept } else { Worth::Nothing };
        Ok((RunFolder { target: target.to_owned(), unfinished, log, _lock: lock, worth }, left))
    }

    /// Where the files are while the run is unfinished.
    pub(crate) fn path(&self) -> &Path {
        &self.unfinished
    }

    /// Writes `run.json`.
    ///
    /// # Errors
    /// A [`Problem`] that names the file.
    pub(crate) fn write_run(&self, run: &RunRecord) -> Result<(), Problem> {
        let json = serde_json::to_vec_pretty(run).map_err(|error| Problem::new("cannot convert the run").caused_by(error))?;
        self.write(RUN, &json)
    }

    /// Adds a visit to the log and brings it to the disk.
    ///
    /// # Errors
    /// A [`Problem`] that names the file.
    pub(crate) fn add(&mut self, visit: &Visit) -> Result<(), Problem> {
        let line = visit.to_line().map_err(|error| Problem::new("cannot convert a visit").caused_by(error))?;
        let sound = self.log.metadata().map(|metadata| metadata.len());
        let added = sound.and_then(|sound| {
            let written = self.log.write_all(line.as_bytes()).and_then(|()| self.log.sync_data());
            if written.is_err() {
                // Half a line would be in the way of the next one.
                let _ = self.log.set_len(sound);
            }
            written
        });
        self.worth = Worth::Kept;
        added.map_err(|error| self.unwritable(VISITS, error))
    }

    /// Writes the whole log anew. Answers the visits as they will be read.
    ///
    /// # Errors
    /// A [`Problem`] that names the file.
    pub(crate) fn replace_visits(&mut self, visits: &[Visit]) -> Result<Vec<Visit>, Problem> {
        let lines = visits.iter().map(Visit::to_line).collect::<Result<String, _>>();
        let log = lines.map_err(|error| Problem::new("cannot convert a visit").caused_by(error))?;
        self.write(VISITS, log.as_bytes())?;
        let reopened = OpenOptions::new().append(true).open(self.unfinished.join(VISITS));
        self.log = reopened.map_err(|error| self.unwritable(VISITS, error))?;
        let (visits, _) = read_visits(log.as_bytes()).map_err(|error| unreadable(Path::new(VISITS), error))?;
        Ok(visits)
    }

    /// Writes a file of the report.
    ///
    /// # Errors
    /// A [`Problem`] that names the file.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Problem> {
        write_durably(&self.unfinished.join(name), bytes).map_err(|error| self.unwritable(name, error))
    }

    /// Puts the finished run where it is meant to be, in place of an earlier one.
    ///
    /// # Errors
    /// A [`Problem`] if that is impossible. Both runs are still there then.
    pub(crate) fn finish(mut self) -> Result<PathBuf, Problem> {
        self.worth = Worth::Kept;
        let RunFolder { target, unfinished, .. } = &self;
        // Files that came into it in the meantime are somebody's.
        require_report(target).map_err(|problem| {
            problem
                .help(format!("the run is complete in `{}`: move the file away, and `--resume` puts it in its place", unfinished.display()))
        })?;
        replace(unfinished, target).map_err(|error| {
            Problem::new(format!("the finished run cannot be moved from `{}` to `{}`", unfinished.display(), target.display()))
                .caused_by(error)
                .help("it is complete where it is; move it yourself")
        })?;
        let _ = fs::remove_file(target.join(LOCK));
        Ok(target.clone())
    }

    /// Leaves the unfinished run where it is.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.worth = Worth::Kept;
        self.unfinished.clone()
    }

    /// Removes the folder of a run that measured nothing.
    pub(crate) fn discard(mut self) {
        self.worth = Worth::Nothing;
    }

    fn unwritable(&self, name: &str, error: io::Error) -> Problem {
        Problem::new(format!("cannot write `{}`", self.unfinished.join(name).display()))
            .caused_by(error)
            .help("what was measured before is kept; `--resume` goes on when there is room")
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if self.worth == Worth::Nothing {
            let _ = fs::remove_dir_all(&self.unfinished);
        }
    }
}

/// A run's record and its visits, from a folder that a run has written.
///
/// # Errors
/// A [`Problem`] if they cannot be read. `None` if the folder holds no run.
pub(crate) fn read(folder: &Path) -> Result<Option<Left>, Problem> {
    let path = folder.join(RUN);
    let json = match fs::read(&path) {
        Ok(json) => json,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&path, error)),
    };
    let run = read_run(&json).map_err(|error| unreadable(&path, error))?;
    let path = folder.join(VISITS);
    let log = fs::read(&path).map_err(|error| unreadable(&path, error))?;
    let (visits, _) = read_visits(&log).map_err(|error| unreadable(&path, error))?;
    Ok(Some(Left { run, visits }))
}

fn unreadable(path: &Path, error: impl std::error::Error) -> Problem {
    Problem::new(format!("cannot read `{}`", path.display())).caused_by(error)
}

/// The unfinished run in a folder. The end of its log is repaired: the line that was being written when the run died is cut off.
fn left_in(unfinished: &Path) -> Result<Option<Left>, Problem> {
    let unusable = |problem: Problem| problem.help("`--overwrite` begins again");
    let Some(left) = read(unfinished).map_err(unusable)? else { return Ok(None) };
    let path = unfinished.join(VISITS);
    let repair = || -> io::Result<()> {
        let log = fs::read(&path)?;
        let (_, sound) = read_visits(&log).map_err(io::Error::other)?;
        if sound < log.len() {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(sound as u64)?;
            file.sync_all()?;
        }
        Ok(())
    };
    repair().map_err(|error| Problem::new(format!("cannot repair `{}`", path.display())).caused_by(error))?;
    Ok(Some(left))
}

fn visited(visits: &[Visit]) -> usize {
    let of_cells = visits.iter().filter(|visit| visit.pass != Pass::Gate);
    of_cells.map(|visit| visit.cell.as_str()).collect::<BTreeSet<_>>().len()
}

/// `reports/quickstart` grows in `reports/quickstart.unfinished`.
pub(crate) fn unfinished_folder(target: &Path) -> Result<PathBuf, Problem> {
    beside(target, ".unfinished")
}

/// Whether this is not an unfinished run, but the earlier one that a later one has just replaced.
fn was_replaced(left: &Left, target: &Path) -> bool {
    let later = || read(target).ok().flatten().is_some_and(|there| there.run.finished > left.run.finished);
    left.run.state == RunState::Finished && later()
}

/// Refuses a folder that holds anything but a report of a run: it would be lost.
fn require_report(folder: &Path) -> Result<(), Problem> {
    whole_folder::require_report(folder, |name| matches!(name, RUN | VISITS | LOCK | OLD_RESULTS), is_of_a_report)
}

/// Whether a run writes a file of this name, in this version or an earlier one.
fn is_of_a_report(name: &str) -> bool {
    const VIEWS: [&str; 9] =
        ["results.csv", "metrics.csv", "samples.csv", "text.csv", "quality.csv", "workload.csv", "against.md", "index.html", LIGHT_PAGE];
    // What was being written when a run was killed.
    let name = name.strip_suffix(".new").and_then(|name| name.rsplit_once('.')).map_or(name, |(name, _)| name);
    let picture = name.strip_suffix(".png").or(name.strip_suffix(".svg"));
    let is_chart = picture.is_some_and(|name| kv_report::chart_names().any(|chart| name.strip_prefix(chart).is_some_and(is_of_a_theme)));
    is_chart || VIEWS.contains(&name) || matches!(name, RUN | VISITS | LOCK | OLD_RESULTS)
}

/// Whether a picture's name has this after the chart's.
fn is_of_a_theme(rest: &str) -> bool {
    Theme::ALL.iter().any(|theme| theme.suffix() == rest)
}

/// The lock of a folder, or `None` if another process has it.
///
/// # Errors
/// The system's.
pub(crate) fn lock(folder: &Path) -> io::Result<Option<File>> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
    match file.try_lock() {
        // A run that has just finished took the folder away with its lock.
        Ok(()) if is_at(&file, &path) => Ok(Some(file)),
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether the path still leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata(), path.metadata()), (Ok(file), Ok(path)) if inode(file.clone()) == inode(path.clone()))
}

/// Removes everything but the lock.
fn clear(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() != LOCK {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
