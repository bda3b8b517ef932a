//! The worker that times the instances of a comparison block. It holds the model and all their caches at once, and lets them
//! take turns.

mod disturbance;
mod memory_bandwidth;
mod rounds;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kv_core::{KvCache, Registry};
use kv_model::Model;
use kv_report::{Fill, Pass, Status, StepTime, TtftSource, Visit};
use kv_script::{Attention, Event, Interpreter, Script};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::channel::Channel;
use super::protocol::{InstanceSpec, LatencyTask, Message, Ttft, Work};
use super::{caught, record};
use crate::Problem;
use crate::config::Workload;
use crate::drivers::{ModelDriver, ReplayDriver};
use crate::recording::{self, Recording};
use crate::timed::{Spent, Timed};
use crate::workload;

pub(super) fn run(registry: &Registry, task: &LatencyTask, channel: &Channel) -> Result<(), Problem> {
    let (model, loaded) = record::load(&task.model, channel)?;
    channel.send(&Message::Model(loaded));
    let recording = match &task.recording {
        None => None,
        Some(folder) => Some(
            Recording::open(folder, &model.decoder.config().geometry)
                .map_err(|error| Problem::new(format!("the recording in `{}` cannot be replayed", folder.display())).caused_by(error))?,
        ),
    };
    let block = Block { registry, task, channel, model: &model, recording, work: Mutex::new(Work::Build) };
    if block.recording.is_none() {
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
    on_the_pool(|| recording::warm_up_decoding(&model.decoder));
    for visit in rounds::run(&block, filled, &mut order) {
        channel.visit(visit);
    }
    // Last, so that it disturbs nothing.
    if let Some(instance) = task.instances.iter().find(|instance| task.checked.as_ref() == Some(&instance.id)) {
        block.warm_up();
        let visit = caught(|| on_the_pool(|| block.check(instance)));
        channel.visit(visit.unwrap_or_else(|failure| Visit { pass: Pass::Check, ..block.failed(instance, Role::Instance, &failure) }));
    }
    Ok(())
}

/// What the instances share.
struct Block<'a> {
    registry: &'a Registry,
    task: &'a LatencyTask,
    channel: &'a Channel,
    model: &'a Model,
    recording: Option<Recording>,
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
struct Filled<'a> {
    instance: &'a InstanceSpec,
    role: Role,
    cache: Timed,
    interpreter: Interpreter<ReplayDriver<'a>>,
    visit: Visit,
}

impl<'a> Block<'a> {
    fn fill(&self, instance: &'a InstanceSpec, role: Role) -> Result<Filled<'a>, String> {
        let script = &self.task.script;
        // Composing a time takes the attention of the whole prompt, and the control's is not asked for.
        let ttft = if role == Role::Control { Ttft::LeftOut } else { self.task.ttft };
        let mut cache = self.build(instance)?;
        let recomputes = cache.recomputes();
        let recording = self.recording.clone().filter(|_| !recomputes);
        let mut visit = self.passed(instance, role);
        self.enter(instance, Work::Fill);
        let model = ModelDriver::new(&self.model.decoder);
        let prompt = workload::prompt_len(script);
        let attention = if ttft == Ttft::Measured { Attention::Run } else { Attention::Skipped };
        let is_replayed = recording.is_some();
        let recorded_ms = recording.as_ref().and_then(|recording| recording.model_ms(prompt)).filter(|_| ttft == Ttft::Measured);
        let driver = match recording {
            Some(recording) => ReplayDriver::new(model, recording, attention, prompt),
            None => ReplayDriver::without_recording(model),
        };
        let mut interpreter = Interpreter::new(driver);
        let (elapsed, spent) = self.prefill(&mut cache, &mut interpreter, recomputes)?;
        visit.values.insert("fill_ms".into(), milliseconds(elapsed));
        visit.fill = Some(match script.workload {
            Workload::Generate => Fill::Steps,
            Workload::Decode if is_replayed => Fill::Replay,
            Workload::Decode => Fill::Prefill,
        });
        let first_token = match recorded_ms {
            None if is_replayed => None,
            None => Some((milliseconds(elapsed), TtftSource::Prefill)),
            Some(recorded_ms) => {
                // A step of a batch runs as many times the rows.
                let model_ms = recorded_ms * script.batch as f64;
                visit.values.insert("recorded_model_ms".into(), model_ms);
                visit.values.insert("replayed_cache_ms".into(), milliseconds(spent.cache));
                Some((model_ms + milliseconds(spent.cache), TtftSource::Composed))
            }
        };
        if let Some((step_ms, source)) = first_token {
            visit.values.insert("ttft_ms".into(), step_ms);
            visit.ttft_source = Some(source);
            let seam_ms = if source == TtftSource::Prefill { milliseconds(spent.seam) } else { 0.0 };
            let cache_ms = milliseconds(spent.cache);
            visit.steps.push(StepTime {
                phase: "prefill".into(),
                step: 0,
                round: 0,
                warm_up: false,
                position: prompt,
                step_ms,
                cache_ms,
                seam_ms,
            });
        }
        Ok(Filled { instance, role, cache, interpreter, visit })
    }

    /// Takes the first large step, which others would pay for.
    fn warm_up(&self) {
        let script = &self.task.script;
        let chunk = script.prefill_chunk.min(workload::prompt_len(script));
        on_the_pool(|| recording::warm_up(&self.model.decoder, chunk));
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
            let recomputes = cache.recomputes();
            let model = ReplayDriver::without_recording(ModelDriver::new(&self.model.decoder));
            let (elapsed, _) = self.prefill(&mut cache, &mut Interpreter::new(model), recomputes)?;
            times.push(milliseconds(elapsed));
        }
        let mut visit = self.passed(instance, Role::Instance);
        visit.pass = Pass::Check;
        visit.values.extend(kv_metrics::quantile(&times, 0.5).map(|median| ("ttft_real_ms".to_owned(), median)));
        Ok(visit)
    }

    fn build(&self, instance: &InstanceSpec) -> Result<Timed, String> {
        self.enter(instance, Work::Build);
        Ok(Timed::new(instance.build(self.registry, &self.model.decoder.config().geometry)?))
    }

    /// Feeds the prompts, and answers how long that took, opening the sequences not included.
    fn prefill(
        &self,
        cache: &mut Timed,
        interpreter: &mut Interpreter<ReplayDriver<'a>>,
        recomputes: bool,
    ) -> Result<(Duration, Spent), String> {
        let script = &self.task.script;
        let prompt = workload::prompt(script, self.model.decoder.config().vocabulary);
        // A cache that recomputes would run the first chunks again with every later one.
        let chunk = if recomputes { prompt.len() } else { script.prefill_chunk };
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
        Ok((elapsed, cache.take_spent()))
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

/// Runs this on a thread of the pool. From outside, every attention and product would first be handed to one.
fn on_the_pool<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| run())
}

fn run_event(interpreter: &mut Interpreter<ReplayDriver<'_>>, cache: &mut Timed, event: &Event) -> Result<(), String> {
    interpreter.run(cache, event).map_err(|error| error.to_string())
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
