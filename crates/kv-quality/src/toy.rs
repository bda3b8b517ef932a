//! Rows for this crate's own tests.

use std::ops::Range;

use kv_core::{CacheError, Geometry, Rope, Rows, Tensor};
use kv_kernels::rotate_row;
use kv_script::RowSource;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Two layers, rotated in full if the key's dimension is even.
pub(crate) fn geometry(heads: usize, kv_heads: usize, key_dim: usize, value_dim: usize) -> Geometry {
    Geometry { layers: 2, heads, kv_heads, key_dim, value_dim, rope: Rope::new(1e4, key_dim), context: 4096 }
}

/// Random rows; keys and queries are rotated to their positions.
#[derive(Debug, Clone)]
pub(crate) struct Toy {
    geometry: Geometry,
    seed: u64,
}

impl Toy {
    pub(crate) fn new(geometry: Geometry, seed: u64) -> Toy {
        Toy { geometry, seed }
    }

    /// The queries of the first token.
    pub(crate) fn first_queries(&self) -> Tensor<3> {
        self.rows(2, 0, 0..1, self.geometry.heads, self.geometry.key_dim).into_tensor()
    }

    fn rows(&self, kind: u64, layer: usize, positions: Range<usize>, heads: usize, dim: usize) -> Rows {
        let mut values = Vec::with_capacity(positions.len() * heads * dim);
        for position in positions.clone() {
            let mut random = ChaCha8Rng::seed_from_u64(self.seed);
            random.set_stream((kind << 48) | ((layer as u64) << 32) | position as u64);
            values.extend((0..heads * dim).map(|_| random.random_range(-2.0f32..2.0)));
        }
        if kind > 0 {
            for (row, values) in values.chunks_exact_mut(dim).enumerate() {
                let position = positions.start + row / heads;
                rotate_row(values, &self.geometry.rope.turns(position as i64));
            }
        }
        Rows::new([positions.len(), heads, dim], values)
    }
}

impl RowSource for Toy {
    type Error = CacheError;

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn keys(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
        Ok(self.rows(1, layer, positions, self.geometry.kv_heads, self.geometry.key_dim))
    }

    fn values(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
        Ok(self.rows(0, layer, positions, self.geometry.kv_heads, self.geometry.value_dim))
    }

    fn queries(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
        Ok(self.rows(2, layer, positions, self.geometry.heads, self.geometry.key_dim))
    }
}
