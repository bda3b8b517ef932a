//! The tensors of a decoder: matrices as the file stores them, and vectors in `f32`.

mod arena;
mod source;

use std::collections::BTreeMap;
use std::ops::Range;

use kv_core::Geometry;
use kv_kernels::{Matrix, Product, WeightFormat, multiply};

use crate::activations::Activations;
use crate::{Fed, LoadError, ModelConfig};
pub use arena::Pages;
use arena::{Arena, Places};
pub use source::TensorSource;
use source::{encoded_len, read_decoded};

/// How weights are loaded.
#[derive(Default)]
pub struct LoadOptions<'a> {
    /// The pages of the matrices.
    pub pages: Pages,
    /// Is told the bytes read so far and the bytes of all matrices.
    pub progress: Option<&'a mut dyn FnMut(usize, usize)>,
}

/// All weights of a decoder.
#[derive(Debug)]
pub struct Weights {
    arena: Arena,
    /// `[vocabulary, hidden]`
    pub(crate) embedding: StoredMatrix,
    /// One per layer.
    pub(crate) layers: Vec<Layer>,
    /// `[hidden]`
    pub(crate) norm: Vec<f32>,
    /// Hidden to vocabulary; the embedding again if the model ties them.
    pub(crate) head: Projection,
}

/// The weights of one layer.
#[derive(Debug)]
pub(crate) struct Layer {
    /// `[hidden]`
    pub(crate) attention_norm: Vec<f32>,
    /// Hidden to `heads · key_dim`.
    pub(crate) query: Projection,
    /// Hidden to `kv_heads · key_dim`.
    pub(crate) key: Projection,
    /// `[key_dim]`, for a model that norms the queries of each head.
    pub(crate) query_norm: Option<Vec<f32>>,
    /// `[key_dim]`, for a model that norms the keys of each head.
    pub(crate) key_norm: Option<Vec<f32>>,
    /// Hidden to `kv_heads · value_dim`.
    pub(crate) value: Projection,
    /// `heads · value_dim` to hidden.
    pub(crate) output: Projection,
    /// `[hidden]`
    pub(crate) feed_forward_norm: Vec<f32>,
    /// Hidden to intermediate.
    pub(crate) gate: Projection,
    /// Hidden to intermediate.
    pub(crate) up: Projection,
    /// Intermediate to hidden.
    pub(crate) down: Projection,
}

/// A linear layer.
#[derive(Debug)]
pub(crate) struct Projection {
    matrix: StoredMatrix,
    /// `[outputs]`
    bias: Option<Vec<f32>>,
}

/// A matrix's place in the arena.
#[derive(Debug, Clone)]
pub(crate) struct StoredMatrix {
    format: WeightFormat,
    outputs: usize,
    inputs: usize,
    place: Range<usize>,
}

impl Weights {
    /// Reads every tensor of a model from a source.
    ///
    /// # Errors
    /// [`LoadError::Tensor`] names the first that is missing or does not fit, [`LoadError::Geometry`], [`LoadError::Memory`].
    pub fn load(config: &ModelConfig, source: &mut dyn TensorSource, options: LoadOptions<'_>) -> Result<Weights, LoadError> {
        config.check()?;
        let mut plan = Plan { source, places: Places::default(), matrices: vec![] };
        let embedding = plan.matrix("model.embed_tokens.weight", [config.vocabulary, config.hidden])?;
        let layers = (0..config.geometry.layers).map(|index| plan.layer(config, index)).collect::<Result<_, _>>()?;
        let norm = plan.row("model.norm.weight", config.hidden)?;
        let head = if plan.source.has("lm_head.weight") {
            plan.projection("lm_head", config.hidden, config.vocabulary)?
        } else {
            Projection { matrix: embedding.clone(), bias: None }
        };
        let arena = plan.read(options)?;
        Ok(Weights { arena, embedding, layers, norm, head })
    }

    /// What the first layer gets, `[positions, hidden]`: the embeddings of tokens, and embeddings as they are.
    pub(crate) fn embed(&self, fed: &[Fed]) -> Activations {
        let matrix = self.matrix(&self.embedding);
        let hidden = self.embedding.inputs;
        let mut values = vec![0.0; fed.len() * hidden];
        for (fed, row) in fed.iter().zip(values.chunks_exact_mut(hidden)) {
            match fed {
                Fed::Token(token) => matrix.decode_row(*token as usize, row),
                Fed::Embedding(values) => row.copy_from_slice(values),
            }
        }
        Activations::new(values, hidden)
    }

    /// Applies projections of the same inputs, `[tokens, inputs]`, together.
    pub(crate) fn project<const N: usize>(&self, projections: [&Projection; N], inputs: &Activations) -> [Activations; N] {
        let mut outputs = projections.map(|projection| vec![0.0; inputs.rows() * projection.matrix.outputs]);
        let mut products: Vec<Product<'_>> = (projections.iter().zip(&mut outputs))
            .map(|(projection, out)| Product { matrix: self.matrix(&projection.matrix), out })
            .collect();
        multiply(inputs.values(), &mut products);
        let mut outputs = outputs.into_iter();
        projections.map(|projection| {
            let mut output = Activations::new(outputs.next().expect("one per projection"), projection.matrix.outputs);
            if let Some(bias) = &projection.bias {
                output.add_to_rows(bias);
            }
            output
        })
    }

    /// The bytes of every matrix, in the order in which they were read.
    pub(crate) fn matrices(&self) -> impl Iterator<Item = &[u8]> {
        self.stored().into_iter().map(|matrix| self.arena.bytes(matrix.place.clone()))
    }

    /// Bytes of all matrices.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// The formats of the matrices and the bytes in each, the largest first.
    pub fn formats(&self) -> Vec<(WeightFormat, usize)> {
        let mut bytes = BTreeMap::new();
        self.stored().into_iter().for_each(|matrix| *bytes.entry(matrix.format).or_default() += matrix.place.len());
        let mut formats: Vec<(WeightFormat, usize)> = bytes.into_iter().collect();
        formats.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        formats
    }

    /// The pages that the matrices lie on, in words.
    pub fn pages(&self) -> &'static str {
        self.arena.advice()
    }

    /// Every matrix once, in the order of their places.
    fn stored(&self) -> Vec<&StoredMatrix> {
        let projections = self.layers.iter().flat_map(|layer| {
            let Layer { query, key, value, output, gate, up, down, .. } = layer;
            [query, key, value, output, gate, up, down]
        });
        let head = [&self.head].into_iter().filter(|head| head.matrix.place != self.embedding.place);
        [&self.embedding].into_iter().chain(projections.chain(head).map(|projection| &projection.matrix)).collect()
    }

    fn matrix(&self, stored: &StoredMatrix) -> Matrix<'_> {
        Matrix::new(stored.format, [stored.outputs, stored.inputs], self.arena.bytes(stored.place.clone()))
    }
}

/// Collects the matrices of a model, so that their sum is known before any is read.
struct Plan<'a> {
    source: &'a mut dyn TensorSource,
    places: Places,
    matrices: Vec<(String, StoredMatrix)>,
}

impl Plan<'_> {
    fn layer(&mut self, config: &ModelConfig, index: usize) -> Result<Layer, LoadError> {
        let ModelConfig { hidden, intermediate, .. } = *config;
        let Geometry { heads, kv_heads, key_dim, value_dim, .. } = config.geometry;
        let name = |part: &str| format!("model.layers.{index}.{part}");
        Ok(Layer {
            query: self.projection(&name("self_attn.q_proj"), hidden, heads * key_dim)?,
            key: self.projection(&name("self_attn.k_proj"), hidden, kv_heads * key_dim)?,
            query_norm: self.optional_row(&name("self_attn.q_norm.weight"), key_dim)?,
            key_norm: self.optional_row(&name("self_attn.k_norm.weight"), key_dim)?,
            value: self.projection(&name("self_attn.v_proj"), hidden, kv_heads * value_dim)?,
            output: self.projection(&name("self_attn.o_proj"), heads * value_dim, hidden)?,
            gate: self.projection(&name("mlp.gate_proj"), hidden, intermediate)?,
            up: self.projection(&name("mlp.up_proj"), hidden, intermediate)?,
            down: self.projection(&name("mlp.down_proj"), intermediate, hidden)?,
            attention_norm: self.row(&name("input_layernorm.weight"), hidden)?,
            feed_forward_norm: self.row(&name("post_attention_layernorm.weight"), hidden)?,
        })
    }

    fn projection(&mut self, name: &str, inputs: usize, outputs: usize) -> Result<Projection, LoadError> {
        let matrix = self.matrix(&format!("{name}.weight"), [outputs, inputs])?;
        let bias = self.optional_row(&format!("{name}.bias"), outputs)?;
        Ok(Projection { matrix, bias })
    }

    fn matrix(&mut self, name: &str, [outputs, inputs]: [usize; 2]) -> Result<StoredMatrix, LoadError> {
        let format = self.source.format(name, &[outputs, inputs])?;
        let len = encoded_len(format, name, &[outputs, inputs])?;
        let place = self.places.next(len).ok_or_else(|| LoadError::tensor(name, "makes the model larger than memory can be"))?;
        let matrix = StoredMatrix { format, outputs, inputs, place };
        self.matrices.push((name.to_owned(), matrix.clone()));
        Ok(matrix)
    }

    fn optional_row(&mut self, name: &str, len: usize) -> Result<Option<Vec<f32>>, LoadError> {
        if self.source.has(name) { self.row(name, len).map(Some) } else { Ok(None) }
    }

    fn row(&mut self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        read_decoded(self.source, name, &[len])
    }

    /// Reads the matrices into an arena.
    fn read(self, options: LoadOptions<'_>) -> Result<Arena, LoadError> {
        let Plan { source, places, matrices } = self;
        let LoadOptions { pages, mut progress } = options;
        let mut arena = Arena::reserve(places.len(), pages)?;
        for (name, StoredMatrix { outputs, inputs, place, .. }) in matrices {
            let end = place.end;
            source.read(&name, &[outputs, inputs], arena.bytes_mut(place))?;
            if let Some(progress) = &mut progress {
                progress(end, places.len());
            }
        }
        Ok(arena)
    }
}
