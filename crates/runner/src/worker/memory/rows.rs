//! The rows that a cache is filled with while its bytes are counted: recorded ones where there are any, because bytes can depend
//! on what rows contain, and generated ones behind them.

use std::ops::Range;

use kv_core::{CacheError, Geometry, Rows};
use kv_script::RowSource;

use crate::drivers::Generated;
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
        generated: impl FnOnce(&mut Generated) -> Result<Rows, CacheError>,
    ) -> Result<Rows, ReplayError> {
        match self.recording.as_mut().map(recorded) {
            None | Some(Err(ReplayError::Missing { .. })) => Ok(generated(&mut self.generated)?),
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
        self.rows(|recording| recording.keys(layer, positions.clone()), |generated| generated.keys(layer, positions.clone()))
    }

    fn values(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, ReplayError> {
        self.rows(|recording| recording.values(layer, positions.clone()), |generated| generated.values(layer, positions.clone()))
    }

    fn queries(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, ReplayError> {
        self.rows(|recording| recording.queries(layer, positions.clone()), |generated| generated.queries(layer, positions.clone()))
    }
}
