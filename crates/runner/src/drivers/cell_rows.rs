//! The rows that a cache is fed without a model: recorded ones as far as there are any, and generated ones behind them.

use std::ops::Range;

use kv_core::{Geometry, Rows};
use kv_script::RowSource;

use super::Generated;
use crate::recording::{Queries, Recording, ReplayError};

/// See the module's description.
#[derive(Debug, Clone)]
pub(crate) struct CellRows {
    pub(crate) geometry: Geometry,
    pub(crate) recording: Option<Recording>,
    /// What follows the recording, or stands for all of it. Without this, a row that was not recorded is an error.
    pub(crate) generated: Option<Generated>,
}

impl CellRows {
    /// Generated rows alone.
    pub(crate) fn generated(geometry: Geometry, seed: u64) -> CellRows {
        CellRows { recording: None, generated: Some(Generated::new(geometry.clone(), seed)), geometry }
    }

    /// The recording's answer, piece by piece where it was recorded in several steps, and the generator's for what follows.
    fn rows(
        &mut self,
        positions: Range<usize>,
        recorded: impl Fn(&mut Recording, Range<usize>) -> Result<Rows, ReplayError>,
        generated: impl Fn(&mut Generated, Range<usize>) -> Result<Rows, ReplayError>,
    ) -> Result<Rows, ReplayError> {
        let end = self.recording.as_ref().map_or(0, Recording::end);
        let missing = || ReplayError::Missing { what: "no rows", positions: positions.clone() };
        if positions.start >= end {
            return generated(self.generated.as_mut().ok_or_else(missing)?, positions);
        }
        let recording = self.recording.as_mut().ok_or_else(missing)?;
        let mut pieces = vec![];
        for piece in recording.pieces(positions.start..positions.end.min(end)) {
            pieces.push(recorded(recording, piece)?);
        }
        if positions.end > end {
            pieces.push(generated(self.generated.as_mut().ok_or_else(missing)?, end..positions.end)?);
        }
        match <[Rows; 1]>::try_from(pieces) {
            Ok([rows]) => Ok(rows),
            Err(pieces) => Ok(joined(&pieces)),
        }
    }
}

/// Rows one behind the other.
fn joined(pieces: &[Rows]) -> Rows {
    let [_, heads, dim] = pieces.first().map_or([0; 3], Rows::dims);
    let tokens = pieces.iter().map(|rows| rows.dims()[0]).sum();
    Rows::new([tokens, heads, dim], pieces.iter().flat_map(|rows| rows.values()).copied().collect())
}

impl RowSource for CellRows {
    type Error = ReplayError;

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn keys(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, ReplayError> {
        self.rows(positions, |recording, piece| recording.keys(layer, piece), |generated, rest| Ok(generated.keys(layer, rest)?))
    }

    fn values(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, ReplayError> {
        self.rows(positions, |recording, piece| recording.values(layer, piece), |generated, rest| Ok(generated.values(layer, rest)?))
    }

    /// Where keys and values were recorded alone, all queries are generated.
    fn queries(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, ReplayError> {
        if let (Some(Queries::LeftOut), Some(generated)) = (self.recording.as_ref().map(Recording::queries_are), &mut self.generated) {
            return Ok(generated.queries(layer, positions)?);
        }
        self.rows(positions, |recording, piece| recording.queries(layer, piece), |generated, rest| Ok(generated.queries(layer, rest)?))
    }
}
