//! What workers are told.

use std::path::PathBuf;
use std::time::Duration;

use kv_kernels::KernelPath;
use kv_model::ModelConfig;
use kv_report::Build;

use crate::config::HugePages;
use crate::plan::Cell;
use crate::recall_texts::RecallSource;
use crate::worker::process::Program;
use crate::worker::protocol::{InstanceSpec, Job, PROTOCOL, Purpose, RowsSpec, ScriptedTask, Task};

/// What all workers of a run share.
#[derive(Debug, Clone)]
pub(crate) struct Setting<'a> {
    /// What feeds the caches.
    pub(crate) rows: RowsSpec,
    /// Of the model, or of the shape whose caches are measured alone: with the layers that are, and room for all lengths.
    pub(crate) model_config: &'a ModelConfig,
    pub(crate) threads: usize,
    /// Threads whose stacks count when caches are packed into blocks: of a plan that machines share, the same on all of them.
    pub(crate) planned_threads: usize,
    /// The windows of the text that the model reads, in tokens.
    pub(crate) windows: Vec<Vec<u32>>,
    /// The beginning of the text that scripts are fed, in tokens. Empty if none is.
    pub(crate) text: Vec<u32>,
    /// The texts that state facts.
    pub(crate) recall: Vec<RecallSource>,
    /// Bytes that a worker may take.
    pub(crate) memory_limit: u64,
    /// The memory pages of large buffers while times are measured.
    pub(crate) huge_pages: HugePages,
    /// Seconds of silence after which a worker is ended, if the user says so.
    pub(crate) timeout_s: Option<u64>,
    /// The program of the build that takes turns with this one.
    pub(crate) other: Option<PathBuf>,
}

impl Setting<'_> {
    /// The program of a build.
    pub(crate) fn program(&self, build: Build) -> Program {
        match (build, &self.other) {
            (Build::Other, Some(path)) => Program::Other(path.clone()),
            _ => Program::Own,
        }
    }

    /// The builds whose workers are started.
    pub(crate) fn builds(&self) -> &'static [Build] {
        if self.other.is_some() { &[Build::Own, Build::Other] } else { &[Build::Own] }
    }

    /// A job.
    pub(crate) fn job(&self, task: Task) -> Job {
        Job {
            protocol: PROTOCOL,
            kernel_path: KernelPath::current().to_string(),
            threads: self.threads,
            memory_limit: Some(self.memory_limit),
            untouched_bytes: self.untouched_bytes(&task),
            huge_pages: if is_timed(&task) { self.huge_pages } else { HugePages::Never },
            task,
        }
    }

    /// Bytes that large buffers reserve beyond their size, because they begin and end with a huge page: keys and values of every
    /// layer of every sequence, before and behind.
    fn untouched_bytes(&self, task: &Task) -> u64 {
        const OF_A_BUFFER: u64 = 4 << 20;
        let layers = self.model_config.geometry.layers;
        let (caches, layers) = match task {
            Task::Latency(task) => ((task.instances.len() + 1).saturating_mul(task.script.batch), layers),
            Task::Scripted(ScriptedTask { purpose: Purpose::Time { .. }, instances, script, geometry, .. }) => {
                ((instances.len() + 1).saturating_mul(2 * script.batch), geometry.layers)
            }
            Task::Record(_) => (1, layers),
            _ => (0, layers),
        };
        match self.huge_pages {
            HugePages::Advise => (OF_A_BUFFER * 2 * layers as u64).saturating_mul(caches as u64),
            HugePages::Never | HugePages::System => 0,
        }
    }

    /// How long a worker may be silent whose work should take so many seconds.
    pub(crate) fn patience(&self, estimate: f64) -> Duration {
        const LEAST: f64 = 600.0;
        const TIMES: f64 = 20.0;
        const MOST: f64 = 30.0 * 24.0 * 3600.0;
        match self.timeout_s {
            Some(seconds) => Duration::from_secs(seconds),
            None => Duration::from_secs_f64((TIMES * estimate).clamp(LEAST, MOST)),
        }
    }
}

/// Whether times are measured.
fn is_timed(task: &Task) -> bool {
    matches!(task, Task::Latency(_) | Task::Record(_) | Task::Scripted(ScriptedTask { purpose: Purpose::Time { .. }, .. }))
}

/// A cell's strategy, under this id.
pub(crate) fn instance_of(cell: &Cell, id: &str) -> InstanceSpec {
    InstanceSpec { id: id.to_owned(), strategy: cell.strategy.id().to_owned(), config: cell.config.clone() }
}
