//! What a config runs: a model with its caches, or caches alone, with the rows of a shape or of a model.

use kv_model::{ModelConfig, TextTokenizer};
use kv_report::{ModelRecord, RowsOrigin};

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
    /// Caches alone, with rows that are generated for a shape.
    Alone(Shape),
    /// Caches alone, with rows that this model computed before.
    Recorded(ModelSource),
}

/// What is known of a subject before anything is measured.
pub(super) struct Looked {
    pub(super) config: ModelConfig,
    pub(super) record: ModelRecord,
    /// The model's tokenizer. `None` where no model is at hand.
    pub(super) tokenizer: Option<TextTokenizer>,
}

impl Subject {
    /// What a config runs.
    ///
    /// # Errors
    /// A [`Problem`] that points at `[model]`.
    pub(super) fn of(file: &ConfigFile, arguments: &RunArguments) -> Result<Subject, Problem> {
        let choice = file.model().get_ref();
        let source = || {
            ModelSource::of_choice(choice, file.folder(), &ModelFolders::of_environment())
                .map_err(|problem| problem.within(file, file.model()))
        };
        match file.config.sweep.level {
            Level::Attention if choice.names_trained_model() => source().map(Subject::Recorded),
            Level::Attention => {
                require_no_pages(arguments.pages)?;
                Shape::of(file).map(Subject::Alone)
            }
            Level::Model => source().map(Subject::Model),
        }
    }

    /// The hyperparameters, if they are known without reading a file.
    pub(super) fn known_config(&self) -> Option<ModelConfig> {
        match self {
            Subject::Model(source) | Subject::Recorded(source) => source.known_config(),
            Subject::Alone(shape) => Some(shape.config()),
        }
    }

    /// What is to be known before anything is measured. A model's file is read once for that: it may be damaged.
    ///
    /// # Errors
    /// A [`Problem`] that names the file, or the memory that the model's weights need.
    pub(super) fn look_at(&self, arguments: &RunArguments) -> Result<Looked, Problem> {
        let source = match self {
            Subject::Model(source) | Subject::Recorded(source) => source,
            Subject::Alone(shape) => return Ok(Looked { config: shape.config(), record: shape.record()?, tokenizer: None }),
        };
        // The name of a file may have anything in it.
        let name = printable(&source.label());
        say(&format!("loading {name}"));
        let hash = source.hash()?;
        if let Some(config) = source.known_config() {
            source.require_memory()?;
            let record = model_record(source, name, hash, &config);
            // Random weights know bytes.
            return Ok(Looked { config, record, tokenizer: Some(TextTokenizer::bytes()) });
        }
        let (model, loaded) = models::load(source, arguments.pages.pages())?;
        let config = model.decoder.config().clone();
        let record = model_record(source, name, hash, &config);
        let record = ModelRecord { model_bytes: loaded.bytes, weight_formats: loaded.formats, ..record };
        Ok(Looked { config, record, tokenizer: Some(model.tokenizer) })
    }

    /// What feeds the caches.
    pub(super) fn rows(&self, file: &ConfigFile, arguments: &RunArguments, config: &ModelConfig, seed: u64) -> RowsSpec {
        let geometry = config.geometry.clone();
        let model = |source: &ModelSource| ModelSpec { source: source.spec(file.model().get_ref()), pages: arguments.pages };
        match self {
            Subject::Model(source) => RowsSpec::Model(model(source)),
            Subject::Alone(_) => RowsSpec::Generated { geometry, seed },
            Subject::Recorded(source) => RowsSpec::Recorded { geometry, model: model(source) },
        }
    }

    /// What a run's record says of this.
    pub(super) fn level(&self, config: &ModelConfig, seed: u64) -> kv_report::Level {
        let measured_layers = config.geometry.layers;
        match self {
            Subject::Model(_) => kv_report::Level::Model,
            Subject::Alone(_) => kv_report::Level::Attention { rows: RowsOrigin::Generated, seed, measured_layers },
            Subject::Recorded(_) => kv_report::Level::Attention { rows: RowsOrigin::Recorded, seed, measured_layers },
        }
    }
}
