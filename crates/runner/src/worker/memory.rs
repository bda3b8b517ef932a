//! The worker that counts bytes: one cache alone, fed with rows of the model's shape, under the counting allocator.
//!
//! The model is left out, so that every byte counted is the cache's or a tensor's at the seam, and nothing is timed, so that
//! counting disturbs nothing. What the rows contain does not matter to these bytes.

use kv_core::Registry;
use kv_metrics::{HeapMeter, counts_allocations};
use kv_report::{Pass, Status, Visit};
use kv_script::{Attention, Interpreter, RowsDriver, Script};

use super::caught;
use super::channel::Channel;
use super::protocol::{MemoryTask, ScriptSpec, Work};
use crate::Problem;
use crate::config::Workload;
use crate::drivers::Generated;

pub(super) fn run(registry: &Registry, task: &MemoryTask, channel: &Channel) -> Result<(), Problem> {
    let MemoryTask { instance, .. } = task;
    channel.phase(Some(&instance.id), Work::CountBytes);
    let counted = caught(|| count(registry, task, channel));
    channel.visit(
        counted
            .unwrap_or_else(|failure| Visit::failed(&instance.id, Pass::Memory, Status::Failed, &Work::CountBytes.to_string(), &failure)),
    );
    Ok(())
}

fn count(registry: &Registry, task: &MemoryTask, channel: &Channel) -> Result<Visit, String> {
    let instance = &task.instance;
    let mut visit = Visit::passed(&instance.id, Pass::Memory);
    if !counts_allocations() {
        visit.notes.push("heap bytes were not counted: the program does not install the counting allocator".into());
        return Ok(visit);
    }
    // Threads, their stacks and tables come into being with the first attention, and are not the cache's.
    rayon::broadcast(|_| ());
    let short = ScriptSpec { seq_len: 2, batch: 1, decode_steps: 1, ..task.script.clone() };
    fill_and_count(registry, &MemoryTask { script: short, chunk: 2, ..task.clone() }, channel)?;
    let (live, peak) = fill_and_count(registry, task, channel)?;
    visit.values.insert("heap_live_bytes".into(), live as f64);
    visit.values.insert("heap_peak_bytes".into(), peak as f64);
    Ok(visit)
}

/// Live and peak bytes after the script.
fn fill_and_count(registry: &Registry, task: &MemoryTask, channel: &Channel) -> Result<(i64, i64), String> {
    let MemoryTask { instance, geometry, script, chunk } = task;
    // The tokens do not matter either.
    let (prompt, steps) = match script.workload {
        Workload::Decode => (script.seq_len, script.decode_steps),
        // A cache that recomputes holds nothing, however it was fed.
        Workload::Generate if *chunk >= script.seq_len => (script.seq_len.max(2) - 1, script.seq_len.min(2) - 1),
        Workload::Generate => (1, script.seq_len - 1),
    };
    let tokens = vec![0; prompt];
    let prefill = Script::prefill(&vec![tokens.as_slice(); script.batch], (*chunk).max(1));
    let events = prefill.then(Script::decode(script.batch, steps)).events;
    let (last, before) = events.split_last().ok_or("an empty script")?;
    // Attention's scratch is the same at every step. One is enough to see it.
    let before_last = if steps == 0 { Attention::Run } else { Attention::Skipped };
    let driver = RowsDriver { source: Generated { geometry: geometry.clone() }, attention: before_last };

    let entry = registry.get(&instance.strategy).map_err(|error| error.to_string())?;

    let meter = HeapMeter::start();
    let mut cache = entry.build(&instance.config, geometry).map_err(|error| error.to_string())?;
    let mut interpreter = Interpreter::new(driver);
    for (done, event) in before.iter().enumerate() {
        interpreter.run(cache.as_mut(), event).map_err(|error| error.to_string())?;
        if done % 64 == 0 {
            channel.progress(done, events.len());
        }
    }
    interpreter.driver().attention = Attention::Run;
    interpreter.run(cache.as_mut(), last).map_err(|error| error.to_string())?;
    // What the interpreter keeps is not the cache's.
    drop(interpreter);
    Ok((meter.live_bytes(), meter.peak_bytes()))
}
