//! The worker that times the instances of a comparison block. It holds all their caches at once, and what feeds them, and lets
//! them take turns.

mod feed;
mod rounds;

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kv_core::{Geometry, KvCache, Registry};
use kv_report::{Fill, Pass, Status, StepTime, Visit};
use kv_script::{Driver, Event, Interpreter, Script};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::channel::Channel;
use super::protocol::{InstanceSpec, LatencyTask, Message, RowsSpec, Ttft, Work};
use super::{caught, milliseconds, on_the_pool, record};
use crate::Problem;
use crate::config::Workload;
use crate::drivers::CellRows;
use crate::estimate::Reuse;
use crate::recording::Recording;
use crate::timed::Timed;
use crate::workloads;
use feed::{Fed, Feed, FirstToken, ModelFeed, RowsFeed};

pub(super) fn run(registry: &Registry, task: &LatencyTask, channel: &Channel) -> Result<(), Problem> {
    let recording = |geometry: &Geometry| task.recording.as_ref().map(|folder| Recording::of_worker(folder, geometry)).transpose();
    match &task.rows {
        RowsSpec::Generated { geometry, seed } => {
            time(registry, task, channel, &RowsFeed { rows: CellRows::generated(geometry.clone(), *seed) });
        }
        RowsSpec::Recorded { geometry, .. } => {
            let rows = CellRows { geometry: geometry.clone(), recording: recording(geometry)?, generated: None };
            time(registry, task, channel, &RowsFeed { rows });
        }
        RowsSpec::Model(model) => {
            let (model, loaded) = record::load(model, channel)?;
            channel.send(&Message::Model(loaded));
            let recording = recording(&model.decoder.config().geometry)?;
            time(registry, task, channel, &ModelFeed { decoder: &model.decoder, recording });
        }
    }
    Ok(())
}

/// Fills all caches and times them in turns.
fn time<F: Feed>(registry: &Registry, task: &LatencyTask, channel: &Channel, feed: &F) {
    let block = Block { registry, task, channel, feed, work: Mutex::new(Work::Build) };
    if feed.fill(Reuse::Caches) != Fill::Replay {
        block.warm_up();
    }
    let mut order = ChaCha8Rng::seed_from_u64(task.order_seed.into());
    let doubled = task.instances.iter().filter(|instance| task.control.as_ref() == Some(&instance.id));
    let mut parts: Vec<(&InstanceSpec, Role)> =
        task.instances.iter().map(|instance| (instance, Role::Instance)).chain(doubled.map(|instance| (instance, Role::Control))).collect();
    // The first to be built may get the better memory.
    parts.shuffle(&mut order);
    let mut filled = vec![];
    for (instance, role) in parts {
        match caught(|| on_the_pool(|| block.fill(instance, role))) {
            Ok(ready) => filled.push(ready),
            Err(failure) => channel.visit(block.failed(instance, role, &failure)),
        }
    }
    // A replayed prompt has not used the model yet.
    on_the_pool(|| feed.warm_up_decoding());
    for visit in rounds::run(&block, filled, &mut order) {
        channel.visit(visit);
    }
    // Last, so that it disturbs nothing.
    if let Some(instance) = task.instances.iter().find(|instance| task.checked.as_ref() == Some(&instance.id)) {
        block.warm_up();
        let visit = caught(|| on_the_pool(|| block.check(instance)));
        channel.visit(visit.unwrap_or_else(|failure| Visit { pass: Pass::Check, ..block.failed(instance, Role::Instance, &failure) }));
    }
}

/// What the instances share.
struct Block<'a, F> {
    registry: &'a Registry,
    task: &'a LatencyTask,
    channel: &'a Channel,
    feed: &'a F,
    /// In hand, for the reason of a failure.
    work: Mutex<Work>,
}

/// As what an instance takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Instance,
    /// As the baseline's double.
    Control,
}

/// An instance whose cache holds its prompt.
struct Filled<'a, F: Feed> {
    instance: &'a InstanceSpec,
    role: Role,
    cache: Timed,
    interpreter: Interpreter<F::Driver>,
    visit: Visit,
}

impl<'a, F: Feed> Block<'a, F> {
    fn fill(&self, instance: &'a InstanceSpec, role: Role) -> Result<Filled<'a, F>, String> {
        let script = &self.task.script;
        // Composing a time takes the attention of the whole prompt, and the control's is not asked for.
        let ttft = if role == Role::Control { Ttft::LeftOut } else { self.task.ttft };
        let mut cache = self.build(instance)?;
        let reuse = if cache.recomputes() { Reuse::Recomputes } else { Reuse::Caches };
        let mut visit = self.passed(instance, role);
        self.enter(instance, Work::Fill);
        let mut interpreter = Interpreter::new(self.feed.driver(script, reuse, ttft));
        let fed = self.prefill(&mut cache, &mut interpreter, reuse)?;
        visit.values.insert("fill_ms".into(), milliseconds(fed.elapsed));
        visit.fill = Some(match script.workload {
            Workload::Generate => Fill::Steps,
            _ => self.feed.fill(reuse),
        });
        if let Some(FirstToken { ms, seam_ms, source, recorded_model_ms }) = self.feed.first_token(script, reuse, ttft, fed) {
            let cache_ms = milliseconds(fed.spent.cache);
            if let Some(model_ms) = recorded_model_ms {
                visit.values.extend([("recorded_model_ms".to_owned(), model_ms), ("replayed_cache_ms".to_owned(), cache_ms)]);
            }
            visit.values.insert("ttft_ms".into(), ms);
            visit.ttft_source = Some(source);
            visit.steps.push(StepTime {
                phase: "prefill".into(),
                step: 0,
                round: 0,
                warm_up: false,
                position: workloads::prompt_len(script),
                step_ms: ms,
                cache_ms,
                seam_ms,
            });
        }
        Ok(Filled { instance, role, cache, interpreter, visit })
    }

    /// Takes the first large step, which others would pay for.
    fn warm_up(&self) {
        let script = &self.task.script;
        let chunk = script.prefill_chunk.min(workloads::prompt_len(script));
        on_the_pool(|| self.feed.warm_up(chunk));
    }

    /// Lets the model compute the prompt with this cache, which shows whether the composed time to first token holds.
    fn check(&self, instance: &InstanceSpec) -> Result<Visit, String> {
        /// A short prompt is computed several times, for a median.
        const COMPUTED_FOR: Duration = Duration::from_secs(2);
        const MOST: usize = 5;
        let mut times = vec![];
        while times.is_empty() || (times.len() < MOST && times.iter().sum::<f64>() < milliseconds(COMPUTED_FOR)) {
            let mut cache = self.build(instance)?;
            self.enter(instance, Work::RealPrefill);
            let reuse = if cache.recomputes() { Reuse::Recomputes } else { Reuse::Caches };
            let computing = self.feed.computing(&self.task.script);
            let fed = self.prefill(&mut cache, &mut Interpreter::new(computing), reuse)?;
            times.push(milliseconds(fed.elapsed));
        }
        let mut visit = self.passed(instance, Role::Instance);
        visit.pass = Pass::Check;
        visit.values.extend(kv_metrics::quantile(&times, 0.5).map(|median| ("ttft_real_ms".to_owned(), median)));
        Ok(visit)
    }

    fn build(&self, instance: &InstanceSpec) -> Result<Timed, String> {
        self.enter(instance, Work::Build);
        Ok(Timed::new(instance.build(self.registry, self.feed.geometry())?))
    }

    /// Feeds the prompts, and answers how long that took, opening the sequences not included.
    fn prefill(&self, cache: &mut Timed, interpreter: &mut Interpreter<F::Driver>, reuse: Reuse) -> Result<Fed, String> {
        let script = &self.task.script;
        let prompt = self.feed.prompt(script);
        // A cache that recomputes would run the first chunks again with every later one.
        let chunk = if reuse == Reuse::Recomputes { prompt.len() } else { script.prefill_chunk };
        let events = Script::prefill(&vec![prompt.as_slice(); script.batch], chunk).events;
        let mut elapsed = Duration::ZERO;
        let mut said = Instant::now();
        for (done, event) in events.iter().enumerate() {
            let began = Instant::now();
            run_event(interpreter, cache, event)?;
            if matches!(event, Event::Open { .. }) {
                cache.take_spent();
            } else {
                elapsed += began.elapsed();
            }
            self.say_progress(&mut said, done + 1, events.len());
        }
        Ok(Fed { elapsed, spent: cache.take_spent() })
    }

    fn enter(&self, instance: &InstanceSpec, work: Work) {
        *self.work.lock().unwrap_or_else(PoisonError::into_inner) = work.clone();
        self.channel.phase(Some(&instance.id), work);
    }

    fn passed(&self, instance: &InstanceSpec, role: Role) -> Visit {
        let visit = Visit::passed(&instance.id, Pass::Latency);
        Visit { launch: self.task.launch, process: Some(std::process::id()), control: role == Role::Control, ..visit }
    }

    fn failed(&self, instance: &InstanceSpec, role: Role, failure: &str) -> Visit {
        let phase = self.work.lock().unwrap_or_else(PoisonError::into_inner).to_string();
        let Visit { status, phase, error, .. } = Visit::failed(&instance.id, Pass::Latency, Status::Failed, &phase, failure);
        Visit { status, phase, error, ..self.passed(instance, role) }
    }

    /// Tells the runner now and then that it goes on, between two steps and not within one.
    fn say_progress(&self, said: &mut Instant, done: usize, all: usize) {
        const PAUSE: Duration = Duration::from_millis(200);
        if said.elapsed() >= PAUSE {
            self.channel.progress(done, all);
            *said = Instant::now();
        }
    }
}

fn run_event<D: Driver<Error: Display>>(interpreter: &mut Interpreter<D>, cache: &mut Timed, event: &Event) -> Result<(), String> {
    interpreter.run(cache, event).map_err(|error| error.to_string())
}
