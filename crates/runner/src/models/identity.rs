//! What tells one model from another, and how another process finds the same.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kv_model::hugging_face;

use super::random_model::RandomModel;
use super::{ModelSource, config_of, open, optional, safetensors_in, unusable};
use crate::config::ModelChoice;
use crate::progress::LongTask;
use crate::worker::protocol::SourceSpec;
use crate::{Problem, hash};

impl ModelSource {
    /// A SHA-256: of the file, of the hashes of a folder's config and weights, or of what random weights are drawn from.
    ///
    /// # Errors
    /// A [`Problem`] that names a file that cannot be read.
    pub(crate) fn hash(&self) -> Result<String, Problem> {
        match self {
            ModelSource::Preset(model) => hash_of(model.title().as_bytes(), "the preset"),
            ModelSource::Small => hash_of(kv_model::SMALL_GGUF, "the small model"),
            ModelSource::Gguf { path, .. } => hash_of_file(path),
            ModelSource::HuggingFace { path, .. } => {
                let config = config_of(path)?;
                let index = optional(path, "model.safetensors.index.json")?;
                let names = hugging_face::weight_files(&config, index.as_deref(), &safetensors_in(path)?)
                    .map_err(|error| unusable(&path.display().to_string(), error))?;
                let mut all = config;
                for name in names {
                    all.push_str(&format!("\n{name} {}", hash_of_file(&path.join(&name))?));
                }
                hash_of(all.as_bytes(), "the model's files")
            }
        }
    }

    /// How a worker finds the same model.
    pub(crate) fn spec(&self, chosen: &ModelChoice) -> SourceSpec {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        match self {
            ModelSource::Preset(_) | ModelSource::Small => SourceSpec::Preset(chosen.clone()),
            ModelSource::Gguf { path, .. } => SourceSpec::Gguf(absolute(path)),
            ModelSource::HuggingFace { path, .. } => SourceSpec::HuggingFace(absolute(path)),
        }
    }

    /// The model that the runner told a worker of.
    ///
    /// # Errors
    /// A [`Problem`] if there is no such preset.
    pub(crate) fn of_spec(spec: &SourceSpec) -> Result<ModelSource, Problem> {
        let label = |path: &Path| path.display().to_string();
        match spec {
            SourceSpec::Preset(choice) => {
                let name = choice.preset.as_deref().unwrap_or_default();
                if name == kv_model::SMALL {
                    return Ok(ModelSource::Small);
                }
                RandomModel::of(name, choice.layers).map(|model| ModelSource::Preset(model.with(choice)))
            }
            SourceSpec::Gguf(path) => Ok(ModelSource::Gguf { label: label(path), path: path.clone() }),
            SourceSpec::HuggingFace(path) => Ok(ModelSource::HuggingFace { label: label(path), path: path.clone() }),
        }
    }
}

fn hash_of(reader: impl Read, what: &str) -> Result<String, Problem> {
    hash::of_reader(reader).map_err(|error| Problem::new(format!("cannot read {what}")).caused_by(error))
}

fn hash_of_file(path: &Path) -> Result<String, Problem> {
    /// Quicker hashing needs no progress.
    const QUIET: Duration = Duration::from_secs(2);
    let file = open(path)?;
    let all = file.metadata().map_or(0, |metadata| metadata.len());
    let mut watched = Watched { file, done: 0, all, task: LongTask::new("reading the model for its hash", QUIET) };
    let hash = hash_of(&mut watched, &format!("`{}`", path.display()));
    watched.task.clear();
    hash
}

/// A file that says how far it has been read.
struct Watched {
    file: File,
    done: u64,
    all: u64,
    task: LongTask,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.done += read as u64;
        self.task.report(self.done, self.all);
        Ok(read)
    }
}
