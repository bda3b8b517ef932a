//! From the launches of two builds to paired observations: in each launch, workers of both builds time the same instances, one
//! after the other.

use std::collections::{BTreeMap, BTreeSet};

use kv_metrics::{Estimate, Pooled, pool};
use kv_report::{Pass, Status, Visit};

use super::observations::{Instance, Part, instance, is_disturbed, without};

/// The latency visits of a comparison block, of both builds.
pub(crate) struct Pairs<'a> {
    own: Vec<&'a Visit>,
    other: Vec<&'a Visit>,
}

/// What the launches say of each instance: the logarithms of this build's time over the other's, in the order of the launches.
pub(crate) struct PairedObservations {
    pub(crate) of: BTreeMap<Instance, Vec<f64>>,
    /// The times of the other build and of this one: geometric means over the launches, in milliseconds.
    pub(crate) ms: BTreeMap<Instance, (f64, f64)>,
    pub(crate) pooled: Option<Pooled>,
}

impl<'a> Pairs<'a> {
    /// Those of the block with this name.
    pub(crate) fn new(block: &str, own: &'a [Visit], other: &'a [Visit]) -> Pairs<'a> {
        let of_block = |visits: &'a [Visit]| {
            let is_of_block =
                |visit: &&Visit| visit.pass == Pass::Latency && visit.status == Status::Ok && visit.block.as_deref() == Some(block);
            visits.iter().filter(is_of_block).collect()
        };
        Pairs { own: of_block(own), other: of_block(other) }
    }

    /// The launches of both builds.
    pub(crate) fn launches(&self) -> BTreeSet<u32> {
        let of = |visits: &[&Visit]| -> BTreeSet<u32> { visits.iter().map(|visit| visit.launch).collect() };
        of(&self.own).intersection(&of(&self.other)).copied().collect()
    }

    /// The launches in which the machine did much else while one of the builds was timed.
    pub(crate) fn disturbed(&self) -> BTreeSet<u32> {
        let of = |visits: &[&'a Visit], launch: u32| visits.iter().copied().filter(|visit| visit.launch == launch).collect::<Vec<_>>();
        let is_one = |launch: &u32| is_disturbed(&of(&self.own, *launch)) || is_disturbed(&of(&self.other, *launch));
        self.launches().into_iter().filter(is_one).collect()
    }

    /// The launches that count: those in which neither build was disturbed, or all if too few are left.
    pub(crate) fn counted(&self) -> BTreeSet<u32> {
        without(self.launches(), &self.disturbed())
    }

    /// The observations of these launches. An instance that one of the builds did not time in each of them has none.
    pub(crate) fn observations(&self, launches: &BTreeSet<u32>, time: impl Fn(&Visit) -> Option<f64>) -> PairedObservations {
        let instances: BTreeSet<Instance> = self.own.iter().map(|visit| instance(visit)).collect();
        let of_build = |visits: &[&Visit], wanted: &Instance, launch: u32| {
            time(visits.iter().find(|visit| visit.launch == launch && instance(visit) == *wanted)?)
        };
        let pair = |wanted: &Instance, launch: u32| {
            let logarithms = (of_build(&self.other, wanted, launch)?.ln(), of_build(&self.own, wanted, launch)?.ln());
            Some(logarithms).filter(|(other, own)| other.is_finite() && own.is_finite())
        };
        let of_instance = |wanted: &Instance| launches.iter().map(|launch| pair(wanted, *launch)).collect::<Option<Vec<(f64, f64)>>>();
        let mut observed = PairedObservations { of: BTreeMap::new(), ms: BTreeMap::new(), pooled: None };
        for wanted in instances {
            let Some(pairs) = of_instance(&wanted).filter(|pairs| !pairs.is_empty()) else { continue };
            let mean = |side: fn(&(f64, f64)) -> f64| (pairs.iter().map(side).sum::<f64>() / pairs.len() as f64).exp();
            observed.ms.insert(wanted.clone(), (mean(|pair| pair.0), mean(|pair| pair.1)));
            observed.of.insert(wanted, pairs.into_iter().map(|(other, own)| own - other).collect());
        }
        observed.pooled = pool(&observed.of.values().cloned().collect::<Vec<_>>());
        observed
    }

    /// The observations of a part of the steps.
    pub(crate) fn of_part(&self, part: Part, launches: &BTreeSet<u32>) -> PairedObservations {
        self.observations(launches, |visit| part.median(visit))
    }
}

impl PairedObservations {
    /// The mean logarithm of an instance's ratios.
    pub(crate) fn mean(&self, instance: &Instance) -> Option<f64> {
        let logarithms = self.of.get(instance)?;
        Some(logarithms.iter().sum::<f64>() / logarithms.len() as f64)
    }

    /// The estimate of an instance, if there are launches enough for a verdict.
    pub(crate) fn estimate(&self, instance: &Instance) -> Option<Estimate> {
        let pooled = self.pooled.filter(|pooled| pooled.launches >= kv_metrics::LEAST_LAUNCHES)?;
        Some(Estimate::new(self.of.get(instance)?, pooled))
    }
}

#[cfg(test)]
mod tests {
    use kv_report::StepTime;

    use super::*;

    fn visit(cell: &str, launch: u32, ms: f64) -> Visit {
        let step = StepTime {
            phase: "decode".into(),
            step: 1,
            round: 0,
            warm_up: false,
            position: 9,
            step_ms: ms,
            cache_ms: ms / 4.0,
            seam_ms: 0.0,
        };
        Visit { block: Some("block".into()), launch, process: Some(launch), steps: vec![step], ..Visit::passed(cell, Pass::Latency) }
    }

    #[test]
    fn launches_are_paired_and_what_both_builds_share_drops_out() {
        // The machine is slower in the second launch, and the other build has a launch more.
        let own = [visit("a", 0, 1.1), visit("b", 0, 2.0), visit("a", 1, 3.3), visit("b", 1, 6.0)];
        let other = [visit("a", 0, 1.0), visit("b", 0, 2.0), visit("a", 1, 3.0), visit("b", 1, 6.0), visit("a", 2, 9.0)];
        let pairs = Pairs::new("block", &own, &other);
        let observed = pairs.of_part(Part::Step, &pairs.counted());
        let ratio = |id: &str| observed.mean(&Instance::Cell(id.into())).unwrap().exp();
        assert!((ratio("a") - 1.1).abs() < 1e-9 && (ratio("b") - 1.0).abs() < 1e-9);
        let (theirs, ours) = observed.ms[&Instance::Cell("b".into())];
        assert!((ours / theirs - 1.0).abs() < 1e-9 && (ours - 12_f64.sqrt()).abs() < 1e-9, "the geometric mean of 2 and 6 ms");
        assert_eq!(observed.estimate(&Instance::Cell("a".into())), None, "two launches are too few");
        assert_eq!(Pairs::new("another", &own, &other).launches(), [].into());
    }

    #[test]
    fn a_launch_that_one_build_missed_or_that_was_disturbed_does_not_count() {
        let with = |launch: u32, share: f64| Visit {
            values: [("run_delay_share".to_owned(), share)].into(),
            ..visit("a", launch, if share > 0.0 { 50.0 } else { 1.0 })
        };
        let own: Vec<Visit> = (0..5).map(|launch| with(launch, 0.0)).collect();
        let mut other = own.clone();
        other[3] = with(3, 0.5);
        let pairs = Pairs::new("block", &own, &other);
        assert_eq!(pairs.counted(), [0, 1, 2, 4].into());
        let estimate = pairs.of_part(Part::Step, &pairs.counted()).estimate(&Instance::Cell("a".into())).unwrap();
        assert_eq!((estimate.mean, estimate.launches), (0.0, 4));
        other.remove(4);
        let pairs = Pairs::new("block", &own, &other[..3]);
        assert_eq!(pairs.counted(), [0, 1, 2].into());
    }
}
