//! Random weights that the user wants to keep: drawing billions of them takes long, and a run may need them in several processes.
//!
//! A file is a line that says what the weights depend on, the matrices one after the other, and their CRC-32.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crc32fast::Hasher;
use kv_model::{LoadOptions, Model, Preset};

use super::catalog::cache_folder;
use super::random_model::RandomModel;
use super::{open, unusable};
use crate::Problem;
use crate::progress::say;

/// Reads a model's weights, or draws and keeps them.
///
/// # Errors
/// A [`Problem`] that names the file if it is damaged.
pub(super) fn load(model: &RandomModel, options: LoadOptions<'_>) -> Result<Model, Problem> {
    let path = path(model)?;
    if path.exists() {
        return read(model, &path, options);
    }
    let drawn = model.draw(options)?;
    // The weights are there, so the run goes on without the file.
    match keep(&drawn, &model.title(), &path) {
        Ok(()) => say(&format!("the random weights are kept in {}", path.display())),
        Err(error) => say(&format!("the random weights could not be kept in {}: {error}", path.display())),
    }
    Ok(drawn)
}

fn path(model: &RandomModel) -> Result<PathBuf, Problem> {
    let RandomModel { preset, seed, weights, .. } = model;
    let layers = model.config().geometry.layers;
    Ok(cache_folder()?.join(format!("{}-{layers}-layers-{weights}-seed-{seed}.weights", preset.name)))
}

fn read(model: &RandomModel, path: &Path, options: LoadOptions<'_>) -> Result<Model, Problem> {
    let shown = path.display();
    let unwanted = |why: &str| {
        Problem::new(format!("the kept weights `{shown}` {why}")).help(format!("remove `{shown}`, and the weights are drawn again"))
    };
    let unread = |error| Problem::new(format!("cannot read `{shown}`")).caused_by(error);
    let mut file = BufReader::new(open(path)?);
    let mut line = vec![];
    let title = model.title();
    file.by_ref().take(title.len() as u64).read_until(b'\n', &mut line).map_err(unread)?;
    if line != title.as_bytes() {
        return Err(unwanted("are of another model, or of another version of kvlab"));
    }
    let mut summed = Summed { inner: file, sum: Hasher::new() };
    let loaded = model.preset.reload(model.layers, model.weights, &mut summed, options);
    let loaded = loaded.map_err(|error| match error {
        kv_model::LoadError::Read { .. } => unwanted("are damaged").caused_by(error),
        other => unusable(&shown.to_string(), other),
    })?;
    let Summed { inner: mut file, sum } = summed;
    let mut end = vec![];
    file.read_to_end(&mut end).map_err(unread)?;
    if end != sum.finalize().to_le_bytes() {
        return Err(unwanted("are damaged: their checksum is another"));
    }
    Ok(loaded)
}

/// Writes beside the file and renames, so that an interrupted run leaves no half of it in its place.
fn keep(model: &Model, title: &str, path: &Path) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    remove_leftovers(folder);
    let mut file = BufWriter::new(tempfile::Builder::new().suffix(PARTIAL).tempfile_in(folder)?);
    file.write_all(title.as_bytes())?;
    let mut summed = Summed { inner: file, sum: Hasher::new() };
    Preset::keep(model, &mut summed)?;
    let Summed { inner: mut file, sum } = summed;
    file.write_all(&sum.finalize().to_le_bytes())?;
    let file = file.into_inner().map_err(|error| error.into_error())?;
    file.persist(path).map(|_: File| ()).map_err(|error| error.error)
}

/// What an interrupted run was writing.
const PARTIAL: &str = ".weights.partial";

/// Removes what interrupted runs were writing. A run that is writing now changed its file a moment ago.
fn remove_leftovers(folder: &Path) {
    const OLD: Duration = Duration::from_secs(600);
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let partial = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(PARTIAL));
    for entry in partial {
        let changed = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        if changed.and_then(|changed| changed.elapsed().ok()).is_some_and(|age| age > OLD) {
            // It stays if it cannot be removed; the weights are kept all the same.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// A file and the checksum of what went through.
struct Summed<F> {
    inner: F,
    sum: Hasher,
}

impl<F: Read> Read for Summed<F> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let len = self.inner.read(bytes)?;
        self.sum.update(&bytes[..len]);
        Ok(len)
    }
}

impl<F: Write> Write for Summed<F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let len = self.inner.write(bytes)?;
        self.sum.update(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}
