//! Reading a recording.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use kv_core::{CacheError, Geometry, Rows};
use kv_model::ModelError;
use kv_script::{Input, RowSource};

use super::row_writer::row_bytes;
use super::{Header, Queries, RecordedSegment, RecordingKey, VERSION};
use crate::Problem;
use crate::recording::segments::Role;

/// A recording that can be replayed into any cache of the model's shape.
#[derive(Debug, Clone)]
pub(crate) struct Recording {
    header: Arc<Header>,
    geometry: Geometry,
    rows: Arc<File>,
}

/// Why a prompt could not be replayed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("cannot read the recording: {0}")]
    Read(#[from] io::Error),
    #[error("the recording has {what} at positions {}..{}", .positions.start, .positions.end)]
    Missing { what: &'static str, positions: Range<usize> },
}

/// Rows of one layer of a segment.
#[derive(Clone, Copy)]
enum Part {
    Keys,
    Values,
    Queries,
}

impl Recording {
    /// Opens a finished recording of a model with this geometry.
    ///
    /// # Errors
    /// If a file cannot be read or is not what its header says.
    pub(crate) fn open(folder: &Path, geometry: &Geometry) -> io::Result<Recording> {
        let header: Header = serde_json::from_slice(&std::fs::read(folder.join("recording.json"))?)?;
        let rows = File::open(folder.join("rows.bin"))?;
        let of_segments: u64 = header.segments.iter().map(|recorded| recorded.segment.len() as u64).sum();
        let expected = of_segments * geometry.layers as u64 * row_bytes(geometry, header.key.queries);
        let bytes = rows.metadata()?.len();
        if header.key.version != VERSION || bytes != expected {
            return Err(io::Error::other(format!("`{}` has {bytes} bytes of rows instead of {expected}", folder.display())));
        }
        Ok(Recording { header: Arc::new(header), geometry: geometry.clone(), rows: Arc::new(rows) })
    }

    /// Opens the recording that a worker is told to replay.
    ///
    /// # Errors
    /// A [`Problem`] that names the folder.
    pub(crate) fn of_worker(folder: &Path, geometry: &Geometry) -> Result<Recording, Problem> {
        Recording::open(folder, geometry)
            .map_err(|error| Problem::new(format!("the recording in `{}` cannot be replayed", folder.display())).caused_by(error))
    }

    /// Whether it is a recording of this key.
    pub(crate) fn is_of(&self, key: &RecordingKey) -> bool {
        self.header.key == *key
    }

    /// Refuses other input than the recorded tokens.
    pub(crate) fn check(&self, positions: Range<usize>, input: &Input) -> Result<(), ReplayError> {
        match (self.header.key.tokens.get(positions.clone()), input) {
            (Some(recorded), Input::Tokens(tokens)) if recorded == tokens => Ok(()),
            _ => Err(ReplayError::Missing { what: "other tokens", positions }),
        }
    }

    /// Tokens that were recorded.
    pub(crate) fn end(&self) -> usize {
        self.header.key.tokens.len()
    }

    /// Whether queries were recorded.
    pub(crate) fn queries_are(&self) -> Queries {
        self.header.key.queries
    }

    /// These positions in pieces, of which each lies within a recorded step.
    pub(crate) fn pieces(&self, positions: Range<usize>) -> Vec<Range<usize>> {
        let segments = || self.header.segments.iter().map(|recorded| recorded.segment);
        if segments().any(|segment| segment.start == positions.start && segment.end == positions.end) {
            return vec![positions];
        }
        let mut pieces = vec![];
        let mut start = positions.start;
        while start < positions.end {
            let ends = segments().filter(|segment| (segment.start..segment.end).contains(&start)).map(|segment| segment.end);
            let Some(end) = ends.max().map(|end| end.min(positions.end)) else { break };
            pieces.push(start..end);
            start = end;
        }
        pieces
    }

    /// The token that follows a prompt of this length, if it was recorded.
    pub(crate) fn next_token(&self, len: usize) -> Option<u32> {
        self.header.segments.iter().find(|recorded| recorded.segment.end == len).map(|recorded| recorded.next_token)
    }

    /// The model's time for a prompt of this length, without the cache's, in milliseconds; `None` if it was not timed.
    pub(crate) fn model_ms(&self, len: usize) -> Option<f64> {
        let is_part = |recorded: &&RecordedSegment| {
            let segment = recorded.segment;
            match segment.role {
                Role::Chunk => segment.end <= len,
                Role::Tail => segment.end == len,
            }
        };
        self.header.segments.iter().filter(is_part).map(|recorded| recorded.model_ms).sum()
    }

    /// Rows of a part of a segment. A segment with exactly these positions goes before one that merely has them.
    fn rows(&self, part: Part, layer: usize, positions: Range<usize>) -> Result<Rows, ReplayError> {
        let Geometry { heads, kv_heads, key_dim, value_dim, .. } = self.geometry;
        let queries = self.header.key.queries;
        if matches!(part, Part::Queries) && queries == Queries::LeftOut {
            return Err(ReplayError::Missing { what: "no queries", positions });
        }
        let all = &self.header.segments;
        let exact = all.iter().find(|recorded| recorded.segment.start == positions.start && recorded.segment.end == positions.end);
        // A whole chunk rather than a shorter prompt's last step.
        let has = |recorded: &&RecordedSegment| recorded.segment.start <= positions.start && positions.end <= recorded.segment.end;
        let within = || all.iter().filter(has).max_by_key(|recorded| recorded.segment.end);
        let Some(RecordedSegment { segment, offset, .. }) = exact.or_else(within) else {
            return Err(ReplayError::Missing { what: "no single step", positions });
        };
        let tokens = segment.len() as u64;
        let row = |heads: usize, dim: usize| (heads * dim * size_of::<f32>()) as u64;
        let (keys, values) = (row(kv_heads, key_dim), row(kv_heads, value_dim));
        let layer_start = offset + layer as u64 * tokens * row_bytes(&self.geometry, queries);
        let (start, width, dims) = match part {
            Part::Keys => (layer_start, keys, [kv_heads, key_dim]),
            Part::Values => (layer_start + tokens * keys, values, [kv_heads, value_dim]),
            Part::Queries => (layer_start + tokens * (keys + values), row(heads, key_dim), [heads, key_dim]),
        };
        let mut bytes = vec![0; positions.len() * width as usize];
        self.rows.read_exact_at(&mut bytes, start + (positions.start - segment.start) as u64 * width)?;
        let values = bytes.chunks_exact(size_of::<f32>()).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap_or_default()));
        Ok(Rows::new([positions.len(), dims[0], dims[1]], values.collect()))
    }
}

impl RowSource for Recording {
    type Error = ReplayError;

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn keys(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, ReplayError> {
        self.rows(Part::Keys, layer, positions)
    }

    fn values(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, ReplayError> {
        self.rows(Part::Values, layer, positions)
    }

    fn queries(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, ReplayError> {
        self.rows(Part::Queries, layer, positions)
    }
}
