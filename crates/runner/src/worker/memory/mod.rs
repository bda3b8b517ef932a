//! The worker that accounts for bytes: one cache alone, fed with rows of the model's shape, phase by phase.
//!
//! The model is left out, so that every byte is the cache's or a row's on its way to it. Nothing that is timed runs while bytes
//! are counted.

mod along_text;
mod ledger;

use kv_core::{KvCache, Registry};
use kv_metrics::{HeapMeter, counts_allocations};
use kv_report::{Pass, Status, Visit};
use kv_script::{Attention, Event, Interpreter, Name, RowsDriver, Script, names};

use self::ledger::{Account, Findings, Ledger};
use super::caught;
use super::channel::Channel;
use super::protocol::{InstanceSpec, MemoryTask, Text, Work};
use super::weighed::Weighed;
use crate::Problem;
use crate::config::Workload;
use crate::drivers::{CellRows, Generated};
use crate::estimate::Reuse;
use crate::recording::Recording;

pub(super) fn run(registry: &Registry, task: &MemoryTask, channel: &Channel) -> Result<(), Problem> {
    let MemoryTask { instance, .. } = task;
    let recording = task.recording.as_ref().map(|folder| Recording::of_worker(folder, &task.geometry)).transpose()?;
    // What a decode step appends beyond the recording is the model's, and is not here.
    let generated = Some(Generated::new(task.geometry.clone(), task.script.seed));
    let cell = Cell { registry, task, channel, rows: CellRows { geometry: task.geometry.clone(), recording, generated } };
    // Pages that were never touched are a line of the ledger, so buffers must not be made of pages that were.
    kv_metrics::map_large_buffers_alone();
    channel.phase(Some(&instance.id), Work::CountBytes);
    // On a thread of the pool, so that work is not handed over from outside: that allocates now and then.
    let counted = caught(|| rayon::scope(|_| cell.count()));
    channel.visit(counted.unwrap_or_else(|failure| failed(instance, Pass::Memory, Work::CountBytes, &failure)));
    if task.text == Text::Followed {
        channel.phase(Some(&instance.id), Work::FollowText);
        let size = (task.script.seq_len, task.script.batch);
        let followed = caught(|| along_text::follow(&instance.id, &|| cell.build(), &cell.rows, size, channel));
        channel.visit(followed.unwrap_or_else(|failure| failed(instance, Pass::Text, Work::FollowText, &failure)));
    }
    Ok(())
}

fn failed(instance: &InstanceSpec, pass: Pass, work: Work, failure: &str) -> Visit {
    Visit::failed(&instance.id, pass, Status::Failed, &work.to_string(), failure)
}

struct Cell<'a> {
    registry: &'a Registry,
    task: &'a MemoryTask,
    channel: &'a Channel,
    rows: CellRows,
}

/// The phases of a cell.
struct Phases {
    open: Vec<Event>,
    prefill: Vec<Event>,
    decode: Vec<Event>,
}

impl Cell<'_> {
    fn build(&self) -> Result<Box<dyn KvCache>, String> {
        let entry = self.registry.get(&self.task.instance.strategy).map_err(|error| error.to_string())?;
        entry.build(&self.task.instance.config, &self.task.geometry).map_err(|error| error.to_string())
    }

    fn count(&self) -> Result<Visit, String> {
        let mut visit = Visit::passed(&self.task.instance.id, Pass::Memory);
        if !counts_allocations() {
            visit.notes.push("heap bytes were not counted: the program does not install the counting allocator".into());
        }
        // Threads, their stacks and tables come into being with the first attention, and are not the cache's.
        rayon::broadcast(|_| ());
        let reuse = if self.build()?.recomputes() { Reuse::Recomputes } else { Reuse::Caches };
        let rehearsal = Phases::of(Workload::Decode, (2, 1), 1, 2, reuse);
        self.walk(&rehearsal)?;
        let script = &self.task.script;
        let phases = Phases::of(script.workload, (script.seq_len, script.batch), script.decode_steps, self.task.chunk, reuse);
        let Findings { values, notes } = self.walk(&phases)?;
        visit.values.extend(values.into_iter().map(|(id, value)| (id.to_owned(), value)));
        visit.notes.extend(notes);
        Ok(visit)
    }

    /// Goes through the phases and writes down what each took.
    fn walk(&self, phases: &Phases) -> Result<Findings, String> {
        let MemoryTask { script, geometry, instance, .. } = self.task;
        let entry = self.registry.get(&instance.strategy).map_err(|error| error.to_string())?;
        let predicted =
            entry.predicted_bytes(&instance.config, geometry, script.seq_len, script.batch).map_err(|error| error.to_string())?;
        let mut interpreter = Interpreter::new(RowsDriver { source: self.rows.clone(), attention: Attention::Skipped });
        // The interpreter's own table is there before anything is counted.
        let mut nobody = self.build()?;
        let sequence = Name::new("0");
        for event in [Event::Open { sequence: sequence.clone() }, Event::Close { sequence }] {
            interpreter.run(nobody.as_mut(), &event).map_err(|error| error.to_string())?;
        }
        drop(nobody);
        let findings = Findings::new();
        let start = ledger::Start::now();
        let meter = HeapMeter::start();
        let mut account = Account::new(findings, &meter);
        let mut cache = Weighed::new(self.build()?, &meter);
        let ledger = |cache: &Weighed<'_>, sequences: usize| Ledger {
            predicted,
            usage: cache.usage(),
            sequences,
            meter: &meter,
            heap: meter.own_bytes(),
            start,
        };
        let batch = phases.open.len();

        self.feed(&mut cache, &mut interpreter, &phases.open, 0)?;
        account.put_counted("heap_open_bytes", meter.own_bytes());

        let _ = cache.take_phase();
        // Its scratch is largest at the last step of a prompt. In the others it takes time that grows with the square of the prompt.
        self.feed(&mut cache, &mut interpreter, &phases.prefill, 1)?;
        let prefill = cache.take_phase();
        account.put_counted("transient_peak_prefill_bytes", prefill.transient.max(0));
        account.put_counted("harness_rows_bytes", prefill.rows);
        ledger::put_resident_peak(&mut account, "rss_peak_prefill_bytes", &start);
        // A text that is generated is as long as it is said to be at its end.
        if script.workload == Workload::Decode || phases.decode.is_empty() {
            ledger(&cache, batch).put(&mut account, geometry);
        }

        kv_metrics::begin_resident_peak();
        let (early, late) = phases.decode.split_at(phases.decode.len().saturating_sub(ATTENDED_STEPS.max(script.decode_steps)));
        self.feed(&mut cache, &mut interpreter, early, 0)?;
        let unattended = cache.take_phase();
        self.feed(&mut cache, &mut interpreter, late, late.len())?;
        let decode = cache.take_phase();
        account.put_counted("transient_peak_decode_bytes", decode.transient.max(unattended.transient).max(0));
        account.put("scratch_peak_bytes", cache.usage().scratch_peak_bytes as i64);
        account.put_counted("heap_peak_bytes", prefill.peak.max(unattended.peak).max(decode.peak));
        ledger::put_resident_peak(&mut account, "rss_peak_decode_bytes", &start);
        let tokens = late.len() * batch;
        if tokens > 0 {
            account.put_counted_ratio("allocs_per_token", decode.allocations as f64 / tokens as f64);
            account.put_counted_ratio("allocated_bytes_per_token", decode.allocated as f64 / tokens as f64);
        }
        match script.workload {
            Workload::Generate if !phases.decode.is_empty() => ledger(&cache, batch).put(&mut account, geometry),
            _ => ledger(&cache, batch).check("after the decode steps", &mut account),
        }

        self.fork(&mut cache, &mut interpreter, &mut account, |cache, account, when| ledger(cache, batch + 1).check(when, account))?;

        let closing: Vec<Event> = names(batch).into_iter().map(|sequence| Event::Close { sequence }).collect();
        self.feed(&mut cache, &mut interpreter, &closing, 0)?;
        drop(closing);
        account.put_counted("heap_closed_bytes", meter.own_bytes());
        ledger(&cache, 0).check("after all sequences were closed", &mut account);
        drop(cache);
        ledger::check_dropped(meter.own_bytes(), &mut account);
        Ok(account.findings)
    }

    /// Runs the events of a phase. The queries of the last `attended` steps meet the cache.
    fn feed(&self, cache: &mut Weighed<'_>, interpreter: &mut OnRows, events: &[Event], attended: usize) -> Result<(), String> {
        let is_step = |event: &&Event| matches!(event, Event::Append { .. } | Event::Step { .. });
        let mut left = events.iter().filter(is_step).count();
        for (done, event) in events.iter().enumerate() {
            interpreter.driver().attention = if left <= attended { Attention::Run } else { Attention::Skipped };
            left -= usize::from(is_step(&event));
            interpreter.run(cache, event).map_err(|error| error.to_string())?;
            if done % 64 == 0 {
                self.channel.progress(done, events.len());
            }
        }
        Ok(())
    }

    /// Forks the first sequence, and lets the fork take a step of its own. `check` holds the account of the cache against the heap.
    fn fork<'m>(
        &self,
        cache: &mut Weighed<'m>,
        interpreter: &mut OnRows,
        account: &mut Account<'m>,
        check: impl Fn(&Weighed<'m>, &mut Account<'m>, &str),
    ) -> Result<(), String> {
        let meter = account.meter();
        let before = meter.own_bytes();
        let of_one = before / self.task.script.batch.max(1) as i64;
        if of_one.unsigned_abs() > self.task.room_to_fork {
            account.note(format!("no sequence was forked: another {of_one} bytes may not fit into `memory_limit`"));
            return Ok(());
        }
        let [parent, fork] = ["0", "fork"].map(Name::new);
        let mut run = |cache: &mut Weighed<'m>, event: Event| interpreter.run(cache, &event).map_err(|error| error.to_string());
        if let Err(reason) = run(cache, Event::Fork { parent, sequence: fork.clone() }) {
            account.note(format!("no sequence was forked: {reason}"));
            return Ok(());
        }
        account.put_counted("fork_bytes", meter.own_bytes() - before);
        account.put("fork_shared_bytes", cache.usage().shared_bytes as i64);
        check(cache, account, "after a fork");
        match run(cache, Event::Step { sequences: vec![fork.clone()] }) {
            Ok(()) => account.put_counted("fork_step_bytes", meter.own_bytes() - before),
            Err(reason) => account.note(format!("the fork took no step of its own: {reason}")),
        }
        check(cache, account, "after the fork took a step");
        run(cache, Event::Close { sequence: fork })
    }
}

/// Decode steps at least whose queries meet the cache, of a text that is generated token by token: all of them would take time
/// that grows with its square.
const ATTENDED_STEPS: usize = 16;

type OnRows = Interpreter<RowsDriver<CellRows>>;

impl Phases {
    /// Phases of a cell with so many tokens in each sequence of a batch.
    fn of(workload: Workload, (tokens, batch): (usize, usize), decode_steps: usize, chunk: usize, reuse: Reuse) -> Phases {
        let (prompt, steps) = match workload {
            // A cache that recomputes holds nothing, however it was fed, and would be fed everything again at every step.
            Workload::Generate if reuse == Reuse::Recomputes => (tokens.max(2) - 1, tokens.min(2) - 1),
            Workload::Generate => (1, tokens - 1),
            _ => (tokens, decode_steps),
        };
        // The tokens themselves do not matter.
        let prompt = vec![0; prompt];
        let mut open = Script::prefill(&vec![prompt.as_slice(); batch], chunk.max(1)).events;
        let prefill = open.split_off(batch);
        Phases { open, prefill, decode: Script::decode(batch, steps).events }
    }
}
