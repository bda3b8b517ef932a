//! What a script came to, in one run and in several.

use std::collections::BTreeMap;

use kv_report::{StepTime, Visit, WorkloadPoint};

use super::stage::Took;

/// The value of how many tokens a text has before it differs from the one it is set beside.
const FIRST_DIFFERENCE: &str = "first_difference_tokens";

/// What one run of a script came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Numbers at places of the script.
    pub(super) points: Vec<WorkloadPoint>,
    /// Decode steps: the depth after them, and their times. They are what a run is compared by.
    pub(super) steps: Vec<(usize, Took)>,
    /// Numbers of the whole, by the id of their metric.
    pub(super) values: BTreeMap<&'static str, f64>,
    pub(super) notes: Vec<String>,
}

impl Outcome {
    /// Decode steps that instances are compared by, with what attention read in them.
    pub(super) fn compare_by(&mut self, steps: Vec<(usize, Took)>) {
        let read: u64 = steps.iter().map(|(_, took)| took.read_bytes).sum();
        if read > 0 {
            self.values.insert("read_bytes", read as f64 / steps.len() as f64);
        }
        self.steps = steps;
    }

    /// Notes after how many tokens a text differs from the one it is set beside, if it does.
    pub(super) fn differs_after(&mut self, tokens: Option<usize>) {
        self.values.extend(tokens.map(|tokens| (FIRST_DIFFERENCE, tokens as f64)));
    }

    /// Adds a number.
    pub(super) fn put(&mut self, variant: &str, metric: &str, at: usize, value: f64) {
        self.points.push(WorkloadPoint { variant: variant.into(), metric: metric.into(), at: at as f64, value });
    }
}

/// Tokens of a text before the first that differs from the other's, the fewest over pairs of texts. `None` if none differs.
pub(super) fn first_difference(own: &[Vec<u32>], other: &[Vec<u32>]) -> Option<usize> {
    own.iter().zip(other).filter_map(|(own, other)| own.iter().zip(other).position(|(own, other)| own != other)).min()
}

/// Several runs of one script.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    steps: Vec<StepTime>,
    /// The values of each round at each place.
    points: Vec<(WorkloadPoint, Vec<f64>)>,
    values: BTreeMap<&'static str, Vec<f64>>,
    notes: Vec<String>,
}

impl Rounds {
    /// Adds a run.
    pub(super) fn add(&mut self, round: u32, outcome: Outcome) {
        let Outcome { points, steps, values, notes, .. } = outcome;
        let taken = self.steps.len();
        self.steps.extend(steps.into_iter().enumerate().map(|(index, (position, took))| StepTime {
            phase: "decode".into(),
            step: taken + index,
            round,
            // It pays for what came before it.
            warm_up: index == 0,
            position,
            step_ms: took.ms,
            cache_ms: took.cache_ms,
            seam_ms: took.seam_ms,
        }));
        for point in points {
            match self.points.iter_mut().find(|(other, _)| other.is_where(&point)) {
                Some((_, values)) => values.push(point.value),
                None => self.points.push((point.clone(), vec![point.value])),
            }
        }
        values.into_iter().for_each(|(id, value)| self.values.entry(id).or_default().push(value));
        notes.into_iter().for_each(|note| {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        });
    }

    /// The medians over the rounds, in a visit; of the first difference the earliest.
    pub(super) fn into_visit(mut self, mut visit: Visit) -> Visit {
        let median = |values: &[f64]| kv_metrics::quantile(values, 0.5);
        let earliest = self.values.remove(FIRST_DIFFERENCE).and_then(|values| values.into_iter().reduce(f64::min));
        visit.values.extend(earliest.map(|tokens| (FIRST_DIFFERENCE.to_owned(), tokens)));
        visit.workload =
            (self.points.into_iter()).filter_map(|(point, values)| Some(WorkloadPoint { value: median(&values)?, ..point })).collect();
        visit.values.extend(self.values.into_iter().filter_map(|(id, values)| Some((id.to_owned(), median(&values)?))));
        visit.steps.extend(self.steps);
        visit.notes.extend(self.notes);
        visit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_the_earliest_of_all_texts() {
        let texts = |texts: &[&[u32]]| texts.iter().map(|text| text.to_vec()).collect::<Vec<_>>();
        let own = texts(&[&[1, 2, 3, 4], &[5, 6, 7]]);
        assert_eq!(first_difference(&own, &own), None);
        assert_eq!(first_difference(&own, &texts(&[&[1, 2, 3, 9], &[5, 6, 7]])), Some(3));
        assert_eq!(first_difference(&own, &texts(&[&[1, 2, 3, 9], &[5, 9, 9]])), Some(1));
        assert_eq!(first_difference(&own, &texts(&[&[9], &[5, 6, 7]])), Some(0));
        assert_eq!(first_difference(&own, &texts(&[&[1, 2], &[5, 6, 7, 8]])), None, "one is the beginning of the other");
    }

    #[test]
    fn rounds_tell_medians_and_the_earliest_difference() {
        let mut rounds = Rounds::default();
        for (round, (ms, difference)) in (0..).zip([(1.0, Some(9)), (5.0, Some(4)), (2.0, Some(8)), (3.0, None)]) {
            let mut outcome = Outcome::default();
            outcome.put("way", "cost_ms", 0, ms);
            outcome.differs_after(difference);
            rounds.add(round, outcome);
        }
        let visit = rounds.into_visit(Visit::passed("f32", kv_report::Pass::Latency));
        assert_eq!((visit.workload[0].value, visit.values[FIRST_DIFFERENCE]), (2.5, 4.0));
    }
}
