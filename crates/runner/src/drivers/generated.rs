//! Rows of a model's shape, where what is in them does not matter.

use std::ops::Range;

use kv_core::{CacheError, Geometry, Rows};
use kv_script::RowSource;

/// Rows with a little of everything, so that no format can treat them as a special case.
#[derive(Debug)]
pub(crate) struct Generated {
    pub(crate) geometry: Geometry,
}

impl Generated {
    fn rows(positions: &Range<usize>, heads: usize, dim: usize) -> Rows {
        let values = (0..positions.len() * heads * dim).map(|index| ((index * 37) % 101) as f32 / 50.0 - 1.0).collect();
        Rows::new([positions.len(), heads, dim], values)
    }
}

impl RowSource for Generated {
    type Error = CacheError;

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn keys(&mut self, _: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
        Ok(Generated::rows(&positions, self.geometry.kv_heads, self.geometry.key_dim))
    }

    fn values(&mut self, _: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
        Ok(Generated::rows(&positions, self.geometry.kv_heads, self.geometry.value_dim))
    }

    fn queries(&mut self, _: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
        Ok(Generated::rows(&positions, self.geometry.heads, self.geometry.key_dim))
    }
}
