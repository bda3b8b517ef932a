//! Models with the shape of known ones and seeded random weights.

use std::io::Write;

use kv_core::{Geometry, Rope};
use kv_kernels::WeightFormat;

use crate::random_weights::{FORMATS, KeptSource, RandomSource};
use crate::{Decoder, LoadError, LoadOptions, Model, ModelConfig, ReadSeek, TextTokenizer, Weights};

/// A known shape. Speed and memory of a cache depend on it alone; what it writes is noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// The name in configs.
    pub name: &'static str,
    /// What it is.
    pub summary: &'static str,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    hidden: usize,
    intermediate: usize,
    vocabulary: usize,
    context: usize,
    theta: u32,
}

impl Preset {
    /// All presets.
    pub const ALL: [Preset; 5] = [
        Preset {
            name: "tiny",
            summary: "made for tests and the quickstart: 4 layers, 8 heads over 2 KV heads",
            layers: 4,
            heads: 8,
            kv_heads: 2,
            head_dim: 32,
            hidden: 256,
            intermediate: 704,
            vocabulary: 1024,
            context: 16384,
            theta: 10_000,
        },
        Preset {
            name: "smollm2-135m",
            summary: "the shape of SmolLM2-135M",
            layers: 30,
            heads: 9,
            kv_heads: 3,
            head_dim: 64,
            hidden: 576,
            intermediate: 1536,
            vocabulary: 49152,
            context: 8192,
            theta: 100_000,
        },
        Preset {
            name: "qwen2.5-0.5b",
            summary: "the shape of Qwen2.5-0.5B",
            layers: 24,
            heads: 14,
            kv_heads: 2,
            head_dim: 64,
            hidden: 896,
            intermediate: 4864,
            vocabulary: 151_936,
            context: 32768,
            theta: 1_000_000,
        },
        Preset {
            name: "llama-3.2-1b",
            summary: "the shape of Llama-3.2-1B",
            layers: 16,
            heads: 32,
            kv_heads: 8,
            head_dim: 64,
            hidden: 2048,
            intermediate: 8192,
            vocabulary: 128_256,
            context: 131_072,
            theta: 500_000,
        },
        Preset {
            name: "llama-3-8b",
            summary: "the shape of Llama-3-8B; 8.5 GB with `weights = \"q8_0\"`, 32 GB in f32, or set `layers` to run fewer",
            layers: 32,
            heads: 32,
            kv_heads: 8,
            head_dim: 128,
            hidden: 4096,
            intermediate: 14336,
            vocabulary: 128_256,
            context: 8192,
            theta: 500_000,
        },
    ];

    /// The preset of this name.
    pub fn find(name: &str) -> Option<Preset> {
        Preset::ALL.into_iter().find(|preset| preset.name == name)
    }

    /// The hyperparameters, with another number of layers if one is given.
    pub fn config(self, layers: Option<usize>) -> ModelConfig {
        let geometry = Geometry {
            layers: layers.unwrap_or(self.layers),
            heads: self.heads,
            kv_heads: self.kv_heads,
            key_dim: self.head_dim,
            value_dim: self.head_dim,
            rope: Rope::new(self.theta.into(), self.head_dim),
            context: self.context,
        };
        let Preset { hidden, intermediate, vocabulary, .. } = self;
        ModelConfig { geometry, hidden, intermediate, vocabulary, norm_epsilon: 1e-5 }
    }

    /// The formats that random weights can have.
    pub const WEIGHT_FORMATS: [WeightFormat; 5] = FORMATS;

    /// A model of these hyperparameters with random weights; the same seed gives the same weights, on any number of threads.
    ///
    /// # Errors
    /// [`LoadError`] if the hyperparameters are impossible or do not fit the format.
    pub fn build(config: ModelConfig, format: WeightFormat, seed: u64, options: LoadOptions<'_>) -> Result<Model, LoadError> {
        let weights = Weights::load(&config, &mut RandomSource::new(seed, format)?, options)?;
        Ok(Preset::model(config, weights))
    }

    /// The model whose matrices [`Preset::keep`] has written to a file.
    ///
    /// # Errors
    /// [`LoadError`] if the file ends too early.
    pub fn reload(
        config: ModelConfig,
        format: WeightFormat,
        file: &mut dyn ReadSeek,
        options: LoadOptions<'_>,
    ) -> Result<Model, LoadError> {
        let weights = Weights::load(&config, &mut KeptSource { file, format }, options)?;
        Ok(Preset::model(config, weights))
    }

    /// Writes the matrices of a built model, for [`Preset::reload`].
    ///
    /// # Errors
    /// Those of the file.
    pub fn keep(model: &Model, file: &mut dyn Write) -> std::io::Result<()> {
        model.decoder.weights().matrices().try_for_each(|bytes| file.write_all(bytes))
    }

    fn model(config: ModelConfig, weights: Weights) -> Model {
        Model { decoder: Decoder::new(config, weights), tokenizer: TextTokenizer::bytes(), text_notes: vec![] }
    }
}
