//! The worker that compares a cache's attention with dense attention, on rows: those of a recording, generated ones, and ones in
//! which needles are planted. No model is loaded.

use std::fmt::Display;

use kv_core::{CacheError, Geometry, KvCache, Registry, SeqId};
use kv_quality::{
    Accuracy, AttentionStatistics, AttentionSummary, DenseReference, Estimate, Evaluation, PlantedPlan, PlantedRetrieval, Retrieval,
    evaluate,
};
use kv_report::{Part, Pass, Protocol, QualityPoint, Status, Visit};
use kv_script::{RowSource, chunks, step};

use super::channel::Channel;
use super::protocol::{AttentionTask, ExactAnswers, Sequences, Work};
use super::{attention_of_prompt, caught};
use crate::Problem;
use crate::drivers::CellRows;
use crate::recording::{Recording, exact_cache};

/// Steps of each sequence that are compared.
const STEPS: usize = 8;
/// Positions with the largest weights that a cache should hold. The metric's meaning names it.
const TOP: usize = 32;

pub(super) fn run(registry: &Registry, task: &AttentionTask, channel: &Channel) -> Result<(), Problem> {
    let AttentionTask { geometry, seed, .. } = task;
    let recorded = |recording| CellRows { geometry: geometry.clone(), recording: Some(recording), generated: None };
    let sequences: Vec<CellRows> = match &task.sequences {
        Sequences::Recorded(folders) => {
            let opened = folders.iter().map(|folder| Ok(recorded(Recording::of_worker(folder, geometry)?)));
            opened.collect::<Result<_, Problem>>()?
        }
        Sequences::Generated(count) => (0..*count).map(|index| CellRows::generated(geometry.clone(), seed.wrapping_add(index))).collect(),
    };
    // The model's context limits a text, and not rows that are planted behind it.
    const QUESTIONS: usize = 64;
    let room = Geometry { context: geometry.context.max(task.tokens + QUESTIONS), ..geometry.clone() };
    let judge = Judge { registry, task, channel, sequences, room };
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
    sequences: Vec<CellRows>,
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
        let evaluations = self.sequences.iter().map(|rows| self.evaluate(rows.clone())).collect::<Result<Vec<_>, _>>()?;
        add_summary(visit, &AttentionSummary::of(&evaluations));
        Ok(())
    }

    fn evaluate(&self, mut rows: CellRows) -> Result<Evaluation, String> {
        let tokens = self.task.tokens;
        let steps = STEPS.min(tokens.saturating_sub(1));
        let reference = DenseReference::build(&mut rows, tokens).map_err(in_words)?;
        let mut cache = self.build()?;
        let seq = self.filled(cache.as_mut(), &mut rows, tokens - steps)?;
        evaluate(cache.as_mut(), seq, &mut rows, &reference, steps, TOP).map_err(in_words)
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
        let exact = match self.task.exact_answers {
            Some(answers) => answers,
            None => {
                let dense = asked(exact_cache(&self.room, tokens + steps).map_err(|problem| problem.line())?)?.needle();
                ExactAnswers { share: dense.share().ok_or("no needle was asked for")?, interval: dense.interval() }
            }
        };
        visit.values.insert("needle_acc_dense".into(), exact.share);
        visit.intervals.extend(exact.interval.map(|interval| ("needle_acc_dense".to_owned(), interval)));
        let found = asked(self.build()?)?;
        add_retrieval(visit, &found, &planted);
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

/// Every number of some layers, under the id of its metric.
fn numbers(of: &AttentionStatistics) -> impl Iterator<Item = (&'static str, Estimate)> {
    let all = [
        ("attn_rel_l2", of.relative_l2),
        ("attn_cosine", of.cosine),
        ("key_rel_l2", of.keys),
        ("value_rel_l2", of.values),
        ("retained_mass", of.mass),
        ("topk_recall", of.top_k_recall),
    ];
    all.into_iter().filter_map(|(id, estimate)| Some((id, estimate?)))
}

fn add_summary(visit: &mut Visit, AttentionSummary { overall, layers }: &AttentionSummary) {
    for (id, Estimate { value, interval, .. }) in numbers(overall) {
        visit.values.insert(id.to_owned(), value);
        visit.intervals.extend(interval.map(|interval| (id.to_owned(), interval)));
    }
    for (layer, statistics) in layers.iter().enumerate() {
        visit.quality.extend(numbers(statistics).map(|(metric, Estimate { value, interval, .. })| QualityPoint {
            protocol: Protocol::Rows,
            part: Part::Layer(layer),
            metric: metric.into(),
            value,
            interval,
            count: statistics.outputs,
        }));
    }
}

fn add_retrieval(visit: &mut Visit, found: &Retrieval, planted: &PlantedRetrieval) {
    let tightest = found.cells().iter().map(|cell| cell.margin).fold(f64::INFINITY, f64::min);
    let tight = found.of(|cell| matches!(cell.place, kv_quality::Place::Depth(_)) && cell.margin == tightest);
    let mut add = |id: &str, accuracy: Accuracy| {
        visit.values.extend(accuracy.share().map(|share| (id.to_owned(), share)));
        visit.intervals.extend(accuracy.interval().map(|interval| (id.to_owned(), interval)));
    };
    add("needle_acc", found.needle());
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
