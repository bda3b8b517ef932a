//! What a config runs: a model with its caches, or the caches of a shape alone.

use kv_model::ModelConfig;
use kv_report::ModelRecord;

use crate::Problem;
use crate::attention_level::{Shape, require_no_pages};
use crate::cli::RunArguments;
use crate::config::{ConfigFile, Level};
use crate::models::{self, ModelFolders, ModelSource};
use crate::progress::say;
use crate::run_record::model_record;
use crate::screen::printable;
use crate::worker::protocol::{ModelSpec, RowsSpec};

/// See the module.
pub(super) enum Subject {
    Model(ModelSource),
    Alone(Shape),
}

impl Subject {
    /// What a config runs.
    ///
    /// # Errors
    /// A [`Problem`] that points at `[model]`.
    pub(super) fn of(file: &ConfigFile, arguments: &RunArguments) -> Result<Subject, Problem> {
        match file.config.sweep.level {
            Level::Attention => {
                require_no_pages(arguments.pages)?;
                Shape::of(file).map(Subject::Alone)
            }
            Level::Model => ModelSource::of_choice(file.config.model.get_ref(), file.folder(), &ModelFolders::of_environment())
                .map(Subject::Model)
                .map_err(|problem| problem.within(file, &file.config.model)),
        }
    }

    /// The hyperparameters, if they are known without reading a file.
    pub(super) fn known_config(&self) -> Option<ModelConfig> {
        match self {
            Subject::Model(source) => source.known_config(),
            Subject::Alone(shape) => Some(shape.config()),
        }
    }

    /// What is to be known before anything is measured. A model's file is read once for that: it may be damaged.
    ///
    /// # Errors
    /// A [`Problem`] that names the file, or the memory that the model's weights need.
    pub(super) fn look_at(&self, arguments: &RunArguments) -> Result<(ModelConfig, ModelRecord), Problem> {
        let source = match self {
            Subject::Model(source) => source,
            Subject::Alone(shape) => return Ok((shape.config(), shape.record()?)),
        };
        // The name of a file may have anything in it.
        let name = printable(&source.label());
        say(&format!("loading {name}"));
        let hash = source.hash()?;
        if let Some(config) = source.known_config() {
            source.require_memory()?;
            let record = model_record(source, name, hash, &config);
            return Ok((config, record));
        }
        let (model, loaded) = models::load(source, arguments.pages.pages())?;
        let config = model.decoder.config().clone();
        let record = model_record(source, name, hash, &config);
        Ok((config, ModelRecord { model_bytes: loaded.bytes, weight_formats: loaded.formats, ..record }))
    }

    /// What feeds the caches.
    pub(super) fn rows(&self, file: &ConfigFile, arguments: &RunArguments, config: &ModelConfig, seed: u64) -> RowsSpec {
        match self {
            Subject::Model(source) => {
                RowsSpec::Model(ModelSpec { source: source.spec(file.config.model.get_ref()), pages: arguments.pages })
            }
            Subject::Alone(_) => RowsSpec::Generated { geometry: config.geometry.clone(), seed },
        }
    }

    /// What a run's record says of this.
    pub(super) fn level(&self, seed: u64) -> kv_report::Level {
        match self {
            Subject::Model(_) => kv_report::Level::Model,
            Subject::Alone(shape) => kv_report::Level::Attention { seed, measured_layers: shape.measured_layers() },
        }
    }
}
