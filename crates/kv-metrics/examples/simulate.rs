//! Simulates thousands of runs from recorded step times: how often identical instances get a verdict that is false, and how
//! often a true difference is found.
//!
//! ```text
//! cargo run -p kv-metrics --example simulate -- tests/simulation/times.csv [RUNS]
//! ```
//!
//! The times are of identical instances (`tests/simulation/record`). A simulated run draws its launches from the recorded
//! ones of a length, deals their instances out anew, and judges a chart of seven instances at all recorded lengths as the
//! runner does, with the launches that are added where times spread. Bursts of load are laid over a part of the runs: for a
//! random stretch of turns everything takes longer.
#![expect(clippy::print_stdout, reason = "a program with a table as its output")]
#![expect(clippy::unwrap_used, reason = "a broken file ends the program")]

use std::collections::BTreeMap;

use kv_metrics::{Estimate, Judgement, Verdict, launch_observation, pool};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Instances of a chart, the baseline among them.
const INSTANCES: usize = 7;
const LAUNCHES: usize = 8;
const MORE: usize = 2;

/// `[instance][round]` times of a launch.
type Launch = Vec<Vec<f64>>;

/// The recorded launches of each length.
type Recorded = BTreeMap<usize, Vec<Launch>>;

/// What else the machine does.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    /// What it did when the times were recorded.
    AsRecorded,
    /// Bursts on top, in half of the runs.
    Bursts,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next() else {
        println!("usage: simulate TIMES.csv [RUNS]");
        return;
    };
    let runs: usize = arguments.next().map_or(2000, |runs| runs.parse().unwrap());
    let recorded = read(&path);
    let launches: Vec<String> = recorded.iter().map(|(length, launches)| format!("{} at {length}", launches.len())).collect();
    println!("recorded launches: {}; {runs} runs each", launches.join(", "));
    let mut random = ChaCha8Rng::seed_from_u64(1);

    println!("\nseven identical instances at {} lengths: share of runs with any false verdict", recorded.len());
    for (name, load) in [("as recorded", Load::AsRecorded), ("with bursts of load", Load::Bursts)] {
        let outcomes: Vec<Outcome> = (0..runs).map(|_| simulate(&recorded, load, 0.0, &mut random)).collect();
        let total = |of: fn(&Outcome) -> usize| outcomes.iter().map(of).sum::<usize>() as f64;
        let wrong = outcomes.iter().filter(|outcome| outcome.false_verdicts > 0).count();
        println!(
            "{name:>20}: {}, with {:.1} launches a length; {} of all verdicts are `same`",
            percent(wrong, runs),
            total(|outcome| outcome.launches) / (runs * recorded.len()) as f64,
            percent(total(|outcome| outcome.same) as usize, total(|outcome| outcome.all) as usize),
        );
        let old = (0..runs).filter(|_| one_after_the_other(&recorded, load, 0.0, &mut random).0).count();
        println!("{:>20}: {}, one visit per cell in the config's order, where 3 % are believed", "the old way", percent(old, runs));
    }

    println!("\none instance slower at all lengths: share of its comparisons found `slower`, and in the old way seen beyond 3 %");
    let fewer = runs.div_ceil(4);
    for effect in [0.02, 0.03, 0.05, 0.1] {
        let mut found = |load: Load| {
            let found: usize = (0..fewer).map(|_| simulate(&recorded, load, effect, &mut random).found).sum();
            percent(found, fewer * recorded.len())
        };
        let (quiet, loaded) = (found(Load::AsRecorded), found(Load::Bursts));
        let old: usize = (0..fewer).map(|_| one_after_the_other(&recorded, Load::AsRecorded, effect, &mut random).1).sum();
        println!("{:>18} %: {quiet}, with bursts {loaded}; the old way {}", 100.0 * effect, percent(old, fewer * recorded.len()));
    }
}

fn percent(part: usize, all: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / all.max(1) as f64)
}

/// What a simulated run came to.
struct Outcome {
    /// Verdicts of `faster` or `slower` between identical instances.
    false_verdicts: usize,
    /// Lengths at which the slower instance was found.
    found: usize,
    same: usize,
    all: usize,
    launches: usize,
}

/// A run as the runner makes it. The last instance is slower by `effect`.
fn simulate(recorded: &Recorded, load: Load, effect: f64, random: &mut ChaCha8Rng) -> Outcome {
    let judgement = Judgement::default();
    let is_loaded = load == Load::Bursts && random.random_bool(0.5);
    // The baseline's double is compared too.
    let compared = INSTANCES;
    let mut family = vec![];
    let mut launches = 0;
    for of_length in recorded.values() {
        let mut observed: Vec<Vec<f64>> = vec![vec![]; compared];
        let mut due = LAUNCHES;
        let pooled = loop {
            while observed[0].len() < due {
                let launch = dealt(of_length, is_loaded, effect, random);
                for (instance, observed) in launch[1..].iter().zip(&mut observed) {
                    let rounds: Vec<(f64, f64)> = instance.iter().copied().zip(launch[0].iter().copied()).collect();
                    observed.push(launch_observation(&rounds).unwrap());
                }
            }
            let pooled = pool(&observed).unwrap();
            if due >= 2 * LAUNCHES || !judgement.wants_more_launches(pooled, compared * recorded.len()) {
                break pooled;
            }
            due += MORE;
        };
        launches += due;
        family.extend(observed.iter().map(|observed| Estimate::new(observed, pooled)));
    }
    let verdicts: Vec<Verdict> = judgement.judge(&family).iter().map(|comparison| comparison.verdict).collect();
    let is_slowed = |index: usize| effect > 0.0 && index % compared == compared - 1;
    let claims = |verdict: Verdict| matches!(verdict, Verdict::Faster | Verdict::Slower);
    let indexed = || verdicts.iter().copied().enumerate();
    Outcome {
        false_verdicts: indexed().filter(|(index, verdict)| !is_slowed(*index) && claims(*verdict)).count(),
        found: indexed().filter(|(index, verdict)| is_slowed(*index) && *verdict == Verdict::Slower).count(),
        same: indexed().filter(|(_, verdict)| *verdict == Verdict::Same).count(),
        all: verdicts.len(),
        launches,
    }
}

/// A recorded launch whose instances are dealt out anew: the baseline first, then its double and the others.
fn dealt(of_length: &[Launch], is_loaded: bool, effect: f64, random: &mut ChaCha8Rng) -> Launch {
    let mut launch = of_length.choose(random).unwrap().clone();
    launch.shuffle(random);
    if is_loaded {
        burst(&mut launch, random);
    }
    launch.last_mut().unwrap().iter_mut().for_each(|time| *time *= 1.0 + effect);
    launch
}

/// Lays bursts of load over a launch: for a stretch of turns everything takes 1.2 to 3 times as long.
fn burst(launch: &mut Launch, random: &mut ChaCha8Rng) {
    // In every round the instances take their turns in another order.
    let mut turns: Vec<(usize, usize)> = vec![];
    for round in 0..launch[0].len() {
        let mut order: Vec<usize> = (0..launch.len()).collect();
        order.shuffle(random);
        turns.extend(order.into_iter().map(|instance| (instance, round)));
    }
    for _ in 0..random.random_range(0..4) {
        let start = random.random_range(0..turns.len());
        let length = random.random_range(1..=turns.len() / 2);
        let factor = random.random_range(1.2..3.0);
        for (instance, round) in turns.iter().skip(start).take(length) {
            launch[*instance][*round] *= factor;
        }
    }
}

/// As before there were rounds: each cell is timed once, one after the other, and differences beyond 3 % are believed. Each
/// instance gets the times of another launch, which followed in time. Answers whether identical ones differed, and at how
/// many lengths the slower one was seen.
fn one_after_the_other(recorded: &Recorded, load: Load, effect: f64, random: &mut ChaCha8Rng) -> (bool, usize) {
    let is_loaded = load == Load::Bursts && random.random_bool(0.5);
    let (mut differ, mut seen) = (false, 0);
    for of_length in recorded.values() {
        let first = random.random_range(0..of_length.len());
        let time = |index: usize, random: &mut ChaCha8Rng| {
            let mut launch = of_length[(first + index) % of_length.len()].clone();
            if is_loaded {
                burst(&mut launch, random);
            }
            kv_metrics::quantile(&launch[0], 0.5).unwrap()
        };
        let baseline = time(0, random);
        for index in 1..INSTANCES {
            let is_slowed = effect > 0.0 && index == INSTANCES - 1;
            let factor = if is_slowed { 1.0 + effect } else { 1.0 };
            let ratio = factor * time(index, random) / baseline;
            seen += usize::from(is_slowed && ratio > 1.03);
            differ |= !is_slowed && (ratio - 1.0).abs() > 0.03;
        }
    }
    (differ, seen)
}

fn read(path: &str) -> Recorded {
    let mut times: BTreeMap<usize, BTreeMap<usize, BTreeMap<String, Vec<f64>>>> = BTreeMap::new();
    for line in std::fs::read_to_string(path).unwrap().lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [length, launch, instance, _, ms] = fields[..] else { panic!("`{line}` has not five fields") };
        let of_launch = times.entry(length.parse().unwrap()).or_default().entry(launch.parse().unwrap()).or_default();
        of_launch.entry(instance.to_owned()).or_default().push(ms.parse().unwrap());
    }
    let launch = |instances: BTreeMap<String, Vec<f64>>| instances.into_values().collect::<Launch>();
    times.into_iter().map(|(length, launches)| (length, launches.into_values().map(launch).collect())).collect()
}
