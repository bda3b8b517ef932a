//! Random weights that the user wants to keep: drawing billions of them takes long, and a run may need them in several processes.
//!
//! A file is a line that says what the weights depend on, and the matrices one after the other.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use kv_model::{LoadOptions, Model, Preset};

use super::catalog::cache_folder;
use super::random_model::RandomModel;
use super::{open, unusable};
use crate::Problem;
use crate::progress::say;

/// Is raised when the same line would give other weights.
const VERSION: u32 = 1;

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
    match keep(&drawn, &title(model), &path) {
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

/// The line at the beginning of the file.
fn title(model: &RandomModel) -> String {
    let RandomModel { preset, layers, seed, weights, .. } = model;
    format!("kvlab random weights {VERSION}: {preset:?}, layers {layers:?}, {weights}, seed {seed}\n")
}

fn read(model: &RandomModel, path: &Path, options: LoadOptions<'_>) -> Result<Model, Problem> {
    let shown = path.display();
    let unwanted = |why: &str| {
        Problem::new(format!("the kept weights `{shown}` {why}")).help(format!("remove `{shown}`, and the weights are drawn again"))
    };
    let mut file = BufReader::new(open(path)?);
    let mut line = vec![];
    let title = title(model);
    let first = std::io::Read::take(&mut file, title.len() as u64).read_until(b'\n', &mut line);
    first.map_err(|error| Problem::new(format!("cannot read `{shown}`")).caused_by(error))?;
    if line != title.as_bytes() {
        return Err(unwanted("are of another model, or of another version of kvlab"));
    }
    let loaded = model.preset.reload(model.layers, model.weights, &mut file, options);
    let loaded = loaded.map_err(|error| match error {
        kv_model::LoadError::Read { .. } => unwanted("are damaged").caused_by(error),
        other => unusable(&shown.to_string(), other),
    })?;
    match file.fill_buf() {
        Ok([]) => Ok(loaded),
        _ => Err(unwanted("are damaged: the file is too long")),
    }
}

/// Writes beside the file and renames, so that an interrupted run leaves no half of it.
fn keep(model: &Model, title: &str, path: &Path) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = BufWriter::new(tempfile::NamedTempFile::new_in(folder)?);
    file.write_all(title.as_bytes())?;
    Preset::keep(model, &mut file)?;
    let file = file.into_inner().map_err(|error| error.into_error())?;
    file.persist(path).map(|_: File| ()).map_err(|error| error.error)
}
