//! From timed steps to paired observations: one per launch and instance.

use std::collections::{BTreeMap, BTreeSet};

use kv_metrics::{Estimate, Pooled, launch_observation, pool, quantile};
use kv_report::{Level, Pass, RunRecord, Status, StepTime, Visit};

/// A part of a step's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// All of it.
    Step,
    /// The cache's.
    Cache,
    /// The model's: the same work whatever the cache is.
    Model,
}

impl Part {
    const ALL: [Part; 3] = [Part::Step, Part::Cache, Part::Model];

    /// The parts of a run's steps: without a model, there is none of its own.
    pub(crate) fn of_run(run: &RunRecord) -> impl Iterator<Item = Part> {
        let has_model = run.level == Level::Model;
        Part::ALL.into_iter().filter(move |part| has_model || *part != Part::Model)
    }

    pub(crate) fn of(self, step: &StepTime) -> f64 {
        match self {
            Part::Step => step.step_ms,
            Part::Cache => step.cache_ms,
            Part::Model => step.step_ms - step.cache_ms - step.seam_ms,
        }
    }

    /// The median of a launch's steps that count, in milliseconds.
    pub(crate) fn median(self, visit: &Visit) -> Option<f64> {
        quantile(&steady_steps(visit).map(|step| self.of(step)).collect::<Vec<_>>(), 0.5)
    }
}

/// The latency visits of a comparison block.
pub(crate) struct BlockVisits<'a> {
    baseline: &'a str,
    visits: Vec<&'a Visit>,
}

/// An instance of a block: a cell, or the baseline's double.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Instance {
    Control,
    Cell(String),
}

/// What the launches of a block say of its instances, each compared with the baseline.
pub(crate) struct Observations {
    /// For each instance the logarithms of its ratios, in the order of the launches.
    pub(crate) of: BTreeMap<Instance, Vec<f64>>,
    pub(crate) pooled: Option<Pooled>,
}

/// Above this share of waiting for a processor, or of time that the host gave to others, a launch is disturbed.
pub(crate) const MOST_DISTURBED: f64 = 0.05;

/// Above this number of pages that an instance's steps read from a disk, a launch is disturbed.
const MOST_READ_PAGES: f64 = 100.0;

impl<'a> BlockVisits<'a> {
    /// Those of the block with this name and this baseline.
    pub(crate) fn new(block: &str, baseline: &'a str, visits: &'a [Visit]) -> BlockVisits<'a> {
        let is_of_block = |visit: &&Visit| {
            visit.pass == Pass::Latency && visit.status == Status::Ok && visit.block.as_deref() == Some(block) && visit.process.is_some()
        };
        BlockVisits { baseline, visits: visits.iter().filter(is_of_block).collect() }
    }

    /// The launches in which the baseline was timed.
    pub(crate) fn launches(&self) -> BTreeSet<u32> {
        self.visits.iter().filter(|visit| self.is_baseline(visit)).map(|visit| visit.launch).collect()
    }

    /// The launches in which the machine did much else.
    pub(crate) fn disturbed(&self) -> BTreeSet<u32> {
        let of_launch = |launch: u32| self.visits.iter().copied().filter(move |visit| visit.launch == launch);
        self.launches().into_iter().filter(|launch| is_disturbed(&of_launch(*launch).collect::<Vec<_>>())).collect()
    }

    /// The launches that count: those that were not disturbed, or all if less than half, or fewer than three, are left.
    pub(crate) fn counted(&self) -> BTreeSet<u32> {
        without(self.launches(), &self.disturbed())
    }

    /// The observations of these launches. An instance that was not timed beside the baseline in each of them has none.
    pub(crate) fn observations(&self, part: Part, launches: &BTreeSet<u32>) -> Observations {
        let instances: BTreeSet<Instance> =
            self.visits.iter().filter(|visit| !self.is_baseline(visit)).map(|visit| instance(visit)).collect();
        let of_instance =
            |wanted: &Instance| launches.iter().map(|launch| self.observation(wanted, *launch, part)).collect::<Option<Vec<f64>>>();
        let of: BTreeMap<Instance, Vec<f64>> =
            instances.into_iter().filter_map(|wanted| of_instance(&wanted).map(|observed| (wanted, observed))).collect();
        let pooled = pool(&of.values().cloned().collect::<Vec<_>>());
        Observations { of, pooled }
    }

    fn observation(&self, wanted: &Instance, launch: u32, part: Part) -> Option<f64> {
        let visit = self.visits.iter().rfind(|visit| visit.launch == launch && !self.is_baseline(visit) && instance(visit) == *wanted)?;
        // Only within a process.
        let baseline =
            self.visits.iter().rfind(|other| self.is_baseline(other) && other.launch == launch && other.process == visit.process)?;
        let (own, others) = (by_round(visit, part), by_round(baseline, part));
        let pairs: Vec<(f64, f64)> = own.iter().filter_map(|(round, time)| Some((*time, *others.get(round)?))).collect();
        launch_observation(&pairs).filter(|observed| observed.is_finite())
    }

    fn is_baseline(&self, visit: &Visit) -> bool {
        visit.cell == self.baseline && !visit.control
    }
}

impl Observations {
    /// The geometric mean of an instance's ratios.
    pub(crate) fn ratio(&self, instance: &Instance) -> Option<f64> {
        let logarithms = self.of.get(instance)?;
        (!logarithms.is_empty()).then(|| (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp())
    }

    /// The estimate of an instance, if there are launches enough to pool.
    pub(crate) fn estimate(&self, instance: &Instance) -> Option<Estimate> {
        Some(Estimate::new(self.of.get(instance)?, self.pooled?))
    }
}

/// Whether the machine did much else during these visits of one launch.
pub(super) fn is_disturbed(visits: &[&Visit]) -> bool {
    let mean = |id: &str| visits.iter().map(|visit| visit.values.get(id).copied().unwrap_or(0.0)).sum::<f64>() / visits.len().max(1) as f64;
    mean("run_delay_share").max(mean("steal_share")) > MOST_DISTURBED || mean("major_page_faults") > MOST_READ_PAGES
}

/// The launches that were not disturbed, or all if less than half, or fewer than three, are left.
pub(super) fn without(all: BTreeSet<u32>, disturbed: &BTreeSet<u32>) -> BTreeSet<u32> {
    let quiet: BTreeSet<u32> = all.difference(disturbed).copied().collect();
    if quiet.len() >= kv_metrics::LEAST_LAUNCHES.max(all.len().div_ceil(2)) { quiet } else { all }
}

/// Which instance a visit is of.
pub(super) fn instance(visit: &Visit) -> Instance {
    if visit.control { Instance::Control } else { Instance::Cell(visit.cell.clone()) }
}

/// The median of each round's steps.
fn by_round(visit: &Visit, part: Part) -> BTreeMap<u32, f64> {
    let mut rounds: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for step in steady_steps(visit) {
        rounds.entry(step.round).or_default().push(part.of(step));
    }
    rounds.into_iter().filter_map(|(round, times)| Some((round, quantile(&times, 0.5)?))).collect()
}

/// The decode steps that count.
pub(crate) fn steady_steps(visit: &Visit) -> impl Iterator<Item = &StepTime> {
    visit.steps.iter().filter(|step| step.phase == "decode" && !step.warm_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A visit of two rounds, whose steps take `ms`, and three times as long in the second round.
    fn visit(cell: &str, launch: u32, process: u32, ms: f64) -> Visit {
        let step = |round: u32, step: usize, warm_up| StepTime {
            phase: "decode".into(),
            step,
            round,
            warm_up,
            position: 9 + step,
            step_ms: if warm_up { 99.0 } else { ms * f64::from(1 + 2 * round) },
            cache_ms: ms / 4.0,
            seam_ms: 0.0,
        };
        Visit {
            block: Some("block".into()),
            launch,
            process: Some(process),
            steps: vec![step(0, 0, true), step(0, 1, false), step(1, 2, true), step(1, 3, false)],
            ..Visit::passed(cell, Pass::Latency)
        }
    }

    fn control(launch: u32, process: u32, ms: f64) -> Visit {
        Visit { control: true, ..visit("base", launch, process, ms) }
    }

    fn ratios(visits: &[Visit], instance: &Instance) -> Option<Vec<f64>> {
        let of_block = BlockVisits::new("block", "base", visits);
        let observations = of_block.observations(Part::Step, &of_block.counted());
        observations.of.get(instance).map(|logarithms| logarithms.iter().map(|logarithm| logarithm.exp()).collect())
    }

    fn cell(id: &str) -> Instance {
        Instance::Cell(id.into())
    }

    fn close(found: Option<Vec<f64>>, expected: &[f64]) {
        let found = found.unwrap();
        assert!(found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}");
    }

    #[test]
    fn times_are_paired_by_round_within_a_launch() {
        // The second launch is slower for all.
        let visits = [
            visit("base", 0, 1, 1.0),
            visit("a", 0, 1, 1.5),
            control(0, 1, 1.0),
            visit("a", 1, 2, 6.0),
            visit("base", 1, 2, 4.0),
            control(1, 2, 4.2),
        ];
        close(ratios(&visits, &cell("a")), &[1.5, 1.5]);
        close(ratios(&visits, &Instance::Control), &[1.0, 1.05]);
        assert_eq!(ratios(&visits, &cell("base")), None, "the baseline is compared with nothing");
        let other = [Visit { block: Some("another".into()), ..visit("b", 0, 1, 1.0) }];
        assert_eq!(ratios(&[visits.as_slice(), &other].concat(), &cell("b")), None);
    }

    /// A run that was killed in the middle of a launch: what was missing was timed later, beside the baseline again.
    #[test]
    fn times_are_paired_within_a_process() {
        let first = [visit("base", 0, 1, 1.0), visit("a", 0, 1, 1.5)];
        let alone = visit("b", 0, 2, 8.0);
        let partly = [first.as_slice(), std::slice::from_ref(&alone)].concat();
        assert_eq!(ratios(&partly, &cell("b")), None, "another process is another placement");
        let again = [partly.as_slice(), &[visit("base", 0, 2, 4.0)]].concat();
        close(ratios(&again, &cell("b")), &[2.0]);
        close(ratios(&again, &cell("a")), &[1.5]);
    }

    #[test]
    fn disturbed_launches_do_not_count_if_there_are_enough_others() {
        let launch = |launch: u32, share: f64, ratio: f64| {
            let with = |visit: Visit| Visit { values: [("run_delay_share".to_owned(), share)].into(), ..visit };
            [with(visit("base", launch, launch, 1.0)), with(visit("a", launch, launch, ratio))]
        };
        let visits: Vec<Visit> = [launch(0, 0.0, 1.5), launch(1, 0.5, 9.0), launch(2, 0.01, 1.5), launch(3, 0.0, 1.5)].concat();
        let of_block = BlockVisits::new("block", "base", &visits);
        assert_eq!((of_block.disturbed(), of_block.counted()), ([1].into(), [0, 2, 3].into()));
        close(ratios(&visits, &cell("a")), &[1.5; 3]);
        close(ratios(&visits[..6], &cell("a")), &[1.5, 9.0, 1.5]);
    }

    #[test]
    fn an_instance_that_missed_a_launch_is_not_compared() {
        let visits = [visit("base", 0, 1, 1.0), visit("a", 0, 1, 1.5), visit("base", 1, 2, 1.0)];
        assert_eq!(ratios(&visits, &cell("a")), None);
    }
}
