//! Models with the shape of known ones and seeded random weights.

use std::io::{Read, Write};

use kv_core::{Geometry, Rope};
use kv_kernels::WeightFormat;

use crate::random_weights::RandomMatrices;
use crate::{Decoder, LoadError, LoadOptions, Model, ModelConfig, TensorSource, TextTokenizer, Weights};

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
    head: Head,
}

/// Where the weights from hidden values to logits come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    /// They are the embedding's.
    Tied,
    /// It has its own.
    Own,
}

impl Preset {
    /// All presets.
    pub const ALL: [Preset; 5] = [
        Preset {
            name: "tiny",
            summary: "made for tests: 4 layers, 8 heads over 2 KV heads",
            layers: 4,
            heads: 8,
            kv_heads: 2,
            head_dim: 32,
            hidden: 256,
            intermediate: 704,
            vocabulary: 1024,
            context: 16384,
            theta: 10_000,
            head: Head::Tied,
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
            head: Head::Tied,
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
            head: Head::Tied,
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
            head: Head::Tied,
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
            head: Head::Own,
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

    /// The number of weights.
    pub fn weights(self, layers: Option<usize>) -> usize {
        let head = match self.head {
            Head::Tied => 0,
            Head::Own => self.vocabulary * self.hidden,
        };
        self.config(layers).weights().saturating_add(head)
    }

    /// A model of this shape with random weights; the same seed gives the same weights, on any number of threads.
    ///
    /// # Errors
    /// [`LoadError`] if the shape does not fit the format, or weights cannot be drawn in it.
    pub fn build(self, layers: Option<usize>, format: WeightFormat, seed: u64, options: LoadOptions<'_>) -> Result<Model, LoadError> {
        let mut random = RandomMatrices::new(seed, format)?;
        self.load(
            layers,
            format,
            &mut |_, inputs, bytes| {
                random.draw(inputs, bytes);
                Ok(())
            },
            options,
        )
    }

    /// The model whose matrices [`Preset::keep`] has written to a file, which is read from where it stands.
    ///
    /// # Errors
    /// [`LoadError`] if the file ends too early.
    pub fn reload(
        self,
        layers: Option<usize>,
        format: WeightFormat,
        file: &mut dyn Read,
        options: LoadOptions<'_>,
    ) -> Result<Model, LoadError> {
        let mut read = |name: &str, _, bytes: &mut [u8]| {
            file.read_exact(bytes).map_err(|source| LoadError::read(format!("the kept weights of `{name}`"), source))
        };
        self.load(layers, format, &mut read, options)
    }

    /// Writes the matrices of a built model, for [`Preset::reload`].
    ///
    /// # Errors
    /// Those of the file.
    pub fn keep(model: &Model, file: &mut dyn Write) -> std::io::Result<()> {
        model.decoder.weights().matrices().try_for_each(|bytes| file.write_all(bytes))
    }

    fn load(self, layers: Option<usize>, format: WeightFormat, fill: &mut Fill<'_>, options: LoadOptions<'_>) -> Result<Model, LoadError> {
        let config = self.config(layers);
        let weights = Weights::load(&config, &mut Matrices { head: self.head, format, fill }, options)?;
        Ok(Model { decoder: Decoder::new(config, weights), tokenizer: TextTokenizer::bytes(), text_notes: vec![] })
    }
}

/// Fills a matrix, given its name and the values of a row.
type Fill<'a> = dyn FnMut(&str, usize, &mut [u8]) -> Result<(), LoadError> + 'a;

/// The tensors of a preset: matrices, and norms of 1; no biases and no norms of queries and keys.
struct Matrices<'a> {
    head: Head,
    format: WeightFormat,
    fill: &'a mut Fill<'a>,
}

impl TensorSource for Matrices<'_> {
    fn has(&self, name: &str) -> bool {
        match name {
            "lm_head.weight" => self.head == Head::Own,
            _ => !name.ends_with(".bias") && !name.ends_with("_norm.weight"),
        }
    }

    fn format(&self, _: &str, shape: &[usize]) -> Result<WeightFormat, LoadError> {
        // Vectors are not encoded.
        Ok(if shape.len() == 1 { WeightFormat::F32 } else { self.format })
    }

    fn read(&mut self, name: &str, shape: &[usize], bytes: &mut [u8]) -> Result<(), LoadError> {
        match *shape {
            [_, inputs] => (self.fill)(name, inputs, bytes),
            _ => {
                bytes.as_chunks_mut().0.iter_mut().for_each(|value| *value = 1.0f32.to_le_bytes());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn kept_weights_are_those_that_were_drawn() {
        for name in ["tiny", "llama-3-8b"] {
            // The second has a head of its own.
            let preset = Preset { hidden: 64, intermediate: 96, vocabulary: 256, ..Preset::find(name).unwrap() };
            let built = preset.build(Some(2), WeightFormat::Q8_0, 5, LoadOptions::default()).unwrap();
            let mut kept = vec![];
            Preset::keep(&built, &mut kept).unwrap();
            let reloaded = preset.reload(Some(2), WeightFormat::Q8_0, &mut Cursor::new(&kept), LoadOptions::default()).unwrap();
            let bytes = |model: &Model| model.decoder.weights().matrices().map(<[u8]>::to_vec).collect::<Vec<_>>();
            assert!(bytes(&built) == bytes(&reloaded), "{name}");
            let values = kept.len() / 34 * 32;
            assert_eq!(values + 5 * 64, preset.weights(Some(2)), "{name}: matrices and the norms of two layers and the end");
            let short = preset.reload(Some(2), WeightFormat::Q8_0, &mut Cursor::new(&kept[1..]), LoadOptions::default());
            assert!(short.is_err(), "{name}");
        }
    }
}
