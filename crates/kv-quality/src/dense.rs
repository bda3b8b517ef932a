//! The reference: dense attention over all rows ever appended, as they were appended.

use kv_core::{Geometry, Rows};
use kv_script::RowSource;
use rayon::prelude::*;

use crate::QualityError;

/// Exact keys and values of all layers, for any number of candidates.
///
/// Built once from a source. It takes `4 · layers · kv_heads · (key_dim + value_dim)` bytes per position.
#[derive(Debug, Clone)]
pub struct DenseReference {
    geometry: Geometry,
    positions: usize,
    layers: Vec<LayerRows>,
}

#[derive(Debug, Clone)]
struct LayerRows {
    /// `[kv_heads, positions, key_dim]`
    keys: Vec<f32>,
    /// `[kv_heads, positions, value_dim]`
    values: Vec<f32>,
}

/// Dense attention of one token in one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenAttention {
    /// `[1, heads, value_dim]`
    pub output: Rows,
    /// For each query head the softmax weight of every position up to the token's own: `[heads][position + 1]`.
    pub weights: Vec<Vec<f64>>,
}

/// Positions that are asked of a source at once.
const CHUNK: usize = 512;

impl DenseReference {
    /// Takes the rows of the positions `0..positions` from a source.
    ///
    /// # Errors
    /// The source's.
    pub fn build<S: RowSource>(source: &mut S, positions: usize) -> Result<DenseReference, S::Error> {
        let geometry = source.geometry().clone();
        let Geometry { kv_heads, key_dim, value_dim, .. } = geometry;
        let mut layers = Vec::with_capacity(geometry.layers);
        for layer in 0..geometry.layers {
            let mut keys = vec![0.0; kv_heads * positions * key_dim];
            let mut values = vec![0.0; kv_heads * positions * value_dim];
            for first in (0..positions).step_by(CHUNK) {
                let chunk = first..(first + CHUNK).min(positions);
                by_head(&source.keys(layer, chunk.clone())?, first, positions, &mut keys);
                by_head(&source.values(layer, chunk)?, first, positions, &mut values);
            }
            layers.push(LayerRows { keys, values });
        }
        Ok(DenseReference { geometry, positions, layers })
    }

    /// The shape of the rows.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Positions held.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// The exact key of a position, rotated to it: `[key_dim]`.
    ///
    /// # Panics
    /// If there is no such layer, head or position.
    pub fn key(&self, layer: usize, kv_head: usize, position: usize) -> &[f32] {
        row(&self.layers[layer].keys, kv_head, self.positions, position, self.geometry.key_dim)
    }

    /// The exact value of a position: `[value_dim]`.
    ///
    /// # Panics
    /// If there is no such layer, head or position.
    pub fn value(&self, layer: usize, kv_head: usize, position: usize) -> &[f32] {
        row(&self.layers[layer].values, kv_head, self.positions, position, self.geometry.value_dim)
    }

    /// Attention of the token at `position` over the positions `0..=position`, in double precision:
    /// `softmax(q·k / √key_dim)·v`. Sums run in a fixed order, on any number of threads.
    ///
    /// # Shapes
    /// - queries: `[1, heads, key_dim]`, rotated to `position`
    ///
    /// # Errors
    /// [`QualityError::Layer`], [`QualityError::TooShort`], [`QualityError::Shape`], or [`QualityError::NotFinite`] if a
    /// score is not.
    pub fn attend(&self, layer: usize, position: usize, queries: &Rows) -> Result<TokenAttention, QualityError> {
        let Geometry { layers, heads, kv_heads, key_dim, value_dim, .. } = self.geometry;
        if layer >= layers {
            return Err(QualityError::Layer { layer, layers });
        }
        if position >= self.positions {
            return Err(QualityError::TooShort { held: self.positions, needed: position + 1 });
        }
        let expected = [1, heads, key_dim];
        if queries.dims() != expected {
            return Err(QualityError::Shape { what: "queries", reference: expected, candidate: queries.dims() });
        }
        let of_head = |head: usize| self.attend_head(layer, head / (heads / kv_heads), position, queries.row(0, head));
        let (outputs, weights): (Vec<Vec<f32>>, Vec<Vec<f64>>) = (0..heads).into_par_iter().map(of_head).unzip();
        let output = Rows::new([1, heads, value_dim], outputs.concat());
        check_finite("dense outputs", layer, output.values())?;
        Ok(TokenAttention { output, weights })
    }

    fn attend_head(&self, layer: usize, kv_head: usize, position: usize, query: &[f32]) -> (Vec<f32>, Vec<f64>) {
        let Geometry { key_dim, value_dim, .. } = self.geometry;
        let scale = 1.0 / (key_dim as f64).sqrt();
        let mut weights: Vec<f64> = (0..=position).map(|position| dot(query, self.key(layer, kv_head, position)) * scale).collect();
        let largest = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        weights.iter_mut().for_each(|weight| *weight = (*weight - largest).exp());
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= total);
        let mut output = vec![0.0f64; value_dim];
        for (position, weight) in weights.iter().enumerate() {
            let value = self.value(layer, kv_head, position);
            output.iter_mut().zip(value).for_each(|(sum, value)| *sum += weight * f64::from(*value));
        }
        (output.into_iter().map(|sum| sum as f32).collect(), weights)
    }
}

/// Refuses rows with a value that is not finite.
pub(crate) fn check_finite(what: &'static str, layer: usize, values: &[f32]) -> Result<(), QualityError> {
    match values.iter().find(|value| !value.is_finite()) {
        Some(&value) => Err(QualityError::NotFinite { what, layer, value }),
        None => Ok(()),
    }
}

fn row(rows: &[f32], head: usize, positions: usize, position: usize, dim: usize) -> &[f32] {
    &rows[(head * positions + position) * dim..][..dim]
}

/// Copies rows `[tokens, heads, dim]`, the first at position `first`, to `[heads, positions, dim]`.
fn by_head(rows: &Rows, first: usize, positions: usize, to: &mut [f32]) {
    let [tokens, heads, dim] = rows.dims();
    for (token, head) in (0..tokens).flat_map(|token| (0..heads).map(move |head| (token, head))) {
        to[(head * positions + first + token) * dim..][..dim].copy_from_slice(rows.row(token, head));
    }
}

/// The product of two rows. Four sums, so that an addition need not wait for the one before.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    const SUMS: usize = 4;
    let mut sums = [0.0f64; SUMS];
    let (a_chunks, b_chunks) = (a.chunks_exact(SUMS), b.chunks_exact(SUMS));
    let rest: f64 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += f64::from(*a) * f64::from(*b);
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use kv_core::View;
    use kv_core::reference::{attend_views, causal};

    use super::*;
    use crate::toy::{Toy, geometry};

    #[test]
    fn equals_the_oracle_of_the_contract() {
        let mut source = Toy::new(geometry(6, 2, 5, 3), 1);
        let reference = DenseReference::build(&mut source, 20).unwrap();
        for (layer, position) in [(0, 0), (1, 7), (1, 19)] {
            let queries = source.queries(layer, position..position + 1).unwrap();
            let view = |kv_head: usize| View {
                positions: (0..20).collect(),
                keys: (0..20).flat_map(|at| reference.key(layer, kv_head, at).to_vec()).collect(),
                values: (0..20).flat_map(|at| reference.value(layer, kv_head, at).to_vec()).collect(),
            };
            let expected = attend_views(reference.geometry(), position, &queries, &[view(0), view(1)], causal);
            let attention = reference.attend(layer, position, &queries).unwrap();
            for (actual, expected) in attention.output.values().iter().zip(expected.values()) {
                assert!((actual - expected).abs() < 1e-6, "{actual} is not {expected}");
            }
            for weights in &attention.weights {
                assert_eq!(weights.len(), position + 1);
                assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let mut source = Toy::new(geometry(2, 1, 4, 4), 1);
        let reference = DenseReference::build(&mut source, 8).unwrap();
        let queries = source.queries(0, 7..8).unwrap();
        assert_eq!(reference.attend(2, 7, &queries), Err(QualityError::Layer { layer: 2, layers: 2 }));
        assert_eq!(reference.attend(0, 8, &queries), Err(QualityError::TooShort { held: 8, needed: 9 }));
        let two = source.queries(0, 6..8).unwrap();
        assert!(matches!(reference.attend(0, 7, &two), Err(QualityError::Shape { what: "queries", .. })));
        let nan = Rows::new([1, 2, 4], vec![f32::NAN; 8]);
        assert!(matches!(reference.attend(0, 7, &nan), Err(QualityError::NotFinite { layer: 0, .. })));
    }
}
