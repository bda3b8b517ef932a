//! What feeds the caches of a block: a model, or rows alone.

use std::fmt::Display;
use std::time::Duration;

use kv_core::Geometry;
use kv_model::{Decoder, ModelConfig};
use kv_report::{Fill, TtftSource};
use kv_script::{Attention, Driver, Interpreter, Script};

use super::milliseconds;
use crate::config::Workload;
use crate::drivers::{AloneDriver, CellRows, ModelDriver, ReplayDriver};
use crate::estimate::Reuse;
use crate::recording::{self, Recording, exact_cache};
use crate::timed::Spent;
use crate::worker::protocol::{ScriptSpec, Ttft};
use crate::workloads;

/// Feeds the caches of a block, and knows what their times are made of.
pub(super) trait Feed: Sync {
    /// Feeds one cache.
    type Driver: Driver<Sequence: Send, Error: Display> + Send;

    /// The shape of the rows.
    fn geometry(&self) -> &Geometry;

    /// The tokens of each prompt.
    fn prompt(&self, script: &ScriptSpec) -> Vec<u32>;

    /// A driver for one cache.
    fn driver(&self, script: &ScriptSpec, reuse: Reuse, ttft: Ttft) -> Self::Driver;

    /// A driver that takes nothing from a recording.
    fn computing(&self, script: &ScriptSpec) -> Self::Driver;

    /// How a prompt comes into a cache.
    fn fill(&self, reuse: Reuse) -> Fill;

    /// The time to first token of a prompt that was fed, if it is known.
    fn first_token(&self, script: &ScriptSpec, reuse: Reuse, ttft: Ttft, fed: Fed) -> Option<FirstToken>;

    /// The time of a step.
    fn step_time(&self, fed: Fed) -> Duration;

    /// Takes a large step for nothing: the first one of a process pays for memory that later ones reuse.
    fn warm_up(&self, tokens: usize);

    /// Takes a few single steps for nothing.
    fn warm_up_decoding(&self);
}

/// The time of what was fed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fed {
    /// By the clock.
    pub(super) elapsed: Duration,
    /// On the cache's behalf.
    pub(super) spent: Spent,
}

/// A time to first token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FirstToken {
    pub(super) ms: f64,
    pub(super) seam_ms: f64,
    pub(super) source: TtftSource,
    /// The model's part, if it was recorded.
    pub(super) recorded_model_ms: Option<f64>,
}

/// The model, or a recording of it for the prompt.
pub(super) struct ModelFeed<'m> {
    pub(super) decoder: &'m Decoder,
    pub(super) recording: Option<Recording>,
}

impl ModelFeed<'_> {
    /// The recording, for a cache into which it can be replayed.
    fn recording(&self, reuse: Reuse) -> Option<&Recording> {
        self.recording.as_ref().filter(|_| reuse == Reuse::Caches)
    }

    fn config(&self) -> &ModelConfig {
        self.decoder.config()
    }
}

impl<'m> Feed for ModelFeed<'m> {
    type Driver = ReplayDriver<'m>;

    fn geometry(&self) -> &Geometry {
        &self.config().geometry
    }

    fn prompt(&self, script: &ScriptSpec) -> Vec<u32> {
        workloads::prompt(script, self.config().vocabulary)
    }

    fn driver(&self, script: &ScriptSpec, reuse: Reuse, ttft: Ttft) -> ReplayDriver<'m> {
        match self.recording(reuse) {
            Some(recording) => {
                ReplayDriver::new(ModelDriver::new(self.decoder), recording.clone(), ttft.attention(), workloads::prompt_len(script))
            }
            None => self.computing(script),
        }
    }

    fn computing(&self, _: &ScriptSpec) -> ReplayDriver<'m> {
        ReplayDriver::without_recording(ModelDriver::new(self.decoder))
    }

    fn fill(&self, reuse: Reuse) -> Fill {
        if self.recording(reuse).is_some() { Fill::Replay } else { Fill::Prefill }
    }

    /// Of a replayed prompt it is composed: the model's part, which was recorded, and the cache's.
    fn first_token(&self, script: &ScriptSpec, reuse: Reuse, ttft: Ttft, Fed { elapsed, spent }: Fed) -> Option<FirstToken> {
        let Some(recording) = self.recording(reuse) else {
            let seam_ms = milliseconds(spent.seam);
            return Some(FirstToken { ms: milliseconds(elapsed), seam_ms, source: TtftSource::Prefill, recorded_model_ms: None });
        };
        let recorded_ms = recording.model_ms(workloads::prompt_len(script)).filter(|_| ttft == Ttft::Measured)?;
        // A step of a batch runs as many times the rows.
        let model_ms = recorded_ms * script.batch as f64;
        let ms = model_ms + milliseconds(spent.cache);
        Some(FirstToken { ms, seam_ms: 0.0, source: TtftSource::Composed, recorded_model_ms: Some(model_ms) })
    }

    fn step_time(&self, fed: Fed) -> Duration {
        fed.elapsed
    }

    fn warm_up(&self, tokens: usize) {
        recording::warm_up(self.decoder, tokens);
    }

    fn warm_up_decoding(&self) {
        recording::warm_up_decoding(self.decoder);
    }
}

/// Rows without a model. Making or reading them is nobody's part of a step, so that a step is what the cache takes, and the way
/// to it.
pub(super) struct RowsFeed {
    pub(super) rows: CellRows,
}

impl RowsFeed {
    fn alone(&self, of_prompt: Attention, prompt: usize) -> AloneDriver {
        AloneDriver::new(self.rows.clone(), of_prompt, prompt)
    }

    /// Feeds an exact cache. What goes wrong here goes wrong again where it is told.
    fn run(&self, script: &Script, tokens: usize) {
        let Ok(mut cache) = exact_cache(&self.rows.geometry, tokens) else { return };
        let mut interpreter = Interpreter::new(self.alone(Attention::Run, 0));
        let _ = script.events.iter().try_for_each(|event| interpreter.run(cache.as_mut(), event));
    }
}

impl Feed for RowsFeed {
    type Driver = AloneDriver;

    fn geometry(&self) -> &Geometry {
        &self.rows.geometry
    }

    /// The rows do not depend on tokens.
    fn prompt(&self, script: &ScriptSpec) -> Vec<u32> {
        vec![0; workloads::prompt_len(script)]
    }

    fn driver(&self, script: &ScriptSpec, _: Reuse, ttft: Ttft) -> AloneDriver {
        self.alone(of_prompt(script, ttft), workloads::prompt_len(script))
    }

    fn computing(&self, _: &ScriptSpec) -> AloneDriver {
        self.alone(Attention::Run, 0)
    }

    fn fill(&self, _: Reuse) -> Fill {
        if self.rows.recording.is_some() { Fill::Replay } else { Fill::Generated }
    }

    fn first_token(&self, script: &ScriptSpec, _: Reuse, ttft: Ttft, fed: Fed) -> Option<FirstToken> {
        (of_prompt(script, ttft) == Attention::Run).then(|| FirstToken {
            ms: milliseconds(self.step_time(fed)),
            seam_ms: milliseconds(fed.spent.seam),
            source: TtftSource::Cache,
            recorded_model_ms: None,
        })
    }

    fn step_time(&self, fed: Fed) -> Duration {
        fed.spent.cache + fed.spent.seam
    }

    fn warm_up(&self, tokens: usize) {
        /// More would take long and show nothing new.
        const MOST: usize = 512;
        let tokens = tokens.min(MOST);
        self.run(&Script::prefill(&[&vec![0; tokens]], tokens.max(1)), tokens);
    }

    fn warm_up_decoding(&self) {
        const STEPS: usize = 4;
        self.run(&Script::prefill(&[&[0]], 1).then(Script::decode(1, STEPS - 1)), STEPS);
    }
}

/// Whether queries meet the cache while rows of a prompt are fed. A prompt of one token is a step like the others.
fn of_prompt(script: &ScriptSpec, ttft: Ttft) -> Attention {
    if script.workload == Workload::Generate { Attention::Run } else { ttft.attention() }
}

impl Ttft {
    /// Whether queries meet the cache while a prompt is fed that no model computes.
    fn attention(self) -> Attention {
        match self {
            Ttft::Measured => Attention::Run,
            Ttft::LeftOut => Attention::Skipped,
        }
    }
}
