//! Random weights that the user wants to keep: drawing billions of them takes long, and a run may need them in several processes.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use kv_kernels::WeightFormat;
use kv_model::{LoadOptions, Model, ModelConfig, Preset};

use super::catalog::cache_folder;
use super::{open, unusable};
use crate::Problem;
use crate::progress::say;

/// Random weights, by all that they depend on.
pub(super) struct KeptWeights {
    config: ModelConfig,
    format: WeightFormat,
    seed: u64,
    path: PathBuf,
}

impl KeptWeights {
    /// # Errors
    /// A [`Problem`] if the user has no cache folder.
    pub(super) fn new(preset: &Preset, config: ModelConfig, format: WeightFormat, seed: u64) -> Result<KeptWeights, Problem> {
        let file = format!("{}-{}-layers-{format}-seed-{seed}.weights", preset.name, config.geometry.layers);
        Ok(KeptWeights { config, format, seed, path: cache_folder()?.join(file) })
    }

    /// Reads the weights, or draws and keeps them.
    ///
    /// # Errors
    /// A [`Problem`] that names the file.
    pub(super) fn load(self, options: LoadOptions<'_>) -> Result<Model, Problem> {
        let KeptWeights { config, format, seed, path } = self;
        let shown = path.display().to_string();
        if path.exists() {
            let mut file = open(&path)?;
            return Preset::reload(config, format, &mut file, options).map_err(|error| {
                unusable(&shown, error).help(format!("the kept weights are damaged: remove `{shown}`, and they are drawn again"))
            });
        }
        let model = Preset::build(config, format, seed, options).map_err(|error| unusable(&shown, error))?;
        keep(&model, &path).map_err(|error| Problem::new(format!("cannot keep the weights in `{shown}`")).caused_by(error))?;
        say(&format!("the random weights are kept in {shown}"));
        Ok(model)
    }
}

/// Writes beside the file and renames, so that an interrupted run leaves no half of it.
fn keep(model: &Model, path: &Path) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = BufWriter::new(tempfile::NamedTempFile::new_in(folder)?);
    Preset::keep(model, &mut file)?;
    file.flush()?;
    let file = file.into_inner().map_err(|error| error.into_error())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
