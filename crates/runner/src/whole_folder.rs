//! Folders that are replaced as a whole, so that none ever holds files of two reports.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::Problem;
use crate::files::sync_folder;

/// The folder with this ending beside another one: `reports/quickstart.unfinished` is beside `reports/quickstart`.
///
/// # Errors
/// A [`Problem`] if the folder is a root or the like, beside which there is nothing.
pub(crate) fn beside(target: &Path, ending: &str) -> Result<PathBuf, Problem> {
    let absolute = std::path::absolute(target).unwrap_or_else(|_| target.to_owned());
    let Some(name) = target.file_name().or_else(|| absolute.file_name()) else {
        return Err(
            Problem::new(format!("`--out {}` is no folder of its own", target.display())).help("a report replaces its folder as a whole")
        );
    };
    let mut name = name.to_owned();
    name.push(ending);
    let parent = if target.file_name().is_some() { target.parent() } else { absolute.parent() };
    Ok(parent.map_or_else(|| PathBuf::from(&name), |parent| parent.join(&name)))
}

/// Where an earlier report waits to be removed.
pub(crate) fn replaced_folder(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".replaced");
    name.into()
}

/// Refuses a folder that holds anything but a report: it would be lost. A report has a file that `begins` knows, and only files that
/// `belongs` knows.
///
/// # Errors
/// A [`Problem`] that names a file that is in the way.
pub(crate) fn require_report(folder: &Path, begins: fn(&str) -> bool, belongs: fn(&str) -> bool) -> Result<(), Problem> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound && !folder.is_symlink() => return Ok(()),
        Err(error) => return Err(unusable(folder, error)),
    };
    let names: Vec<String> = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    let is_report = names.iter().any(|name| begins(name));
    match names.iter().find(|name| !is_report || !belongs(name)) {
        None => Ok(()),
        Some(name) => Err(Problem::new(format!(
            "`{}` holds `{name}`, which is not part of a report, and a report replaces its folder as a whole",
            folder.display()
        ))
        .help("give another folder with `--out`, or move the file away")),
    }
}

/// That no report can be written to a folder.
pub(crate) fn unusable(folder: &Path, error: io::Error) -> Problem {
    Problem::new(format!("the report cannot be written to `{}`", folder.display()))
        .caused_by(error)
        .help("`--out FOLDER` puts it elsewhere; the folder is made if it does not exist")
}

/// Puts a folder in the place of another, at once where the system can do that.
///
/// # Errors
/// The system's. Both folders are still there then.
pub(crate) fn replace(new: &Path, place: &Path) -> io::Result<()> {
    let aside = replaced_folder(place);
    if !place.exists() {
        fs::rename(new, place)?;
    } else if exchange(new, place) {
        // What is at `new` now is the earlier report.
        fs::rename(new, &aside)?;
    } else {
        fs::rename(place, &aside)?;
        fs::rename(new, place)?;
    }
    sync_folder(place.parent())?;
    match fs::remove_dir_all(aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Lets two folders change places, if the system can do that at once.
fn exchange(one: &Path, other: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (one, other);
        false
    }
}
