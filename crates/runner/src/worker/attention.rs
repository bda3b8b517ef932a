//! The worker that compares a cache's attention with dense attention, on rows: those of a recording, generated ones, and ones in
//! which needles are planted. No model is loaded.

use std::fmt::Display;

use kv_core::{CacheError, Geometry, KvCache, Registry, SeqId};
use kv_quality::{
    Accuracy, DenseReference, Evaluation, OutputError, PlantedPlan, PlantedRetrieval, Retained, Retrieval, RowErrors, evaluate,
};
use kv_report::{Part, Pass, Protocol, QualityPoint, Status, Visit};
use kv_script::{RowSource, chunks, step};

use super::channel::Channel;
use super::protocol::{AttentionTask, Work};
use super::{attention_of_prompt, caught};
use crate::Problem;
use crate::drivers::{CellRows, Generated};
use crate::recording::{Recording, exact_cache};

/// Steps that are compared.
const STEPS: usize = 8;
/// Positions with the largest weights that a cache should hold. The metric's meaning names it.
const TOP: usize = 32;

pub(super) fn run(registry: &Registry, task: &AttentionTask, channel: &Channel) -> Result<(), Problem> {
    let AttentionTask { geometry, recording, seed, .. } = task;
    let recording = recording.as_ref().map(|folder| Recording::of_worker(folder, geometry)).transpose()?;
    let generated = recording.is_none().then(|| Generated::new(geometry.clone(), *seed));
    let rows = CellRows { geometry: geometry.clone(), recording, generated };
    // The model's context limits a text, and not rows that are planted behind it.
    const QUESTIONS: usize = 64;
    let room = Geometry { context: geometry.context.max(task.tokens + QUESTIONS), ..geometry.clone() };
    let judge = Judge { registry, task, channel, rows, room };
    // On a thread of the pool, as everywhere else.
    let mut visit = Visit::passed(&task.instance.id, Pass::Attention);
    let compared = caught(|| rayon::scope(|_| judge.compare(&mut visit)));
    channel.visit(match compared {
        // What was compared counts, whatever becomes of the needles.
        Ok(()) => {
            if let Err(reason) = caught(|| rayon::scope(|_| judge.find_needles(&mut visit))) {
                visit.notes.push(format!("planted needles were not looked for: {reason}"));
            }
            visit
        }
        Err(reason) => Visit::failed(&task.instance.id, Pass::Attention, Status::Failed, &Work::CompareAttention.to_string(), &reason),
    });
    Ok(())
}

struct Judge<'a> {
    registry: &'a Registry,
    task: &'a AttentionTask,
    channel: &'a Channel,
    rows: CellRows,
    /// The shape, with room for questions after the cell's tokens.
    room: Geometry,
}

impl Judge<'_> {
    fn build(&self) -> Result<Box<dyn KvCache>, String> {
        self.task.instance.build(self.registry, &self.room)
    }

    /// Errors of the last steps' outputs and of the rows that are held, and the attention that falls on them.
    fn compare(&self, visit: &mut Visit) -> Result<(), String> {
        self.enter(Work::CompareAttention);
        let tokens = self.task.tokens;
        let steps = STEPS.min(tokens.saturating_sub(1));
        let mut rows = self.rows.clone();
        let reference = DenseReference::build(&mut rows, tokens).map_err(in_words)?;
        let mut cache = self.build()?;
        let seq = self.filled(cache.as_mut(), &mut rows, tokens - steps)?;
        let evaluation = evaluate(cache.as_mut(), seq, &mut rows, &reference, steps, TOP).map_err(in_words)?;
        add_evaluation(visit, &evaluation);
        Ok(())
    }

    /// Needles that are planted at known depths.
    fn find_needles(&self, visit: &mut Visit) -> Result<(), String> {
        self.enter(Work::FindNeedles);
        let plan = PlantedPlan::new(self.task.tokens, self.task.seed);
        let mut planted = match PlantedRetrieval::new(&self.room, plan) {
            Ok(planted) => planted,
            Err(reason) => {
                visit.notes.push(format!("no needles were planted: {reason}"));
                return Ok(());
            }
        };
        let (tokens, steps) = (planted.tokens(), planted.steps());
        let mut asked = |mut cache: Box<dyn KvCache>| -> Result<Retrieval, String> {
            let seq = self.filled(cache.as_mut(), &mut planted, tokens)?;
            planted.ask(cache.as_mut(), seq).map_err(in_words)
        };
        let dense = asked(exact_cache(&self.room, tokens + steps).map_err(|problem| problem.line())?)?;
        let found = asked(self.build()?)?;
        add_retrieval(visit, &found, &dense, &planted);
        Ok(())
    }

    /// Fills a cache with the first rows of a source.
    fn filled<S: RowSource<Error: Display>>(&self, cache: &mut dyn KvCache, rows: &mut S, tokens: usize) -> Result<SeqId, String> {
        let attention = attention_of_prompt(cache);
        let refused = |error: CacheError| error.to_string();
        let seq = cache.open().map_err(refused)?;
        for positions in chunks(0..tokens, self.task.chunk.max(1)) {
            self.channel.progress(positions.end, tokens);
            step(cache, rows, &[(seq, positions)], attention).map_err(in_words)?;
        }
        cache.prompt_end(seq).map_err(refused)?;
        Ok(seq)
    }

    fn enter(&self, work: Work) {
        self.channel.phase(Some(&self.task.instance.id), work);
    }
}

fn in_words(error: impl Display) -> String {
    error.to_string()
}

fn add_evaluation(visit: &mut Visit, evaluation: &Evaluation) {
    let OutputError { relative_l2, cosine, rows: outputs, .. } = evaluation.outputs.overall();
    let Retained { mass, top_k_recall, .. } = evaluation.retained.overall();
    let RowErrors { keys, values, .. } = evaluation.decoded.overall();
    for (id, value) in [
        ("attn_rel_l2", relative_l2),
        ("attn_cosine", cosine),
        ("key_rel_l2", keys),
        ("value_rel_l2", values),
        ("retained_mass", mass),
        ("topk_recall", top_k_recall),
    ] {
        visit.values.extend(value.map(|value| (id.to_owned(), value)));
    }
    let layers = evaluation.outputs.layers().len();
    for layer in 0..layers {
        let OutputError { relative_l2, .. } = evaluation.outputs.layers()[layer];
        let Retained { mass, .. } = evaluation.retained.layers()[layer];
        for (metric, value) in [("attn_rel_l2", relative_l2), ("retained_mass", mass)] {
            visit.quality.extend(value.map(|value| QualityPoint {
                protocol: Protocol::Rows,
                part: Part::Layer(layer),
                metric: metric.into(),
                value,
                interval: None,
                count: outputs / layers,
            }));
        }
    }
}

fn add_retrieval(visit: &mut Visit, found: &Retrieval, dense: &Retrieval, planted: &PlantedRetrieval) {
    let tightest = found.cells().iter().map(|cell| cell.margin).fold(f64::INFINITY, f64::min);
    let tight = found.of(|cell| matches!(cell.place, kv_quality::Place::Depth(_)) && cell.margin == tightest);
    let mut add = |id: &str, accuracy: Accuracy| {
        visit.values.extend(accuracy.share().map(|share| (id.to_owned(), share)));
        visit.intervals.extend(accuracy.interval().map(|interval| (id.to_owned(), interval)));
    };
    add("needle_acc", found.needle());
    add("needle_acc_dense", dense.needle());
    add("needle_acc_tight", tight);
    add("recency_acc", found.recency());
    if planted.finds_moved_starts() {
        add("start_acc", found.start());
    } else {
        visit.notes.push(
            "start_acc is left out: at this length the shape's rotation turns all channels so far that rows which are moved, as sinks are, cannot be found".into(),
        );
    }
    visit.values.insert("needle_chance".into(), planted.chance());
    let is_told = |cell: &&kv_quality::PlacedAccuracy| cell.place != kv_quality::Place::Start || planted.finds_moved_starts();
    for cell in found.cells().iter().filter(is_told) {
        let place = match cell.place {
            kv_quality::Place::Start => "start".to_owned(),
            kv_quality::Place::Depth(depth) => format!("depth {depth}"),
            kv_quality::Place::Recent => "recent".to_owned(),
        };
        visit.quality.extend(cell.accuracy.share().map(|share| QualityPoint {
            protocol: Protocol::Planted,
            part: Part::Place { place, margin: cell.margin },
            metric: "needle_acc".into(),
            value: share,
            interval: cell.accuracy.interval(),
            count: cell.accuracy.trials,
        }));
    }
}
