//! The rows that a cache is filled with while its bytes are counted: recorded ones where there are any, because bytes can depend
//! on what rows contain, and generated ones behind them.

use std::ops::Range;

use kv_core::{Geometry, Rows};
use kv_script::RowSource;

use crate::recording::{Recording, ReplayError};

/// See the module's description.
#[derive(Debug, Clone)]
pub(super) struct CellRows {
    pub(super) recording: Option<Recording>,
    pub(super) generated: Generated,
}

impl CellRows {
    /// The recording's answer, or the generator's for what was not recorded.
    fn rows(
        &mut self,
        recorded: impl FnOnce(&mut Recording) -> Result<Rows, ReplayError>,
        generated: impl FnOnce(&Generated) -> Rows,
    ) -> Result<Rows, ReplayError> {
        match self.recording.as_mut().map(recorded) {
            None | Some(Err(ReplayError::Missing { .. })) => Ok(generated(&self.generated)),
            Some(answer) => answer,
        }
    }
}

impl RowSource for CellRows {
    type Error = ReplayError;

    fn geometry(&self) -> &Geometry {
        &self.generated.geometry
    }

    fn keys(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, ReplayError> {
        let Geometry { kv_heads, key_dim, .. } = self.generated.geometry;
        self.rows(|recording| recording.keys(layer, positions.clone()), |_| Generated::rows(&positions, kv_heads, key_dim))
    }

    fn values(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, ReplayError> {
        let Geometry { kv_heads, value_dim, .. } = self.generated.geometry;
        self.rows(|recording| recording.values(layer, positions.clone()), |_| Generated::rows(&positions, kv_heads, value_dim))
    }

    fn queries(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, ReplayError> {
        let Geometry { heads, key_dim, .. } = self.generated.geometry;
        self.rows(|recording| recording.queries(layer, positions.clone()), |_| Generated::rows(&positions, heads, key_dim))
    }
}

/// Rows with a little of everything, so that no format can treat them as a special case.
#[derive(Debug, Clone)]
pub(super) struct Generated {
    pub(super) geometry: Geometry,
}

impl Generated {
    fn rows(positions: &Range<usize>, heads: usize, dim: usize) -> Rows {
        let values = (0..positions.len() * heads * dim).map(|index| ((index * 37) % 101) as f32 / 50.0 - 1.0).collect();
        Rows::new([positions.len(), heads, dim], values)
    }
}
