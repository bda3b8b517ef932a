//! `summarise`: the cross-attention of an encoder–decoder model.

use kv_core::{Geometry, Rope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::at_least_one;

/// The cross-attention of an encoder–decoder model. The encoder's keys and values are appended once, without a causal mask, and
/// every step of the decoder reads them beside its own growing cache: two sequences of one cache. Beside that, the encoder's keys
/// and values are computed again at every step: its hidden states are multiplied with the two matrices of each layer, which have
/// random numbers. No model runs, and the one in `[model]` does not matter: rows of the named shape are generated, and times are the
/// cache's and the products'. These models do not rotate keys. What else their attention has, such as T5's position biases, costs
/// a cache nothing and is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Summarise {
    /// The model whose decoder's shape it is.
    pub shape: EncoderDecoder,
    /// Rows of the encoder: tokens of the text, or frames of the sound. The default is 1024, and 1500 for Whisper, which are 30
    /// seconds.
    pub input: Option<usize>,
    /// Steps of the decoder, at least 4.
    pub steps: usize,
}

/// Shapes of decoders, from `config.json` of the models on the Hugging Face Hub: layers of the decoder, heads and hidden size. A
/// head has 64 values in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum EncoderDecoder {
    /// `google-t5/t5-small` (arXiv:1910.10683): 6 layers, 8 heads, 512.
    #[serde(rename = "t5-small")]
    T5Small,
    /// `google-t5/t5-base`: 12 layers, 12 heads, 768.
    #[serde(rename = "t5-base")]
    T5Base,
    /// `google-t5/t5-large`: 24 layers, 16 heads, 1024.
    #[serde(rename = "t5-large")]
    T5Large,
    /// `facebook/bart-base` (arXiv:1910.13461): 6 layers, 12 heads, 768.
    #[serde(rename = "bart-base")]
    BartBase,
    /// `facebook/bart-large-cnn`: 12 layers, 16 heads, 1024.
    #[default]
    #[serde(rename = "bart-large-cnn")]
    BartLargeCnn,
    /// `openai/whisper-tiny` (arXiv:2212.04356): 4 layers, 6 heads, 384.
    #[serde(rename = "whisper-tiny")]
    WhisperTiny,
    /// `openai/whisper-base`: 6 layers, 8 heads, 512.
    #[serde(rename = "whisper-base")]
    WhisperBase,
    /// `openai/whisper-small`: 12 layers, 12 heads, 768.
    #[serde(rename = "whisper-small")]
    WhisperSmall,
    /// `openai/whisper-medium`: 24 layers, 16 heads, 1024.
    #[serde(rename = "whisper-medium")]
    WhisperMedium,
    /// `openai/whisper-large-v3`: 32 layers, 20 heads, 1280.
    #[serde(rename = "whisper-large-v3")]
    WhisperLargeV3,
}

impl EncoderDecoder {
    /// Layers of the decoder and heads.
    fn layers_and_heads(self) -> (usize, usize) {
        match self {
            EncoderDecoder::T5Small => (6, 8),
            EncoderDecoder::T5Base => (12, 12),
            EncoderDecoder::T5Large => (24, 16),
            EncoderDecoder::BartBase => (6, 12),
            EncoderDecoder::BartLargeCnn => (12, 16),
            EncoderDecoder::WhisperTiny => (4, 6),
            EncoderDecoder::WhisperBase => (6, 8),
            EncoderDecoder::WhisperSmall => (12, 12),
            EncoderDecoder::WhisperMedium => (24, 16),
            EncoderDecoder::WhisperLargeV3 => (32, 20),
        }
    }

    fn usual_input(self) -> usize {
        match self {
            EncoderDecoder::WhisperTiny
            | EncoderDecoder::WhisperBase
            | EncoderDecoder::WhisperSmall
            | EncoderDecoder::WhisperMedium
            | EncoderDecoder::WhisperLargeV3 => 1500,
            _ => 1024,
        }
    }
}

impl std::fmt::Display for EncoderDecoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(formatter)
    }
}

impl Default for Summarise {
    fn default() -> Summarise {
        Summarise { shape: EncoderDecoder::default(), input: None, steps: 32 }
    }
}

/// Steps that compute everything again, spread evenly. The first does not count.
pub(crate) const RECOMPUTED_STEPS: usize = 4;

/// Values of a head.
const HEAD: usize = 64;

impl Summarise {
    /// Rows of the encoder.
    pub(crate) fn input(&self) -> usize {
        self.input.unwrap_or(self.shape.usual_input())
    }

    /// Values of a hidden state, and of all keys of a layer.
    pub(crate) fn hidden(&self) -> usize {
        self.shape.layers_and_heads().1 * HEAD
    }

    /// The shape of the caches. Its context is large enough for all configs that are made for a model of this context.
    pub(crate) fn geometry(&self, context: usize) -> Geometry {
        let (layers, heads) = self.shape.layers_and_heads();
        let context = context.max(self.input()).max(self.steps);
        let rope = Rope::from_inverse_frequencies(vec![]);
        Geometry { layers, heads, kv_heads: heads, key_dim: HEAD, value_dim: HEAD, rope, context }
    }

    /// The most bytes of the caches: in f32, in buffers that grow by doubling.
    pub(crate) fn cache_bytes(&self) -> u64 {
        let slots = self.input().next_power_of_two().saturating_add(self.steps.next_power_of_two());
        self.row_bytes().saturating_mul(slots as u64)
    }

    /// Bytes of everything else: the rows of a step until it ends, the matrices, the hidden states and their products.
    pub(crate) fn bytes_beside(&self) -> u64 {
        let (layers, _) = self.shape.layers_and_heads();
        let (hidden, input) = (self.hidden(), self.input());
        let values = (2 * layers * hidden).saturating_mul(hidden).saturating_add(input.saturating_mul(3 * hidden));
        (values.saturating_mul(size_of::<f32>()) as u64).saturating_add(self.row_bytes().saturating_mul(input as u64))
    }

    /// Multiply-adds of a run: of the steps that compute everything again, and of attention.
    pub(crate) fn multiply_adds(&self) -> f64 {
        let (layers, _) = self.shape.layers_and_heads();
        let (hidden, input) = (self.hidden() as f64, self.input() as f64);
        let recomputed = RECOMPUTED_STEPS as f64;
        2.0 * layers as f64 * hidden * input * (recomputed * hidden + self.steps as f64 + recomputed)
    }

    fn row_bytes(&self) -> u64 {
        (self.geometry(1).values_per_token() * size_of::<f32>()) as u64
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(input) = self.input {
            at_least_one("input", input)?;
        }
        if self.steps < RECOMPUTED_STEPS {
            return Err(format!(
                "`steps` is {}: it must be at least {RECOMPUTED_STEPS}, the steps that compute everything again",
                self.steps
            ));
        }
        self.geometry(1).check().map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_known_by_name_and_bad_numbers_are_refused() {
        let parse = |keys: &str| toml::from_str::<Summarise>(keys).map_err(|error| error.to_string());
        let whisper = parse("shape = 'whisper-small'").unwrap();
        assert_eq!((whisper.input(), whisper.hidden(), whisper.shape.to_string().as_str()), (1500, 768, "whisper-small"));
        let Geometry { layers, heads, kv_heads, key_dim, rope, context, .. } = whisper.geometry(64);
        assert_eq!((layers, heads, kv_heads, key_dim, rope.rotated(), context), (12, 12, 12, 64, 0, 1500));
        assert_eq!(whisper.geometry(4096).context, 4096);
        assert!(parse("shape = 'bert'").unwrap_err().contains("`bart-large-cnn`"), "the shapes are listed");
        for (keys, expected) in [
            ("steps = 3", "`steps` is 3: it must be at least 4"),
            ("input = 0", "`input` is 0: it must be at least 1"),
            (
                "input = 9223372036854775000",
                "24576 values per token for a context of 9223372036854775000 tokens are more than any memory holds",
            ),
        ] {
            let error = parse(keys).unwrap().check().unwrap_err();
            assert!(error.starts_with(expected), "{keys}: {error}");
        }
    }
}
