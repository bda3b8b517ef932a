//! The forward pass, a step at a time over several sequences.

use std::ops::Range;

use kv_core::{Geometry, KvCache, Rows, SeqId, Tensor};
use kv_kernels::awake;

use crate::activations::Activations;
use crate::rotary::Rotary;
use crate::weights::Layer;
use crate::{Fed, Fresh, ModelConfig, ModelError, Sequence, Weights};

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
    /// What is added; at least one position.
    pub fresh: Fresh<'a>,
}

/// A sequence's rows among those of the step.
struct Slice {
    id: SeqId,
    rows: Range<usize>,
}

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

    /// Adds tokens or embeddings to every input's sequence and answers the logits after each one's last position.
    ///
    /// Which positions run is the cache's business: the fresh ones, or all of them again.
    ///
    /// # Shapes
    /// - returns: a vector of `vocabulary` logits for each input, in order
    ///
    /// # Errors
    /// [`ModelError`]; no sequence is changed.
    pub fn step(&self, cache: &mut dyn KvCache, inputs: &mut [StepInput<'_>]) -> Result<Vec<Vec<f32>>, ModelError> {
        self.step_last(cache, inputs, 1)
    }

    /// Like [`step`](Decoder::step), but answers the logits after every fresh position, which a text that is known needs.
    ///
    /// # Shapes
    /// - returns: for each input, in order, `[fresh positions, vocabulary]` logits
    ///
    /// # Errors
    /// [`ModelError`]; no sequence is changed.
    pub fn step_each(&self, cache: &mut dyn KvCache, inputs: &mut [StepInput<'_>]) -> Result<Vec<Vec<f32>>, ModelError> {
        self.step_last(cache, inputs, usize::MAX)
    }

    /// Like [`step`](Decoder::step), but answers the logits after each of the last `positions` fresh positions, or after all of
    /// them if there are fewer: what the end of a text needs.
    ///
    /// # Shapes
    /// - returns: for each input, in order, `[positions or fewer, vocabulary]` logits
    ///
    /// # Errors
    /// [`ModelError`]; no sequence is changed.
    pub fn step_last(&self, cache: &mut dyn KvCache, inputs: &mut [StepInput<'_>], positions: usize) -> Result<Vec<Vec<f32>>, ModelError> {
        awake(|| self.run(cache, inputs, positions))
    }

    /// The embedding of a token, `[hidden]`.
    ///
    /// # Errors
    /// [`ModelError::Token`] if the vocabulary has no such token.
    pub fn embedding(&self, token: u32) -> Result<Vec<f32>, ModelError> {
        let vocabulary = self.config.vocabulary;
        if token as usize >= vocabulary {
            return Err(ModelError::Token { token, vocabulary });
        }
        Ok(self.weights.embed(&[Fed::Token(token)]).into_values())
    }

    fn run(&self, cache: &mut dyn KvCache, inputs: &mut [StepInput<'_>], wanted: usize) -> Result<Vec<Vec<f32>>, ModelError> {
        let vocabulary = self.config.vocabulary;
        let mut rows: Vec<Fed> = vec![];
        let mut positions = vec![];
        let mut slices = vec![];
        for input in inputs.iter() {
            let history = input.sequence.history();
            let end = history.len() + input.fresh.len();
            self.check(cache, input.fresh, end)?;
            let run = cache.begin(input.sequence.id(), history.len()..end)?;
            let first_row = rows.len();
            let again = history.get(run.start..).unwrap_or_default();
            let known = run.start.saturating_sub(history.len());
            rows.extend(again.iter().cloned().chain(input.fresh.iter().skip(known)).take(run.len()));
            positions.extend(run);
            slices.push(Slice { id: input.sequence.id(), rows: first_row..rows.len() });
        }

        let rotary = Rotary::new(&self.config.geometry.rope, &positions);
        let mut hidden = self.weights.embed(&rows);
        let epsilon = self.config.norm_epsilon;
        for (index, layer) in self.weights.layers.iter().enumerate() {
            let normed = hidden.clone().rms_norm(&layer.attention_norm, epsilon);
            hidden.add(&self.attention(cache, index, layer, &rotary, &slices, &normed)?);
            let normed = hidden.clone().rms_norm(&layer.feed_forward_norm, epsilon);
            let [gate, up] = self.weights.project([&layer.gate, &layer.up], &normed);
            let [down] = self.weights.project([&layer.down], &gate.gate(&up));
            hidden.add(&down);
        }
        let wanted_rows =
            |(slice, input): (&Slice, &StepInput<'_>)| slice.rows.end - wanted.min(input.fresh.len()).min(slice.rows.len())..slice.rows.end;
        let wanted_rows: Vec<Range<usize>> = slices.iter().zip(inputs.iter()).map(wanted_rows).collect();
        let selected = hidden.select(wanted_rows.iter().cloned().flatten());
        let [logits] = self.weights.project([&self.weights.head], &selected.rms_norm(&self.weights.norm, epsilon));
        let mut left = logits.values();
        let mut logits = Vec::with_capacity(inputs.len());
        for rows in &wanted_rows {
            let (of_input, others) = left.split_at(rows.len() * vocabulary);
            logits.push(of_input.to_vec());
            left = others;
        }
        for (input, logits) in inputs.iter().zip(&logits) {
            let count = logits.iter().filter(|logit| !logit.is_finite()).count();
            if count > 0 {
                let tokens = input.sequence.history().len() + input.fresh.len();
                return Err(ModelError::NotFinite { tokens, count, vocabulary });
            }
        }
        for (slice, input) in slices.iter().zip(inputs) {
            cache.commit(slice.id)?;
            input.sequence.extend(input.fresh);
        }
        Ok(logits)
    }

    /// Checks what is to be added to a sequence that has `end` positions afterwards.
    fn check(&self, cache: &dyn KvCache, fresh: Fresh<'_>, end: usize) -> Result<(), ModelError> {
        let ModelConfig { vocabulary, hidden, .. } = self.config;
        let context = self.config.geometry.context;
        if fresh.is_empty() {
            return Err(ModelError::NoTokens);
        }
        if let Some(reach) = cache.reach(context).filter(|reach| end > *reach) {
            return Err(ModelError::Reach { needed: end, reach, context });
        }
        match fresh {
            Fresh::Tokens(tokens) => match tokens.iter().find(|token| **token as usize >= vocabulary) {
                Some(&token) => Err(ModelError::Token { token, vocabulary }),
                None => Ok(()),
            },
            Fresh::Embeddings(rows) => match rows.iter().find(|row| row.len() != hidden) {
                Some(row) => Err(ModelError::Embedding { values: row.len(), hidden }),
                None => Ok(()),
            },
        }
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
                .map(|(sequence, prompt)| StepInput { sequence, fresh: Fresh::Tokens(&prompt[start..(start + chunk).min(prompt.len())]) })
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
        normed: &Activations,
    ) -> Result<Activations, ModelError> {
        let Geometry { heads, kv_heads, key_dim, value_dim, .. } = self.config.geometry;
        let [queries, keys, values] = self.weights.project([&layer.query, &layer.key, &layer.value], normed);
        let rotated = |rows: Activations, norm: &Option<Vec<f32>>, heads: usize| {
            let normed = match norm {
                Some(weight) => rows.rms_norm(weight, self.config.norm_epsilon),
                None => rows,
            };
            let mut values = normed.into_values();
            rotary.apply(&mut values, heads, key_dim);
            values
        };
        let queries = split(rotated(queries, &layer.query_norm, heads), slices, [heads, key_dim]);
        let keys = split(rotated(keys, &layer.key_norm, kv_heads), slices, [kv_heads, key_dim]);
        let values = split(values.into_values(), slices, [kv_heads, value_dim]);
        let mut attended = Vec::with_capacity(normed.rows() * heads * value_dim);
        for (slice, ((keys, values), queries)) in slices.iter().zip(keys.into_iter().zip(values).zip(queries)) {
            cache.append(slice.id, index, keys, values)?;
            let rows = cache.attend(slice.id, index, queries)?;
            attended.extend_from_slice(Rows::take("attended", rows, [slice.rows.len(), heads, value_dim])?.values());
        }
        let [output] = self.weights.project([&layer.output], &Activations::new(attended, heads * value_dim));
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

/// Each slice's rows as a tensor `[tokens, heads, dim]` that nobody else holds, so that taking its values copies nothing.
fn split(rows: Vec<f32>, slices: &[Slice], [heads, dim]: [usize; 2]) -> Vec<Tensor<3>> {
    let tensor = |tokens: usize, values: Vec<f32>| Rows::new([tokens, heads, dim], values).into_tensor();
    match slices {
        [slice] => vec![tensor(slice.rows.len(), rows)],
        _ => {
            let width = heads * dim;
            let part = |slice: &Slice| tensor(slice.rows.len(), rows[slice.rows.start * width..slice.rows.end * width].to_vec());
            slices.iter().map(part).collect()
        }
    }
}
