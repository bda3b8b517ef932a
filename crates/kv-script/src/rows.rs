//! Rows that are known without a model: recorded, or generated.

use std::ops::Range;

use kv_core::{CacheError, Geometry, KvCache, Rows, SeqId};

use crate::{Driver, Input};

/// Keys, values and queries by layer and position. Keys and queries are rotated to their positions.
pub trait RowSource {
    /// What can go wrong.
    type Error: From<CacheError>;

    /// The shape of the rows.
    fn geometry(&self) -> &Geometry;

    /// `[tokens, kv_heads, key_dim]`
    ///
    /// # Errors
    /// The source's own.
    fn keys(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, Self::Error>;

    /// `[tokens, kv_heads, value_dim]`
    ///
    /// # Errors
    /// The source's own.
    fn values(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, Self::Error>;

    /// `[tokens, heads, key_dim]`
    ///
    /// # Errors
    /// The source's own.
    fn queries(&mut self, layer: usize, positions: Range<usize>) -> Result<Rows, Self::Error>;
}

/// Positions in steps of `size`, the last of which may be shorter.
///
/// # Panics
/// If `size` is 0.
pub fn chunks(positions: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = positions.end;
    positions.step_by(size).map(move |start| start..start.saturating_add(size).min(end))
}

/// Whether the queries of a step meet the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// They do, as under a model.
    Run,
    /// Keys and values are appended and nothing is asked, which fills a cache at a fraction of the time.
    Skipped,
}

/// Runs one step of several sequences, which are fed the source's rows at these positions, as a model would: all begin,
/// then each layer, then all commit.
///
/// # Errors
/// The cache's or the source's.
pub fn step<S: RowSource>(
    cache: &mut dyn KvCache,
    source: &mut S,
    sequences: &[(SeqId, Range<usize>)],
    attention: Attention,
) -> Result<(), S::Error> {
    step_watched(cache, source, sequences, attention, |_, _, _| {})
}

/// Like [`step`], but shows each output of `attend`, `[tokens, heads, value_dim]`, with its layer.
///
/// # Errors
/// The cache's or the source's.
pub fn step_watched<S: RowSource>(
    cache: &mut dyn KvCache,
    source: &mut S,
    sequences: &[(SeqId, Range<usize>)],
    attention: Attention,
    mut look: impl FnMut(&dyn KvCache, usize, Rows),
) -> Result<(), S::Error> {
    let Geometry { layers, heads, value_dim, .. } = *source.geometry();
    let begin = |(seq, fresh): &(SeqId, Range<usize>)| Ok((*seq, cache.begin(*seq, fresh.clone())?));
    let runs = sequences.iter().map(begin).collect::<Result<Vec<_>, CacheError>>()?;
    for layer in 0..layers {
        for (seq, run) in &runs {
            let (keys, values) = (source.keys(layer, run.clone())?, source.values(layer, run.clone())?);
            cache.append(*seq, layer, keys.into_tensor(), values.into_tensor())?;
            if attention == Attention::Run {
                let out = cache.attend(*seq, layer, source.queries(layer, run.clone())?.into_tensor())?;
                look(cache, layer, Rows::take("outputs", out, [run.len(), heads, value_dim])?);
            }
        }
    }
    for (seq, _) in &runs {
        cache.commit(*seq)?;
    }
    Ok(())
}

/// Feeds every sequence the rows of the source from its first position on. Tokens are counted, and their ids do not matter.
#[derive(Debug)]
pub struct RowsDriver<S> {
    /// Where the rows come from.
    pub source: S,
    /// Whether queries meet the cache. May be changed between two events.
    pub attention: Attention,
}

/// A sequence fed with rows.
#[derive(Debug)]
pub struct FedRows {
    id: SeqId,
    len: usize,
}

impl FedRows {
    /// Its id in the cache.
    pub fn id(&self) -> SeqId {
        self.id
    }
}

impl<S: RowSource> Driver for RowsDriver<S> {
    type Sequence = FedRows;
    type Error = S::Error;

    fn open(&mut self, cache: &mut dyn KvCache) -> Result<FedRows, S::Error> {
        Ok(FedRows { id: cache.open()?, len: 0 })
    }

    fn fork(&mut self, cache: &mut dyn KvCache, parent: &FedRows) -> Result<FedRows, S::Error> {
        Ok(FedRows { id: cache.fork(parent.id)?, len: parent.len })
    }

    fn take_back(&mut self, cache: &mut dyn KvCache, sequence: &mut FedRows, tokens: usize) -> Result<(), S::Error> {
        cache.truncate(sequence.id, sequence.len - tokens)?;
        sequence.len -= tokens;
        Ok(())
    }

    fn prompt_end(&mut self, cache: &mut dyn KvCache, sequence: &mut FedRows) -> Result<(), S::Error> {
        Ok(cache.prompt_end(sequence.id)?)
    }

    fn close(&mut self, cache: &mut dyn KvCache, sequence: &mut FedRows) -> Result<(), S::Error> {
        Ok(cache.close(sequence.id)?)
    }

    fn len(&self, sequence: &FedRows) -> usize {
        sequence.len
    }

    /// The token that follows is 0 for all: there is no model to choose one.
    fn feed(&mut self, cache: &mut dyn KvCache, inputs: &mut [(&mut FedRows, &Input)]) -> Result<Vec<Option<u32>>, S::Error> {
        let steps: Vec<_> = inputs.iter().map(|(sequence, input)| (sequence.id, sequence.len..sequence.len + input.len())).collect();
        step(cache, &mut self.source, &steps, self.attention)?;
        for (sequence, input) in inputs.iter_mut() {
            sequence.len += input.len();
        }
        Ok(vec![Some(0); inputs.len()])
    }
}
