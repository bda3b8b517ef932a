//! The memory pass: the cache alone, fed with rows of the model's shape, under the counting allocator.
//!
//! The model is left out, so that every byte counted is the cache's or a tensor's at the seam, and nothing is
//! timed, so that counting disturbs nothing. What the rows contain does not matter to these bytes.

use kv_core::{Geometry, KvCache, Rows, SeqId, Tensor};
use kv_metrics::{HeapMeter, counts_allocations};

use super::{CellError, Setting};
use crate::config::Workload;
use crate::plan::Cell;

/// Heap bytes of the cache.
pub(super) struct Memory {
    pub(super) live_bytes: i64,
    pub(super) peak_bytes: i64,
}

/// Fills a fresh cache as the cell's workload does and counts; `None` in a program that cannot count.
pub(super) fn measure(setting: &Setting<'_>, cell: &Cell) -> Result<Option<Memory>, CellError> {
    if !counts_allocations() {
        return Ok(None);
    }
    let geometry = &setting.decoder.config().geometry;
    let (prompt, steps) = match cell.workload {
        Workload::Decode => (cell.seq_len, setting.plan.decode_steps),
        Workload::Generate => (cell.seq_len - 1, 1),
    };
    // Threads and their stacks come into being with the first large attention, and are not the cache's.
    rayon::broadcast(|_| ());
    let meter = HeapMeter::start();
    let mut cache = cell.strategy.build(&cell.config, geometry)?;
    let sequences = (0..cell.batch).map(|_| cache.open()).collect::<Result<Vec<_>, _>>()?;
    let chunk = if cache.recomputes() { prompt } else { setting.plan.prefill_chunk };
    for start in (0..prompt).step_by(chunk.max(1)) {
        let end = (start + chunk).min(prompt);
        for seq in &sequences {
            step(cache.as_mut(), geometry, *seq, start, end, Attention::Skipped)?;
        }
    }
    sequences.iter().try_for_each(|seq| cache.prompt_end(*seq))?;
    for position in prompt..prompt + steps {
        // Attention's scratch is the same at every step; one is enough to see it.
        let attention = if position + 1 == prompt + steps { Attention::Run } else { Attention::Skipped };
        for seq in &sequences {
            step(cache.as_mut(), geometry, *seq, position, position + 1, attention)?;
        }
    }
    let memory = Memory { live_bytes: meter.live_bytes(), peak_bytes: meter.peak_bytes() };
    drop(cache);
    Ok(Some(memory))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Attention {
    Run,
    Skipped,
}

fn step(cache: &mut dyn KvCache, geometry: &Geometry, seq: SeqId, start: usize, end: usize, attention: Attention) -> Result<(), CellError> {
    let Geometry { layers, heads, kv_heads, key_dim, value_dim, .. } = *geometry;
    let run = cache.begin(seq, start..end)?;
    for layer in 0..layers {
        cache.append(seq, layer, rows(run.len(), kv_heads, key_dim), rows(run.len(), kv_heads, value_dim))?;
        if attention == Attention::Run {
            cache.attend(seq, layer, rows(run.len(), heads, key_dim))?;
        }
    }
    Ok(cache.commit(seq)?)
}

/// Rows with a little of everything, so that no format can treat them as a special case.
fn rows(tokens: usize, heads: usize, dim: usize) -> Tensor<3> {
    let values = (0..tokens * heads * dim).map(|index| ((index * 37) % 101) as f32 / 50.0 - 1.0).collect();
    Rows::new([tokens, heads, dim], values).into_tensor()
}
