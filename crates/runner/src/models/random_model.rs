//! A preset's model with random weights.

use kv_kernels::WeightFormat;
use kv_model::{LoadOptions, Model, ModelConfig, Preset};

use super::{kept_weights, unusable};
use crate::config::ModelChoice;
use crate::problem::did_you_mean;
use crate::{Problem, free_memory};

/// A preset and what its random weights depend on.
#[derive(Debug, Clone)]
pub(crate) struct RandomModel {
    pub(super) preset: Preset,
    pub(super) layers: Option<usize>,
    pub(super) seed: u64,
    pub(super) weights: WeightFormat,
    keeping: Keeping,
}

/// Whether random weights are kept for the next run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeping {
    Forget,
    Keep,
}

/// The preset of this name.
///
/// # Errors
/// A [`Problem`] that lists what there is.
pub(crate) fn known_preset(name: &str) -> Result<Preset, Problem> {
    let names: Vec<&str> = Preset::ALL.iter().map(|preset| preset.name).chain([kv_model::SMALL]).collect();
    Preset::find(name).ok_or_else(|| {
        let help = did_you_mean(name, names.iter().copied()).unwrap_or_else(|| {
            "a path must exist; `runner fetch` brings a real model; `org/name` is one in the Hugging Face cache, and \
             `ollama:name` an Ollama model"
                .into()
        });
        Problem::new(format!("no model is called `{name}`; presets: {}", names.join(", "))).help(help)
    })
}

impl RandomModel {
    /// A preset with weights in `f32`.
    pub(super) fn of(name: &str, layers: Option<usize>) -> Result<RandomModel, Problem> {
        let preset = known_preset(name)?;
        if layers == Some(0) {
            return Err(Problem::new("`layers` is 0: a model has at least one"));
        }
        Ok(RandomModel { preset, layers, seed: 0, weights: WeightFormat::F32, keeping: Keeping::Forget })
    }

    /// With what a config says of the weights.
    pub(super) fn with(self, choice: &ModelChoice) -> RandomModel {
        RandomModel {
            seed: choice.seed.unwrap_or_default(),
            weights: choice.weights.unwrap_or_default().format(),
            keeping: if choice.keep_weights == Some(true) { Keeping::Keep } else { Keeping::Forget },
            ..self
        }
    }

    /// The hyperparameters.
    pub(super) fn config(&self) -> ModelConfig {
        self.preset.config(self.layers)
    }

    /// How results name it.
    pub(super) fn label(&self) -> String {
        let layers = self.layers.map_or(String::new(), |layers| format!(", {layers} layers"));
        let weights = if self.weights == WeightFormat::F32 { String::new() } else { format!(" in {}", self.weights) };
        format!("{}{layers} (random weights{weights})", self.preset.name)
    }

    /// A line that says what the weights depend on.
    pub(super) fn title(&self) -> String {
        /// Is raised when the same line would give other weights.
        const VERSION: u32 = 1;
        let RandomModel { preset, layers, seed, weights, .. } = self;
        format!("kvlab random weights {VERSION}: {preset:?}, layers {layers:?}, {weights}, seed {seed}\n")
    }

    /// Draws the weights, or reads those that were kept.
    pub(super) fn load(&self, options: LoadOptions<'_>) -> Result<Model, Problem> {
        self.require_memory()?;
        match self.keeping {
            Keeping::Keep => kept_weights::load(self, options),
            Keeping::Forget => self.draw(options),
        }
    }

    /// Draws the weights.
    pub(super) fn draw(&self, options: LoadOptions<'_>) -> Result<Model, Problem> {
        let RandomModel { preset, layers, seed, weights, .. } = self;
        preset.build(*layers, *weights, *seed, options).map_err(|error| unusable(preset.name, error))
    }

    /// Bytes of the weights.
    pub(super) fn bytes(&self) -> usize {
        let (values, bytes) = self.weights.block();
        (self.preset.weights(self.layers) / values).saturating_mul(bytes)
    }

    /// Refuses weights that cannot fit, before the machine starts to swap.
    pub(super) fn require_memory(&self) -> Result<(), Problem> {
        let smaller = match self.weights {
            WeightFormat::Q4_0 => "",
            WeightFormat::Q8_0 => "`weights = \"q4_0\"` in [model] takes about half of that; ",
            _ => "`weights = \"q8_0\"` in [model] takes 8.5 bits per weight; ",
        };
        free_memory::require(self.bytes(), &format!("the model in {}", self.weights))
            .map_err(|problem| problem.help(format!("{smaller}`layers` runs fewer layers: the cost of a layer is the same")))
    }
}
