//! From observed changes of times to verdicts.

use std::collections::BTreeMap;

use kv_metrics::{Comparison, Estimate, Judgement, Verdict};
use kv_report::{Change, Place, Role, TimeChange, TimeVerdict};

/// The change of a time of a cell, as it was observed.
pub(super) struct Observed {
    pub(super) place: Place,
    /// The id of the metric.
    pub(super) metric: &'static str,
    pub(super) role: Role,
    /// Milliseconds before and after.
    pub(super) ms: (f64, f64),
    /// The second over the first, where there are too few launches for more.
    pub(super) ratio: f64,
    pub(super) own: Option<Estimate>,
    /// The change over the baseline's.
    pub(super) of_baseline: Option<Estimate>,
    /// The logarithm of what the same code changes by.
    pub(super) floor: f64,
    /// Why there is no verdict, where there is none.
    pub(super) missing: String,
}

/// What verdicts are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Basis {
    /// The change itself: both sides were timed in turns.
    Itself,
    /// The change over the baseline's: the sides were timed at different times.
    OverBaseline,
}

/// Judges what is shown together: the changes of a metric in all cells of a workload are a family.
pub(super) fn judged(observed: Vec<Observed>, basis: Basis, margin: f64) -> Vec<TimeChange> {
    let own = family(&observed, margin, |observed| observed.own);
    let of_baseline = family(&observed, margin, |observed| observed.of_baseline);
    let change = |comparison: &Comparison| Change { ratio: comparison.ratio, interval: Some(comparison.interval) };
    let of_one = |(index, observed): (usize, Observed)| {
        let Observed { place, metric, role, ms, ratio, floor, missing, .. } = observed;
        let verdict = match (basis, role) {
            (Basis::OverBaseline, Role::Baseline) => TimeVerdict::Floor,
            (Basis::OverBaseline, _) => verdict(of_baseline.get(&index), floor, missing),
            (Basis::Itself, _) => verdict(own.get(&index), floor, missing),
        };
        TimeChange {
            place,
            metric,
            ms,
            change: own.get(&index).map_or(Change { ratio, interval: None }, change),
            of_baseline: of_baseline.get(&index).map(change),
            role,
            verdict,
        }
    };
    observed.into_iter().enumerate().map(of_one).collect()
}

/// The comparisons of each family, by their index.
fn family(observed: &[Observed], margin: f64, estimate: impl Fn(&Observed) -> Option<Estimate>) -> BTreeMap<usize, Comparison> {
    let mut families: BTreeMap<(&str, &str), Vec<(usize, Estimate)>> = BTreeMap::new();
    for (index, one) in observed.iter().enumerate() {
        let member = estimate(one).map(|estimate| (index, estimate));
        families.entry((&one.place.workload, one.metric)).or_default().extend(member);
    }
    let judgement = Judgement { margin, ..Judgement::default() };
    let judge = |members: Vec<(usize, Estimate)>| {
        let (indices, estimates): (Vec<usize>, Vec<Estimate>) = members.into_iter().unzip();
        indices.into_iter().zip(judgement.judge(&estimates)).collect::<Vec<_>>()
    };
    families.into_values().flat_map(judge).collect()
}

/// What a comparison says, if it is more than what the same code changes by.
fn verdict(comparison: Option<&Comparison>, floor: f64, missing: String) -> TimeVerdict {
    let Some(comparison) = comparison else { return TimeVerdict::None(missing) };
    match comparison.verdict {
        Verdict::Faster | Verdict::Slower if comparison.ratio.ln().abs() <= floor => TimeVerdict::WithinFloor,
        Verdict::Same => TimeVerdict::Same,
        Verdict::Faster => TimeVerdict::Faster,
        Verdict::Slower => TimeVerdict::Slower { at_least: comparison.interval.0 },
        Verdict::Inconclusive => TimeVerdict::Inconclusive,
    }
}

/// A change that is shown alone, with its interval of 95 %.
pub(super) fn alone(estimate: &Estimate) -> Change {
    let Comparison { ratio, interval, .. } = Judgement::default().judge(std::slice::from_ref(estimate))[0];
    Change { ratio, interval: Some(interval) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(label: &str, role: Role, ratio: f64, floor: f64) -> Observed {
        let around = |ratio: f64| [-0.01f64, 0.0, 0.01, 0.0].map(|noise| f64::ln(ratio) + noise);
        let estimate = Estimate::unpaired(&around(1.0), &around(ratio));
        Observed {
            place: Place { workload: "decode".into(), batch: 1, seq_len: 128, label: label.into() },
            metric: "tpot_ms_p50",
            role,
            ms: (1.0, ratio),
            ratio,
            own: estimate,
            of_baseline: estimate.filter(|_| role == Role::Compared),
            floor,
            missing: "too few".into(),
        }
    }

    fn verdicts(observed: Vec<Observed>, basis: Basis) -> Vec<TimeVerdict> {
        judged(observed, basis, 0.03).into_iter().map(|change| change.verdict).collect()
    }

    #[test]
    fn between_runs_the_baseline_is_the_floor_and_others_are_judged_over_it() {
        let all = || {
            vec![
                observed("base", Role::Baseline, 1.2, 0.0),
                observed("slower", Role::Compared, 1.2, 0.01),
                observed("same", Role::Compared, 1.0, 0.01),
                observed("near", Role::Compared, 0.9, 0.2),
                observed("naive", Role::Alone, 1.5, 0.0),
            ]
        };
        let found = verdicts(all(), Basis::OverBaseline);
        assert_eq!(found[0], TimeVerdict::Floor);
        assert!(matches!(found[1], TimeVerdict::Slower { at_least } if (1.1..1.2).contains(&at_least)), "{found:?}");
        assert_eq!(found[2..], [TimeVerdict::Same, TimeVerdict::WithinFloor, TimeVerdict::None("too few".into())]);
        let found = verdicts(all(), Basis::Itself);
        assert!(matches!(found[0], TimeVerdict::Slower { .. }), "in turns, the baseline is judged as the others are");
        assert!(matches!(found[4], TimeVerdict::Slower { .. }));
    }

    #[test]
    fn without_launches_there_is_a_ratio_and_a_reason() {
        let few = Observed { own: None, of_baseline: None, ..observed("a", Role::Compared, 1.2, 0.0) };
        let change = judged(vec![few], Basis::OverBaseline, 0.03).remove(0);
        assert_eq!((change.change, change.verdict), (Change { ratio: 1.2, interval: None }, TimeVerdict::None("too few".into())));
    }
}
