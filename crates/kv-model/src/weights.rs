//! The tensors of a decoder, and where they come from.

use burn::tensor::TensorData;
use kv_core::{Geometry, Tensor, device};

use crate::{LoadError, ModelConfig};

/// Something that has tensors by their Hugging Face name (`model.layers.0.self_attn.q_proj.weight`, …).
pub trait TensorSource {
    /// A tensor's values in row-major order.
    ///
    /// # Errors
    /// [`LoadError::Tensor`] if it is missing, has another shape, or cannot be decoded.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError>;

    /// Whether the model has a tensor of this name; if it should have, [`TensorSource::tensor`] says that it is missing.
    fn has(&self, name: &str) -> bool;
}

/// All weights of a decoder.
#[derive(Debug)]
pub struct Weights {
    /// `[vocabulary, hidden]`
    pub embedding: Tensor<2>,
    /// One a layer.
    pub layers: Vec<Layer>,
    /// `[1, hidden]`
    pub norm: Tensor<2>,
    /// Hidden to vocabulary; the embedding again if the model ties them.
    pub head: Projection,
}

/// The weights of one layer.
#[derive(Debug)]
pub struct Layer {
    /// `[1, hidden]`
    pub attention_norm: Tensor<2>,
    /// Hidden to `heads · key_dim`.
    pub query: Projection,
    /// Hidden to `kv_heads · key_dim`.
    pub key: Projection,
    /// `[1, key_dim]`, for every head's queries; Qwen3 has it.
    pub query_norm: Option<Tensor<2>>,
    /// `[1, key_dim]`, for every head's keys; Qwen3 has it.
    pub key_norm: Option<Tensor<2>>,
    /// Hidden to `kv_heads · value_dim`.
    pub value: Projection,
    /// `heads · value_dim` to hidden.
    pub output: Projection,
    /// `[1, hidden]`
    pub feed_forward_norm: Tensor<2>,
    /// Hidden to intermediate.
    pub gate: Projection,
    /// Hidden to intermediate.
    pub up: Projection,
    /// Intermediate to hidden.
    pub down: Projection,
}

/// A linear layer.
#[derive(Debug)]
pub struct Projection {
    /// `[inputs, outputs]`, a view of the stored `[outputs, inputs]`.
    weight: Tensor<2>,
    /// `[1, outputs]`
    bias: Option<Tensor<2>>,
}

impl Projection {
    /// Applies it to `[tokens, inputs]`.
    pub fn forward(&self, inputs: Tensor<2>) -> Tensor<2> {
        let outputs = inputs.matmul(self.weight.clone());
        match &self.bias {
            Some(bias) => outputs + bias.clone(),
            None => outputs,
        }
    }
}

impl Weights {
    /// Reads every tensor of a model from a source.
    ///
    /// # Errors
    /// [`LoadError::Tensor`] names the first that is missing or does not fit, [`LoadError::Geometry`].
    pub fn load(config: &ModelConfig, source: &mut dyn TensorSource) -> Result<Weights, LoadError> {
        config.check()?;
        let ModelConfig { hidden, intermediate, vocabulary, .. } = *config;
        let Geometry { layers, heads, kv_heads, key_dim, value_dim, .. } = config.geometry;
        let embedding = matrix(source, "model.embed_tokens.weight", [vocabulary, hidden])?;
        let layer = |index: usize, source: &mut dyn TensorSource| -> Result<Layer, LoadError> {
            let mut linear = |part: &str, inputs, outputs| projection(source, &format!("model.layers.{index}.{part}"), inputs, outputs);
            let query = linear("self_attn.q_proj", hidden, heads * key_dim)?;
            let key = linear("self_attn.k_proj", hidden, kv_heads * key_dim)?;
            let value = linear("self_attn.v_proj", hidden, kv_heads * value_dim)?;
            let output = linear("self_attn.o_proj", heads * value_dim, hidden)?;
            let gate = linear("mlp.gate_proj", hidden, intermediate)?;
            let up = linear("mlp.up_proj", hidden, intermediate)?;
            let down = linear("mlp.down_proj", intermediate, hidden)?;
            let mut norm = |part: &str| row(source, &format!("model.layers.{index}.{part}.weight"), hidden);
            let attention_norm = norm("input_layernorm")?;
            let feed_forward_norm = norm("post_attention_layernorm")?;
            let mut head_norm = |part: &str| optional_row(source, &format!("model.layers.{index}.{part}.weight"), key_dim);
            let query_norm = head_norm("self_attn.q_norm")?;
            let key_norm = head_norm("self_attn.k_norm")?;
            Ok(Layer { attention_norm, query, key, query_norm, key_norm, value, output, feed_forward_norm, gate, up, down })
        };
        let layers = (0..layers).map(|index| layer(index, source)).collect::<Result<_, _>>()?;
        let norm = row(source, "model.norm.weight", hidden)?;
        let head = if source.has("lm_head.weight") {
            projection(source, "lm_head", hidden, vocabulary)?
        } else {
            Projection { weight: embedding.clone().transpose(), bias: None }
        };
        Ok(Weights { embedding, layers, norm, head })
    }
}

fn projection(source: &mut dyn TensorSource, name: &str, inputs: usize, outputs: usize) -> Result<Projection, LoadError> {
    let weight = matrix(source, &format!("{name}.weight"), [outputs, inputs])?.transpose();
    let bias = optional_row(source, &format!("{name}.bias"), outputs)?;
    Ok(Projection { weight, bias })
}

fn matrix(source: &mut dyn TensorSource, name: &str, shape: [usize; 2]) -> Result<Tensor<2>, LoadError> {
    let values = source.tensor(name, &shape)?;
    Ok(Tensor::from_data(TensorData::new(values, shape), &device()))
}

fn row(source: &mut dyn TensorSource, name: &str, len: usize) -> Result<Tensor<2>, LoadError> {
    let values = source.tensor(name, &[len])?;
    Ok(Tensor::from_data(TensorData::new(values, [1, len]), &device()))
}

fn optional_row(source: &mut dyn TensorSource, name: &str, len: usize) -> Result<Option<Tensor<2>>, LoadError> {
    source.has(name).then(|| row(source, name, len)).transpose()
}
