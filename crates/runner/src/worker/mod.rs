//! Worker processes: whatever a strategy does to its process, the runner survives and says what happened.
//!
//! The runner starts its own program again with a hidden command ([`COMMAND`]), so a program with strategies of its own
//! works the same. [`process`] is the runner's side, everything else the worker's.

mod attention;
mod channel;
mod disturbance;
mod gate;
mod latency;
mod memory;
mod memory_bandwidth;
mod message;
mod probe;
pub(crate) mod process;
pub(crate) mod protocol;
mod quality;
mod record;
mod scripted;
mod scripted_task;
mod weighed;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

use kv_core::{Guarantee, KvCache, Registry};
use kv_kernels::KernelPath;
use kv_script::Attention;
use serde::Deserialize;

use crate::roofline::{self, RooflineTask};
use crate::run_record::build_record;
use crate::worker::channel::Channel;
use crate::worker::protocol::{InstanceSpec, Job, Message, PROTOCOL, Task};
use crate::{Problem, exit, interrupt};

/// The command that makes a process a worker.
pub(crate) const COMMAND: &str = "worker";

/// Does the job that comes in on the standard input.
///
/// # Errors
/// A [`Problem`] if nobody sends one: somebody typed the command.
pub(crate) fn serve(registry: &Registry) -> Result<ExitCode, Problem> {
    let unusable = || Problem::new(format!("`{COMMAND}` is for the runner's own processes")).help("`--help` lists the commands");
    let (channel, line) = Channel::take_over().map_err(|error| unusable().caused_by(error))?;
    // Another version's job may look quite different beside this.
    let Spoken { protocol } = serde_json::from_str(&line).map_err(|error| unusable().caused_by(error))?;
    interrupt::ignore()?;
    channel.send(&Message::Ready { protocol: PROTOCOL, build: Some(build_record()) });
    if protocol != PROTOCOL {
        return Err(Problem::new(format!("the runner speaks protocol {protocol}, and this program {PROTOCOL}")));
    }
    let job: Job = serde_json::from_str(&line).map_err(|error| unusable().caused_by(error))?;
    match prepare(&job).and_then(|()| work(registry, job.task, &channel)) {
        Ok(()) => channel.send(&Message::Finished),
        Err(problem) => channel.send(&Message::Refused(problem.record())),
    }
    Ok(exit::OK)
}

/// What every version says first of a job.
#[derive(Deserialize)]
struct Spoken {
    protocol: u32,
}

fn prepare(job: &Job) -> Result<(), Problem> {
    let path: KernelPath = job.kernel_path.parse().map_err(|_| Problem::new(format!("no kernel path is called `{}`", job.kernel_path)))?;
    path.select().map_err(|error| Problem::new(error.to_string()))?;
    if let Some(limit) = job.memory_limit {
        process::limit_memory(limit.saturating_add(job.untouched_bytes))?;
    }
    kv_metrics::set_buffer_pages(job.huge_pages.buffer_pages());
    rayon::ThreadPoolBuilder::new()
        .num_threads(job.threads)
        .build_global()
        .map_err(|error| Problem::new("cannot start the threads").caused_by(error))
}

fn work(registry: &Registry, task: Task, channel: &Channel) -> Result<(), Problem> {
    match task {
        Task::Probe(task) => probe::run(registry, &task, channel),
        Task::Gate(task) => gate::run(registry, &task, channel),
        Task::Record(task) => record::run(task, channel),
        Task::Latency(task) => latency::run(registry, &task, channel),
        Task::Memory(task) => memory::run(registry, &task, channel),
        Task::Scripted(task) => scripted::run(registry, &task, channel),
        Task::Attention(task) => attention::run(registry, &task, channel),
        Task::Quality(task) => quality::run(registry, &task, channel),
        Task::Roofline(task) => roofline(registry, &task, channel),
    }
}

fn roofline(registry: &Registry, task: &RooflineTask, channel: &Channel) -> Result<(), Problem> {
    // On a thread of the pool: handing each layer's work over from outside would be timed as well.
    let launch = rayon::scope(|_| roofline::run(registry, task, |done, all| channel.progress(done, all)));
    let launch = launch.map_err(|error| {
        Problem::new(format!("cannot fill the caches: {error}")).help("`roofline` reads caches of the strategies in `runner::builtin()`")
    })?;
    channel.send(&Message::Roofline(launch));
    Ok(())
}

impl InstanceSpec {
    /// Builds the cache. A panic is an error.
    fn build(&self, registry: &Registry, geometry: &kv_core::Geometry) -> Result<Box<dyn KvCache>, String> {
        let entry = registry.get(&self.strategy).map_err(|error| error.to_string())?;
        caught(|| entry.build(&self.config, geometry).map_err(|error| error.to_string()))
    }
}

/// Whether the queries of a prompt meet a cache that is filled with rows. One that evicts may choose by attention what it keeps.
fn attention_of_prompt(cache: &dyn KvCache) -> Attention {
    if matches!(cache.guarantee(), Guarantee::Evicts(_)) { Attention::Run } else { Attention::Skipped }
}

/// Runs this on a thread of the pool. From outside, every attention and product would first be handed to one.
fn on_the_pool<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| run())
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Runs what may panic. A panic is an error with its message.
pub(crate) fn caught<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(format!("the strategy panicked: {}", panic_message(panic.as_ref()))))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a message").to_owned()
}
