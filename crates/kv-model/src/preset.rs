//! Models with the shape of known ones and seeded random weights.

use kv_core::{Geometry, Rope};
use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{Decoder, LoadError, Model, ModelConfig, TensorSource, TextTokenizer, Weights};

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
            summary: "the shape of Llama-3-8B; 32 GB of weights in f32, so set `layers` to run fewer",
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

    /// A model of these hyperparameters with random weights; the same seed gives the same weights.
    ///
    /// # Errors
    /// [`LoadError::Geometry`] if the hyperparameters are impossible.
    pub fn build(config: ModelConfig, seed: u64) -> Result<Model, LoadError> {
        let weights = Weights::load(&config, &mut RandomSource { seed, tensors: 0 })?;
        Ok(Model { decoder: Decoder::new(config, weights), tokenizer: TextTokenizer::bytes(), text_notes: vec![] })
    }
}

/// Uniform weights of variance `1 / inputs`, so that activations keep their size, and norms of 1.
struct RandomSource {
    seed: u64,
    tensors: u64,
}

impl TensorSource for RandomSource {
    fn tensor(&mut self, _: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let [outputs, inputs] = *shape else { return Ok(vec![1.0; shape.iter().product()]) };
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(self.tensors);
        self.tensors += 1;
        let limit = (3.0 / inputs as f32).sqrt();
        Ok((0..outputs * inputs).map(|_| random.random_range(-limit..limit)).collect())
    }

    fn has(&self, name: &str) -> bool {
        // A tied head, no biases, and no norms of queries and keys.
        name != "lm_head.weight" && !name.ends_with(".bias") && !name.ends_with("_norm.weight")
    }
}
