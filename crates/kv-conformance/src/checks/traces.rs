//! Checks over whole runs.

use std::collections::{BTreeMap, BTreeSet};

use kv_core::{CacheError, Geometry, Guarantee, KvCache, SeqId};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRng, TestRunner};

use super::TOLERANCE;
use super::lifecycle::snapshot;
use crate::driver::{difference, token};
use crate::failure::ensure;
use crate::{Failure, Outcome, Subject, Text, Verdict, step};

/// The same run gives the same bits, positions and bytes.
///
/// # Errors
/// A failure says what differs.
pub fn runs_are_reproducible(subject: &Subject) -> Outcome {
    let text = Text::new(subject.geometry(), 50, 60);
    let run = || -> Result<_, Failure> {
        let mut cache = subject.build()?;
        let seq = cache.open()?;
        let mut outputs = vec![];
        for (start, end) in [(0, 20), (20, 21), (21, 22), (22, 55), (55, 60)] {
            outputs.extend(step(cache.as_mut(), seq, &text, start..end)?);
        }
        Ok((outputs, snapshot(cache.as_ref(), seq, &text)?, cache.usage()))
    };
    let (first, second) = (run()?, run()?);
    let mend = "seed random numbers, and sum in a fixed order";
    ensure!(first.1 == second.1, mend, "two equal runs hold different rows");
    ensure!(first.2 == second.2, mend, "two equal runs report {:?} and {:?}", first.2, second.2);
    ensure!(first.0 == second.0, mend, "two equal runs return different bits");
    Ok(Verdict::Passed)
}

/// An operation on a cache. The numbers select among the possible arguments.
#[derive(Debug, Clone)]
enum Operation {
    Open,
    Close(usize),
    Step(usize, usize),
    Abandon(usize),
    PromptEnd(usize),
    Fork(usize),
    Truncate(usize, usize),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        1 => Just(Operation::Open),
        1 => any::<usize>().prop_map(Operation::Close),
        6 => (any::<usize>(), 1usize..24).prop_map(|(seq, tokens)| Operation::Step(seq, tokens)),
        1 => any::<usize>().prop_map(Operation::Abandon),
        1 => any::<usize>().prop_map(Operation::PromptEnd),
        2 => any::<usize>().prop_map(Operation::Fork),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(seq, len)| Operation::Truncate(seq, len)),
    ];
    prop::collection::vec(operation, 1..30)
}

/// Random sequences of open, step, fork, truncate and close agree with a simple model: one list of tokens per sequence.
///
/// # Errors
/// A failure gives the shortest sequence of operations that still fails.
pub fn random_traces_agree_with_a_model(subject: &Subject) -> Outcome {
    let config = Config { cases: 24, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let outcome = runner.run(&operations(), |operations| {
        Model::new(subject)
            .and_then(|mut model| operations.iter().try_for_each(|operation| model.apply(operation)))
            .map_err(|failure| TestCaseError::fail(failure.what))
    });
    match outcome {
        Ok(()) => Ok(Verdict::Passed),
        Err(TestError::Fail(reason, operations)) => Err(Failure::new(
            format!("{reason}; shortest trace: {operations:?}"),
            "replay the trace; the last operation shows what an earlier one broke",
        )),
        Err(TestError::Abort(reason)) => {
            Err(Failure::new(format!("the trace was rejected: {reason}"), "report this as a bug of the suite: a trace is never rejected"))
        }
    }
}

struct Model {
    geometry: Geometry,
    cache: Box<dyn KvCache>,
    sequences: BTreeMap<SeqId, Text>,
    /// Sequences whose last step was begun and not finished.
    in_step: BTreeSet<SeqId>,
    next_seed: u64,
}

impl Model {
    fn new(subject: &Subject) -> Result<Model, Failure> {
        let (geometry, cache) = (subject.geometry().clone(), subject.build()?);
        Ok(Model { geometry, cache, sequences: BTreeMap::new(), in_step: BTreeSet::new(), next_seed: 60 })
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), Failure> {
        let chosen = |index: usize| self.sequences.keys().nth(index % self.sequences.len().max(1)).copied();
        match *operation {
            Operation::Open => {
                let seq = self.cache.open()?;
                let new = self.sequences.insert(seq, Text::new(&self.geometry, 0, 0)).is_none();
                ensure!(new, "count ids upwards", "`open` returned {seq}, which is already open");
            }
            Operation::Close(index) => {
                if let Some(seq) = chosen(index) {
                    self.cache.close(seq)?;
                    self.sequences.remove(&seq);
                }
            }
            Operation::Step(index, tokens) => {
                if let Some(seq) = chosen(index) {
                    self.step(seq, tokens)?;
                }
            }
            Operation::Abandon(index) => {
                if let Some(seq) = chosen(index) {
                    let seen = self.cache.seen(seq)?;
                    match self.cache.begin(seq, seen..seen + 3) {
                        Ok(_) => {
                            self.in_step.insert(seq);
                        }
                        Err(CacheError::Full { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            // Between steps: what an abandoned one becomes then, no contract says.
            Operation::PromptEnd(index) => {
                if let Some(seq) = chosen(index).filter(|seq| !self.in_step.contains(seq)) {
                    self.cache.prompt_end(seq)?;
                }
            }
            Operation::Fork(index) => {
                if let Some(seq) = chosen(index) {
                    match self.cache.fork(seq) {
                        Ok(fork) => {
                            let text = self.sequences[&seq].clone();
                            self.sequences.insert(fork, text);
                        }
                        Err(CacheError::Unsupported { .. } | CacheError::Full { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            Operation::Truncate(index, len) => {
                if let Some(seq) = chosen(index) {
                    let len = len % (self.sequences[&seq].tokens.len() + 1);
                    match self.cache.truncate(seq, len) {
                        Ok(()) => {
                            self.sequences.get_mut(&seq).expect("it is open").tokens.truncate(len);
                            self.in_step.remove(&seq);
                        }
                        Err(CacheError::Unsupported { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        self.check()
    }

    fn step(&mut self, seq: SeqId, tokens: usize) -> Result<(), Failure> {
        self.next_seed += 1;
        let seen = self.sequences[&seq].tokens.len();
        let mut text = self.sequences[&seq].clone();
        text.tokens.extend(Text::new(&self.geometry, self.next_seed, tokens).tokens);
        let outputs = match step(self.cache.as_mut(), seq, &text, seen..seen + tokens) {
            Ok(outputs) => {
                self.in_step.remove(&seq);
                outputs
            }
            Err(CacheError::Full { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if self.cache.guarantee() == Guarantee::Exact {
            let last = seen + tokens - 1;
            let all: Vec<usize> = (0..=last).collect();
            for (layer, out) in outputs.iter().enumerate() {
                let error = difference(token(out, tokens - 1), text.oracle(layer, last, &all).values());
                ensure!(error <= TOLERANCE, "", "{seq} at position {last} in layer {layer} differs from recomputation by {error}");
            }
        }
        self.sequences.insert(seq, text);
        Ok(())
    }

    /// Each sequence holds a subset of the model's tokens, with the right values.
    fn check(&self) -> Result<(), Failure> {
        let guarantee = self.cache.guarantee();
        let usage = self.cache.usage();
        let all: usize = self.sequences.values().map(|text| text.tokens.len()).sum();
        ensure!(usage.seen_tokens == all, "", "the open sequences have {all} tokens, but {} are reported", usage.seen_tokens);
        for (seq, text) in &self.sequences {
            let seen = self.cache.seen(*seq)?;
            ensure!(seen == text.tokens.len(), "", "{seq} reports {seen} seen tokens instead of {}", text.tokens.len());
            let layer = text.geometry.layers - 1;
            let view = self.cache.view(*seq, layer, 1)?;
            let mut positions = view.positions.clone();
            positions.sort_unstable();
            positions.dedup();
            ensure!(positions.len() == view.positions.len(), "", "{seq} holds a position twice: {:?}", view.positions);
            // A step that was begun may show rows or not; one that recomputes holds none.
            let keeps_all = !matches!(guarantee, Guarantee::Evicts(_)) && !self.cache.recomputes() && !self.in_step.contains(seq);
            ensure!(!keeps_all || positions.len() == seen, "", "{seq} holds {} of {seen} tokens", positions.len());
            let last = positions.last().copied();
            ensure!(last.is_none_or(|last| last < seen), "", "{seq} holds position {last:?}, but has only {seen} tokens");
            let bound = match guarantee {
                Guarantee::Lossy(bound) | Guarantee::Evicts(Some(bound)) => bound.values,
                _ => 0.0,
            };
            let error = difference(&view.values, &text.view(layer, 1, &view.positions).values);
            ensure!(error <= bound * 1.01, "", "{seq} holds values that differ from the appended ones by {error}");
        }
        Ok(())
    }
}
