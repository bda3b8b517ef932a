//! What scripts are run on: a fresh cache, what feeds it, and an instrument.

use std::sync::Arc;
use std::time::Instant;

use kv_core::{Geometry, KvCache, PredictedBytes, Registry};
use kv_metrics::HeapMeter;
use kv_model::Decoder;
use kv_script::{Attention, Driver, Event, Input, Interpreter, Name, RowsDriver, ScriptError};

use super::refusal::{MayBeCaches, Refusal};
use crate::drivers::{CellRows, Keeps, ModelDriver};
use crate::footprint::{Answer, Footprint};
use crate::timed::Timed;
use crate::worker::protocol::{InstanceSpec, ScriptedTask};
use crate::worker::weighed::Weighed;
use crate::worker::{attention_of_prompt, milliseconds};

/// Where fresh caches come from.
pub(super) trait Host: Sync {
    /// What feeds them.
    type Driver: Driver<Error: MayBeCaches> + Answers;

    /// The strategies that there are.
    fn registry(&self) -> &Registry;

    /// The strategy of the caches, with its parameters.
    fn instance(&self) -> &InstanceSpec;

    /// The shape of the caches.
    fn geometry(&self) -> &Geometry;

    /// A fresh cache, with nothing in it.
    fn stage(&self) -> Result<Stage<'_, Self::Driver>, Refusal>;

    /// Tokens of the vocabulary that messages are drawn from.
    fn vocabulary(&self) -> usize;

    /// The embedding of a token, `[hidden]`. Empty without a model.
    fn embedding(&self, token: u32) -> Result<Arc<[f32]>, Refusal>;

    /// A cache of its own.
    fn cache(&self) -> Result<Box<dyn KvCache>, String> {
        self.instance().build(self.registry(), self.geometry())
    }

    /// Positions of the model.
    fn context(&self) -> usize {
        self.geometry().context
    }

    /// What the strategy's formula says of one sequence. `None` if no cache can be built.
    fn footprint(&self) -> Option<Footprint<'_>> {
        let InstanceSpec { strategy, config, .. } = self.instance();
        let entry = self.registry().get(strategy).ok()?;
        Footprint::of(*entry, config, self.geometry(), 1).ok()
    }

    /// Bytes of a cache of so many tokens by its strategy's formula, if it has one and the config makes room for them.
    fn predicted_bytes(&self, tokens: usize) -> Option<u64> {
        match self.footprint()?.answer(tokens) {
            Answer::Bytes(bytes) => Some(bytes.total() as u64),
            Answer::Uncountable | Answer::DoesNotSay | Answer::NoRoom { .. } => None,
        }
    }

    /// The same, and where the config makes no room for so many tokens, what their rows alone would take.
    fn needed_bytes(&self, tokens: usize) -> Option<u64> {
        let footprint = self.footprint()?;
        let Answer::NoRoom { most } = footprint.answer(tokens) else { return self.predicted_bytes(tokens) };
        let Answer::Bytes(PredictedBytes { payload, metadata, .. }) = footprint.answer(most) else { return None };
        let rows = (payload + metadata) as u128 * tokens as u128;
        u64::try_from(rows.checked_div(most as u128)?).ok()
    }

    /// What a sequence of so many tokens takes among many others by its strategy's formula, if it has one: what all of them share,
    /// as the unfilled end of a pool, counts next to nothing.
    fn predicted_among_many(&self, tokens: usize) -> Option<PredictedBytes> {
        const MANY: usize = 1 << 16;
        let InstanceSpec { strategy, config, .. } = self.instance();
        let entry = self.registry().get(strategy).ok()?;
        let PredictedBytes { payload, metadata, slack } = entry.predicted_bytes(config, self.geometry(), tokens, MANY).ok().flatten()?;
        Some(PredictedBytes { payload: payload / MANY, metadata: metadata / MANY, slack: slack / MANY })
    }
}

/// A driver that may know more of what follows than the next token.
pub(super) trait Answers {
    /// Asks for the logits after every fresh position of the steps that follow, or no longer.
    fn keep(&mut self, keeps: Keeps);

    /// Those of the last step: for each input `[fresh positions, vocabulary]`. Empty without a model.
    fn take_logits(&mut self) -> Vec<Vec<f32>>;
}

impl Answers for ModelDriver<'_> {
    fn keep(&mut self, keeps: Keeps) {
        self.keeps = keeps;
    }

    fn take_logits(&mut self) -> Vec<Vec<f32>> {
        ModelDriver::take_logits(self)
    }
}

impl Answers for RowsDriver<CellRows> {
    fn keep(&mut self, _: Keeps) {}

    fn take_logits(&mut self) -> Vec<Vec<f32>> {
        vec![]
    }
}

/// The model feeds the caches.
pub(super) struct ModelHost<'a> {
    pub(super) registry: &'a Registry,
    pub(super) instance: &'a InstanceSpec,
    pub(super) decoder: &'a Decoder,
}

impl<'a> Host for ModelHost<'a> {
    type Driver = ModelDriver<'a>;

    fn registry(&self) -> &Registry {
        self.registry
    }

    fn instance(&self) -> &InstanceSpec {
        self.instance
    }

    fn geometry(&self) -> &Geometry {
        &self.decoder.config().geometry
    }

    fn stage(&self) -> Result<Stage<'_, ModelDriver<'a>>, Refusal> {
        let instrument = Instrument::Clock(Box::new(Timed::new(self.cache()?)));
        Ok(Stage { instrument, interpreter: Interpreter::new(ModelDriver::new(self.decoder)) })
    }

    fn vocabulary(&self) -> usize {
        self.decoder.config().vocabulary
    }

    fn embedding(&self, token: u32) -> Result<Arc<[f32]>, Refusal> {
        Ok(self.decoder.embedding(token).map_err(|error| error.to_string())?.into())
    }
}

/// Rows of the model's shape feed the caches.
pub(super) struct RowsHost<'a> {
    registry: &'a Registry,
    instance: &'a InstanceSpec,
    rows: CellRows,
    /// Bytes are counted with it; times are taken without.
    meter: Option<&'a HeapMeter>,
}

impl<'a> RowsHost<'a> {
    /// Times are taken, with attention.
    pub(super) fn timed(registry: &'a Registry, task: &ScriptedTask, instance: &'a InstanceSpec) -> RowsHost<'a> {
        RowsHost { registry, instance, rows: CellRows::generated(task.geometry.clone(), task.script.seed), meter: None }
    }

    /// Bytes are counted.
    pub(super) fn weighed(registry: &'a Registry, task: &ScriptedTask, instance: &'a InstanceSpec, meter: &'a HeapMeter) -> RowsHost<'a> {
        RowsHost { meter: Some(meter), ..RowsHost::timed(registry, task, instance) }
    }
}

impl Host for RowsHost<'_> {
    type Driver = RowsDriver<CellRows>;

    fn registry(&self) -> &Registry {
        self.registry
    }

    fn instance(&self) -> &InstanceSpec {
        self.instance
    }

    fn geometry(&self) -> &Geometry {
        &self.rows.geometry
    }

    fn stage(&self) -> Result<Stage<'_, RowsDriver<CellRows>>, Refusal> {
        let before = self.meter.map_or(0, HeapMeter::own_bytes);
        let cache = self.cache()?;
        let built = self.meter.map_or(0, HeapMeter::own_bytes) - before;
        let attention = if self.meter.is_some() { attention_of_prompt(cache.as_ref()) } else { Attention::Run };
        let instrument = match self.meter {
            Some(meter) => Instrument::Scales { cache: Box::new(Weighed::new(cache, meter)), built },
            None => Instrument::Clock(Box::new(Timed::new(cache))),
        };
        Ok(Stage { instrument, interpreter: Interpreter::new(RowsDriver { source: self.rows.clone(), attention }) })
    }

    /// Rows do not depend on tokens.
    fn vocabulary(&self) -> usize {
        1 << 16
    }

    fn embedding(&self, _: u32) -> Result<Arc<[f32]>, Refusal> {
        Ok([].into())
    }
}

/// What stands between the script and the cache.
enum Instrument<'m> {
    Clock(Box<Timed>),
    Scales {
        cache: Box<Weighed<'m>>,
        /// Bytes that building it took.
        built: i64,
    },
}

impl Instrument<'_> {
    /// Does something with the cache, and says what it took.
    fn measured<T, E>(&mut self, work: impl FnOnce(&mut dyn KvCache) -> Result<T, E>) -> Result<(T, Took), E> {
        match self {
            Instrument::Clock(cache) => {
                cache.take_spent();
                let read = kv_kernels::read_bytes();
                let began = Instant::now();
                let answer = work(cache.as_mut())?;
                let elapsed = began.elapsed();
                let spent = cache.take_spent();
                let took = Took {
                    ms: milliseconds(elapsed),
                    cache_ms: milliseconds(spent.cache),
                    seam_ms: milliseconds(spent.seam),
                    read_bytes: kv_kernels::read_bytes() - read,
                };
                Ok((answer, took))
            }
            Instrument::Scales { cache, .. } => Ok((work(cache.as_mut())?, Took::default())),
        }
    }
}

/// A fresh cache and what feeds it.
pub(super) struct Stage<'m, D: Driver> {
    instrument: Instrument<'m>,
    interpreter: Interpreter<D>,
}

/// What events took: milliseconds, and bytes read. All 0 where the cache's bytes are counted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Took {
    /// All of it.
    pub(super) ms: f64,
    /// The cache's part.
    pub(super) cache_ms: f64,
    /// Copying rows on their way to it.
    pub(super) seam_ms: f64,
    /// Encoded bytes that attention read.
    pub(super) read_bytes: u64,
}

impl Took {
    /// The cache's part and the way to it alone, where rows are generated in between.
    pub(super) fn of_cache(self) -> Took {
        Took { ms: self.cache_ms + self.seam_ms, ..self }
    }

    /// A part of so many equal ones.
    pub(super) fn share(self, parts: usize) -> Took {
        let of = |ms: f64| ms / parts as f64;
        let Took { ms, cache_ms, seam_ms, read_bytes } = self;
        Took { ms: of(ms), cache_ms: of(cache_ms), seam_ms: of(seam_ms), read_bytes: read_bytes / parts as u64 }
    }
}

impl std::ops::AddAssign for Took {
    fn add_assign(&mut self, other: Took) {
        self.ms += other.ms;
        self.cache_ms += other.cache_ms;
        self.seam_ms += other.seam_ms;
        self.read_bytes += other.read_bytes;
    }
}

impl<D: Driver<Error: MayBeCaches> + Answers> Stage<'_, D> {
    /// Runs an event.
    pub(super) fn run(&mut self, event: &Event) -> Result<Took, Refusal> {
        let Stage { instrument, interpreter } = self;
        let ((), took) = instrument.measured(|cache| interpreter.run(cache, event))?;
        Ok(took)
    }

    /// Does with the cache what no event says.
    pub(super) fn call<T, E: MayBeCaches>(&mut self, work: impl FnOnce(&mut dyn KvCache) -> Result<T, E>) -> Result<(T, Took), Refusal> {
        Ok(self.instrument.measured(|cache| work(cache).map_err(ScriptError::Driver))?)
    }

    /// Opens a sequence.
    pub(super) fn open(&mut self, sequence: &Name) -> Result<Took, Refusal> {
        self.run(&Event::Open { sequence: sequence.clone() })
    }

    /// Feeds a sequence tokens in steps of `chunk`, or in one if the cache recomputes.
    pub(super) fn append(&mut self, sequence: &Name, tokens: &[u32], chunk: usize) -> Result<Took, Refusal> {
        let chunk = if self.cache().recomputes() { tokens.len() } else { chunk };
        let mut took = Took::default();
        for part in tokens.chunks(chunk.max(1)) {
            took += self.feed(sequence, part)?;
        }
        Ok(took)
    }

    /// Feeds a sequence tokens in one step.
    pub(super) fn feed(&mut self, sequence: &Name, tokens: &[u32]) -> Result<Took, Refusal> {
        self.give(sequence, Input::Tokens(tokens.to_vec()))
    }

    /// Feeds a sequence in one step.
    pub(super) fn give(&mut self, sequence: &Name, input: Input) -> Result<Took, Refusal> {
        self.run(&Event::Append { inputs: vec![(sequence.clone(), input)] })
    }

    /// The token that follows a sequence; 0 if nobody knows.
    pub(super) fn next_token(&self, sequence: &Name) -> u32 {
        self.interpreter.next_token(sequence).unwrap_or(0)
    }

    /// The driver.
    pub(super) fn driver(&mut self) -> &mut D {
        self.interpreter.driver()
    }

    /// The cache, for what it says of itself.
    pub(super) fn cache(&self) -> &dyn KvCache {
        match &self.instrument {
            Instrument::Clock(cache) => cache.as_ref(),
            Instrument::Scales { cache, .. } => cache.as_ref(),
        }
    }

    /// Live heap bytes of the cache, where they are counted.
    pub(super) fn heap_bytes(&self) -> Option<f64> {
        match &self.instrument {
            Instrument::Clock(_) => None,
            Instrument::Scales { cache, built } => Some((cache.held_bytes() + built) as f64),
        }
    }

    /// Whether times are taken.
    pub(super) fn is_timed(&self) -> bool {
        matches!(self.instrument, Instrument::Clock(_))
    }
}
