//! The forward pass, a step at a time over several sequences.

use std::ops::Range;

use burn::tensor::activation;
use kv_core::{Geometry, KvCache, SeqId, Tensor};
use kv_kernels::awake;

use crate::rotary::Rotary;
use crate::weights::Layer;
use crate::{ModelConfig, ModelError, Sequence, Weights};

/// A decoder-only transformer of the Llama family.
#[derive(Debug)]
pub struct Decoder {
    config: ModelConfig,
    weights: Weights,
}

/// One sequence's part in a step.
#[derive(Debug)]
pub struct StepInput<'a> {
    /// The sequence.
    pub sequence: &'a mut Sequence,
    /// The tokens to add; at least one.
    pub fresh: &'a [u32],
}

/// A sequence's rows in the step's stacked tensors.
struct Slice {
    id: SeqId,
    rows: Range<usize>,
}

const TOKENS: usize = 0;
const HIDDEN: usize = 1;

impl Decoder {
    /// A decoder over these weights.
    pub fn new(config: ModelConfig, weights: Weights) -> Decoder {
        Decoder { config, weights }
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The hyperparameters.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Adds tokens to every input's sequence and answers the logits after each one's last token.
    ///
    /// Which positions run is the cache's business: those of the fresh tokens, or all of them again.
    ///
    /// # Shapes
    /// - returns: a vector of `vocabulary` logits for each input, in order
    ///
    /// # Errors
    /// [`ModelError`]; no sequence is changed.
    pub fn step(&self, cache: &mut dyn KvCache, inputs: &mut [StepInput<'_>]) -> Result<Vec<Vec<f32>>, ModelError> {
        awake(|| self.run(cache, inputs))
    }

    fn run(&self, cache: &mut dyn KvCache, inputs: &mut [StepInput<'_>]) -> Result<Vec<Vec<f32>>, ModelError> {
        let ModelConfig { vocabulary, .. } = self.config;
        let context = self.config.geometry.context;
        let mut tokens = vec![];
        let mut positions = vec![];
        let mut slices = vec![];
        for input in inputs.iter() {
            let seen = input.sequence.tokens().len();
            let end = seen + input.fresh.len();
            if input.fresh.is_empty() {
                return Err(ModelError::NoTokens);
            }
            if end > context {
                return Err(ModelError::Context { needed: end, context });
            }
            if let Some(&token) = input.fresh.iter().find(|token| **token as usize >= vocabulary) {
                return Err(ModelError::Token { token, vocabulary });
            }
            let run = cache.begin(input.sequence.id(), seen..end)?;
            let all = input.sequence.tokens().iter().chain(input.fresh).skip(run.start).take(run.len());
            let first_row = tokens.len();
            tokens.extend(all);
            positions.extend(run);
            slices.push(Slice { id: input.sequence.id(), rows: first_row..tokens.len() });
        }

        let rotary = Rotary::new(&self.config.geometry.rope, &positions);
        let mut hidden = self.weights.embed(&tokens);
        for (index, layer) in self.weights.layers.iter().enumerate() {
            let attended = self.attention(cache, index, layer, &rotary, &slices, hidden.clone())?;
            hidden = hidden + attended;
            let normed = rms_norm(hidden.clone(), layer.feed_forward_norm.clone(), self.config.norm_epsilon);
            let [gate, up] = self.weights.project([&layer.gate, &layer.up], normed);
            let [down] = self.weights.project([&layer.down], activation::silu(gate) * up);
            hidden = hidden + down;
        }
        let last_rows = slices.iter().map(|slice| hidden.clone().narrow(TOKENS, slice.rows.end - 1, 1)).collect();
        let normed = rms_norm(Tensor::cat(last_rows, TOKENS), self.weights.norm.clone(), self.config.norm_epsilon);
        let [logits] = self.weights.project([&self.weights.head], normed);
        let logits = logits.into_data().try_into_vec::<f32>().expect("the weights are `f32`");
        let logits: Vec<Vec<f32>> = logits.chunks_exact(vocabulary).map(<[f32]>::to_vec).collect();
        for (input, logits) in inputs.iter().zip(&logits) {
            let count = logits.iter().filter(|logit| !logit.is_finite()).count();
            if count > 0 {
                let tokens = input.sequence.tokens().len() + input.fresh.len();
                return Err(ModelError::NotFinite { tokens, count, vocabulary });
            }
        }
        for (slice, input) in slices.iter().zip(inputs) {
            cache.commit(slice.id)?;
            input.sequence.extend(input.fresh);
        }
        Ok(logits)
    }

    /// Feeds a prompt in steps of `chunk` tokens (at once if the cache recomputes anyway) and answers the
    /// logits after its last token.
    ///
    /// # Errors
    /// [`ModelError`]; the chunks before the refused one stay in the sequence.
    pub fn prefill(
        &self,
        cache: &mut dyn KvCache,
        sequences: &mut [Sequence],
        prompts: &[Vec<u32>],
        chunk: usize,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let chunk = if cache.recomputes() { longest.max(1) } else { chunk.max(1) };
        let mut logits = vec![vec![]; sequences.len()];
        for start in (0..longest).step_by(chunk) {
            let due: Vec<usize> = (0..sequences.len()).filter(|index| prompts[*index].len() > start).collect();
            let mut inputs: Vec<StepInput<'_>> = (sequences.iter_mut().zip(prompts))
                .filter(|(_, prompt)| prompt.len() > start)
                .map(|(sequence, prompt)| StepInput { sequence, fresh: &prompt[start..(start + chunk).min(prompt.len())] })
                .collect();
            for (index, after) in due.into_iter().zip(self.step(cache, &mut inputs)?) {
                logits[index] = after;
            }
        }
        for sequence in sequences.iter() {
            cache.prompt_end(sequence.id())?;
        }
        Ok(logits)
    }

    fn attention(
        &self,
        cache: &mut dyn KvCache,
        index: usize,
        layer: &Layer,
        rotary: &Rotary,
        slices: &[Slice],
        hidden: Tensor<2>,
    ) -> Result<Tensor<2>, ModelError> {
        let Geometry { heads, kv_heads, key_dim, value_dim, .. } = self.config.geometry;
        let [tokens, _] = hidden.dims();
        let normed = rms_norm(hidden, layer.attention_norm.clone(), self.config.norm_epsilon);
        let epsilon = self.config.norm_epsilon;
        let [queries, keys, values] = self.weights.project([&layer.query, &layer.key, &layer.value], normed);
        let queries = head_norm(queries.reshape([tokens, heads, key_dim]), layer.query_norm.as_ref(), epsilon);
        let keys = head_norm(keys.reshape([tokens, kv_heads, key_dim]), layer.key_norm.as_ref(), epsilon);
        let (queries, keys) = (rotary.apply(queries), rotary.apply(keys));
        let values = values.reshape([tokens, kv_heads, value_dim]);
        let mut attended = Vec::with_capacity(slices.len());
        let by_slice = split(keys, slices).into_iter().zip(split(values, slices)).zip(split(queries, slices));
        for (slice, ((keys, values), queries)) in slices.iter().zip(by_slice) {
            cache.append(slice.id, index, keys, values)?;
            attended.push(cache.attend(slice.id, index, queries)?);
        }
        let attended = Tensor::cat(attended, TOKENS).reshape([tokens, heads * value_dim]);
        let [output] = self.weights.project([&layer.output], attended);
        Ok(output)
    }
}

/// The index of the largest logit, the first of equals: greedy sampling.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = index;
        }
    }
    best as u32
}

/// Each slice's rows; a single slice gets the tensor itself, unshared, so that taking its values copies nothing.
fn split(rows: Tensor<3>, slices: &[Slice]) -> Vec<Tensor<3>> {
    match slices {
        [_] => vec![rows],
        _ => slices.iter().map(|slice| rows.clone().narrow(TOKENS, slice.rows.start, slice.rows.len())).collect(),
    }
}

/// `x · w / √(mean(x²) + ε)` (Zhang and Sennrich, arXiv:1910.07467).
fn rms_norm(hidden: Tensor<2>, weight: Tensor<2>, epsilon: f64) -> Tensor<2> {
    let mean_square = (hidden.clone() * hidden.clone()).mean_dim(HIDDEN);
    hidden * (mean_square + epsilon).sqrt().recip() * weight
}

/// RMSNorm of each head's values, if the model has one: rows are `[tokens, heads, dim]`.
fn head_norm(rows: Tensor<3>, weight: Option<&Tensor<2>>, epsilon: f64) -> Tensor<3> {
    let Some(weight) = weight else { return rows };
    let [tokens, heads, dim] = rows.dims();
    rms_norm(rows.reshape([tokens * heads, dim]), weight.clone(), epsilon).reshape([tokens, heads, dim])
}
