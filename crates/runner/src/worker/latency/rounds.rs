//! The instances take turns: in each round every one takes a short burst of decode steps, in an order drawn at random.
//!
//! Timed one after the other, identical instances differ by what the machine did meanwhile. In turns they share it.

use std::time::Instant;

use kv_core::{Guarantee, KvCache};
use kv_metrics::first_steady_round;
use kv_report::{Fill, StepTime, Visit};
use kv_script::Script;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::feed::{Fed, Feed};
use super::{Block, Filled, run_event};
use crate::roofline::last_level_cache;
use crate::worker::disturbance::{Disturbance, Watch};
use crate::worker::protocol::Work;
use crate::worker::{caught, memory_bandwidth, milliseconds, on_the_pool};
use crate::workloads;

/// The phase of decode steps in samples.
const DECODE: &str = "decode";

/// An instance that takes its turns.
struct Player<'a, F: Feed> {
    filled: Filled<'a, F>,
    /// Steps taken.
    taken: usize,
    /// Encoded bytes that its attention read, and steps in which it did.
    read: (u64, usize),
    disturbance: Disturbance,
}

/// Lets all instances take their steps, and answers what became of each.
pub(super) fn run<F: Feed>(block: &Block<'_, F>, filled: Vec<Filled<'_, F>>, order: &mut ChaCha8Rng) -> Vec<Visit> {
    let steps = workloads::decode_steps(&block.task.script);
    let rounds = block.task.rounds.clamp(1, steps.max(1));
    let bandwidth = if filled.is_empty() { None } else { on_the_pool(memory_bandwidth::measure) };
    let mut players: Vec<Player<'_, F>> =
        filled.into_iter().map(|filled| Player { filled, taken: 0, read: (0, 0), disturbance: Disturbance::default() }).collect();
    let mut visits = vec![];
    for round in 0..rounds {
        let burst = share(steps, rounds, round);
        let mut turns: Vec<usize> = (0..players.len()).collect();
        turns.shuffle(order);
        let mut failed = vec![];
        for (turn, index) in turns.into_iter().enumerate() {
            let player = &mut players[index];
            player.filled.visit.turns.push(turn as u32);
            block.enter(player.filled.instance, Work::Decode);
            if let Err(failure) = caught(|| on_the_pool(|| player.burst(block, round, burst, steps))) {
                visits.push(block.failed(player.filled.instance, player.filled.role, &failure));
                failed.push(index);
            }
        }
        failed.sort_unstable();
        for index in failed.into_iter().rev() {
            players.remove(index);
        }
    }
    leave_transients_out(&mut players, rounds);
    visits.extend(players.into_iter().map(|player| player.finish(bandwidth)));
    visits
}

/// The part of so many steps that falls to a round.
fn share(steps: usize, rounds: usize, round: usize) -> usize {
    steps * (round + 1) / rounds - steps * round / rounds
}

/// Marks the steps before the times are steady.
fn leave_transients_out<F: Feed>(players: &mut [Player<'_, F>], rounds: usize) {
    let of_round = |player: &Player<'_, F>, round: usize| {
        let steps = player.filled.visit.steps.iter().filter(|step| step.phase == DECODE && !step.warm_up && step.round as usize == round);
        let times: Vec<f64> = steps.map(|step| step.step_ms).collect();
        kv_metrics::quantile(&times, 0.5)
    };
    let times: Vec<Vec<f64>> = (0..rounds).map(|round| players.iter().filter_map(|player| of_round(player, round)).collect()).collect();
    let steady = first_steady_round(&times);
    for step in players.iter_mut().flat_map(|player| &mut player.filled.visit.steps) {
        step.warm_up |= step.phase == DECODE && (step.round as usize) < steady;
    }
}

impl<F: Feed> Player<'_, F> {
    /// Takes the next steps. The first of several pays for what the instance before it left in the processor's caches.
    fn burst(&mut self, block: &Block<'_, F>, round: usize, burst: usize, all: usize) -> Result<(), String> {
        let script = &block.task.script;
        let prompt = workloads::prompt_len(script);
        let Filled { cache, interpreter, visit, .. } = &mut self.filled;
        let mut said = Instant::now();
        let watch = Watch::start();
        cache.take_spent();
        for (step, event) in Script::decode(script.batch, burst).events.iter().enumerate() {
            let read_before = kv_kernels::read_bytes();
            let began = Instant::now();
            run_event(interpreter, cache, event)?;
            let elapsed = began.elapsed();
            let spent = cache.take_spent();
            self.read = (self.read.0 + kv_kernels::read_bytes() - read_before, self.read.1 + 1);
            self.taken += 1;
            visit.steps.push(StepTime {
                phase: DECODE.into(),
                step: self.taken - 1,
                round: round as u32,
                warm_up: step == 0 && burst > 1,
                position: prompt + self.taken,
                step_ms: milliseconds(block.feed.step_time(Fed { elapsed, spent })),
                cache_ms: milliseconds(spent.cache),
                seam_ms: milliseconds(spent.seam),
            });
            block.say_progress(&mut said, self.taken, all);
        }
        self.disturbance.add(watch.stop());
        Ok(())
    }

    /// What the instance came to.
    fn finish(self, bandwidth: Option<f64>) -> Visit {
        let Player { filled, read: (read, steps), disturbance, .. } = self;
        let Filled { cache, mut visit, .. } = filled;
        let guarantee = cache.guarantee();
        if visit.fill == Some(Fill::Replay) && guarantee != Guarantee::Exact {
            // A real prefill computes later chunks from what the cache kept of earlier ones.
            visit.notes.push("filled with the rows of an exactly computed prompt".into());
        }
        visit.guarantee = Some(guarantee.to_string());
        let mut values = disturbance.values();
        values.extend(bandwidth.map(|bandwidth| ("read_bandwidth", bandwidth)));
        values.extend(last_level_cache().map(|bytes| ("last_level_cache_bytes", bytes as f64)));
        if bandwidth.is_none() {
            visit.notes.push("the read bandwidth is unknown: there was no memory left for a buffer to read".into());
        }
        if read > 0 && steps > 0 {
            values.push(("read_bytes", read as f64 / steps as f64));
        } else {
            visit.notes.push("read_bytes is unknown: the cache does not attend with kvlab's kernels".into());
        }
        visit.values.extend(values.into_iter().map(|(id, value)| (id.to_owned(), value)));
        visit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_share_the_steps() {
        for (steps, rounds) in [(32, 5), (4, 2), (7, 7), (1, 1), (0, 1)] {
            let shares: Vec<usize> = (0..rounds).map(|round| share(steps, rounds, round)).collect();
            assert_eq!(shares.iter().sum::<usize>(), steps);
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        }
    }
}
