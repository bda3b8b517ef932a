//! Values that do not depend on the machine, compared strictly.

use std::collections::BTreeSet;

use super::Place;
use crate::shown::exact;
use crate::workload_metric::workload_metric;
use crate::{Better, METRICS, Row, Status, Tolerance, Unit, WorkloadValue};

/// How a cell ended, as a difference.
pub(super) const STATUS: &str = "status";

/// A value that is not what it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The cell.
    pub place: Place,
    /// The id of the metric; `status` or `guarantee` where those differ.
    pub what: String,
    /// What it was.
    pub before: Found,
    /// What it is.
    pub after: Found,
    /// How the two differ, in words or numbers.
    pub change: String,
    /// Whether that is for the better.
    pub direction: Direction,
}

impl Difference {
    /// Whether a metric differs, and not how the cell ended.
    pub fn is_value(&self) -> bool {
        self.before.number.is_some() || self.after.number.is_some()
    }
}

/// One side of a difference.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// The number, if it is one.
    pub number: Option<f64>,
    /// As it is shown; "-" if there is none.
    pub text: String,
}

/// The direction of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The strategy improved.
    Better,
    /// It became worse.
    Worse,
    /// It does not rank strategies, or one side has no number.
    Neither,
}

impl std::fmt::Display for Direction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Direction::Better => "better",
            Direction::Worse => "worse",
            Direction::Neither => "differs",
        })
    }
}

/// What was compared strictly.
#[derive(Debug, Default)]
pub(super) struct Strict {
    /// Values that were compared.
    pub(super) values: usize,
    /// The ids of metrics that both of some pair of rows have.
    pub(super) compared: BTreeSet<&'static str>,
    /// What differs, in the order of the rows and of the metrics.
    pub(super) differences: Vec<Difference>,
}

/// Compares pairs of rows of the same cells: the metrics that are the same on every machine, and those of quality. Of two
/// numbers that differ by no more than the metric's tolerance, nothing is said.
pub(super) fn differences(rows: &[(&Row, &Row)]) -> Strict {
    let Strict { mut values, mut compared, mut differences } = Strict::default();
    for (before, after) in rows {
        let place = Place::of(&after.cell);
        let mut note = |what: String, (first, second): (Found, Found), change: String, direction: Direction| {
            differences.push(Difference { place: place.clone(), what, before: first, after: second, change, direction });
        };
        if before.status != after.status {
            let direction = match (before.status, after.status) {
                (Status::Ok, _) => Direction::Worse,
                (_, Status::Ok) => Direction::Better,
                _ => Direction::Neither,
            };
            let reason = after.error.clone().unwrap_or_default();
            note(STATUS.into(), (text(&before.status), text(&after.status)), reason, direction);
            continue;
        }
        if before.guarantee != after.guarantee {
            let guarantee = |row: &Row| row.guarantee.as_ref().map_or(missing(), text);
            note("guarantee".into(), (guarantee(before), guarantee(after)), String::new(), Direction::Neither);
        }
        for metric in METRICS.iter() {
            // Of the others nobody knows what they should be.
            let Some(tolerance) = metric.tolerance else { continue };
            let numbers = (before.value(metric.id), after.value(metric.id));
            values += usize::from(numbers != (None, None));
            if let (Some(_), Some(_)) = numbers {
                compared.insert(metric.id);
            }
            if let Some((found, change, direction)) = difference(numbers, metric.unit, metric.better, tolerance) {
                note(metric.id.into(), found, change, direction);
            }
        }
        let gone = before.workload.iter().filter(|value| number_at(after, value).is_none());
        for value in after.workload.iter().chain(gone) {
            let Some(metric) = workload_metric(&value.metric) else { continue };
            // Times have none, nor has what comes of them.
            let Some(tolerance) = metric.tolerance else { continue };
            values += 1;
            let numbers = (number_at(before, value), number_at(after, value));
            if let Some((found, change, direction)) = difference(numbers, metric.unit, metric.better, tolerance) {
                note(format!("{} ({}, {})", metric.id, value.variant, value.at), found, change, direction);
            }
        }
    }
    Strict { values, compared, differences }
}

/// The number of a row that is of the same metric at the same place of the script.
fn number_at(row: &Row, place: &WorkloadValue) -> Option<f64> {
    let is_same =
        |other: &&WorkloadValue| other.variant == place.variant && other.metric == place.metric && other.at.total_cmp(&place.at).is_eq();
    row.workload.iter().find(is_same).map(|found| found.value.value)
}

/// A difference of two numbers beyond the tolerance.
fn difference(
    (before, after): (Option<f64>, Option<f64>),
    unit: Unit,
    better: Better,
    tolerance: Tolerance,
) -> Option<((Found, Found), String, Direction)> {
    let (Some(first), Some(second)) = (before, after) else {
        let found = |number: Option<f64>| number.map_or(missing(), |number| Found { number: Some(number), text: exact(number, number) });
        let change = if before.is_some() { "is missing now" } else { "is new" };
        return (before != after).then(|| ((found(before), found(after)), change.into(), Direction::Neither));
    };
    if tolerance.covers(first, second) {
        return None;
    }
    let direction = match better {
        Better::Neither => Direction::Neither,
        Better::Lower if second < first => Direction::Better,
        Better::Higher if second > first => Direction::Better,
        Better::Lower | Better::Higher => Direction::Worse,
    };
    let change = match unit {
        Unit::Share | Unit::Nats | Unit::Perplexity => format!("{:+.2e}", second - first),
        _ if first == 0.0 => format!("{:+}", second - first),
        _ => format!("{:+.2} %", 100.0 * (second / first - 1.0)),
    };
    let found = |number: f64, other: f64| Found { number: Some(number), text: exact(number, other) };
    Some(((found(first, second), found(second, first)), change, direction))
}

fn text(text: &impl ToString) -> Found {
    Found { number: None, text: text.to_string() }
}

fn missing() -> Found {
    Found { number: None, text: "-".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Results, Value, example, example_quality};

    fn of(before: &Results, after: &Results) -> Vec<Difference> {
        differences(&super::super::matched(before, after)).differences
    }

    fn changed(change: impl Fn(&mut Row)) -> Vec<Difference> {
        let mut after = example_quality::results();
        change(after.rows.iter_mut().find(|row| row.cell.label == "quantized q8_0" && row.cell.seq_len == 2048).unwrap());
        of(&example_quality::results(), &after)
    }

    fn set(row: &mut Row, id: &str, number: f64) {
        row.values.insert(id.into(), Value::from(number));
    }

    #[test]
    fn one_byte_is_a_difference_and_a_millisecond_is_none() {
        assert_eq!(changed(|_| ()), []);
        let found = changed(|row| {
            let bytes = row.value("heap_live_bytes").unwrap();
            set(row, "heap_live_bytes", bytes + 1.0);
            set(row, "tpot_ms_p50", 99.0);
        });
        assert_eq!(found.len(), 1, "{found:?}");
        let Difference { place, what, before, after, direction, .. } = &found[0];
        assert_eq!((place.label.as_str(), what.as_str(), *direction), ("quantized q8_0", "heap_live_bytes", Direction::Worse));
        assert_eq!(after.number.unwrap() - before.number.unwrap(), 1.0);
        assert_ne!(before.text, after.text, "rounded, the two look alike");
    }

    #[test]
    fn divergences_differ_beyond_their_floor_and_others_beyond_the_last_digits() {
        let kld = example_quality::results().rows.iter().find_map(|row| row.value("kld_mean")).unwrap();
        assert!(kld > 0.0);
        let near = |row: &mut Row, id: &str, by: f64| {
            let value = row.value(id).unwrap();
            set(row, id, value + by);
        };
        assert_eq!(changed(|row| near(row, "kld_mean", 5e-11)), [], "below the floor of 1e-10");
        let worse = changed(|row| near(row, "kld_mean", 1e-5));
        assert_eq!((worse[0].what.as_str(), worse[0].direction, worse[0].change.as_str()), ("kld_mean", Direction::Worse, "+1.00e-5"));
        assert_eq!(changed(|row| near(row, "same_top1", 1e-6)), []);
        assert_eq!(changed(|row| near(row, "same_top1", 0.004))[0].direction, Direction::Better);
    }

    #[test]
    fn what_is_new_or_missing_is_told() {
        let found = changed(|row| {
            row.values.remove("kld_mean");
            row.guarantee = Some("exact".into());
        });
        assert_eq!(found.iter().map(|found| found.what.as_str()).collect::<Vec<_>>(), ["guarantee", "kld_mean"]);
        assert_eq!((found[1].after.text.as_str(), found[1].change.as_str()), ("-", "is missing now"));
    }

    #[test]
    fn bytes_along_a_script_are_compared_and_its_times_are_not() {
        let value = |metric: &str, value: f64| WorkloadValue {
            variant: "shared prefix".into(),
            metric: metric.into(),
            at: 3.0,
            value: Value::from(value),
        };
        let mut before = example::results();
        before.rows[0].workload = vec![value("heap_bytes", 64.0), value("ttft_ms", 1.0)];
        let mut after = before.clone();
        after.rows[0].workload = vec![value("heap_bytes", 32.0), value("ttft_ms", 9.0)];
        let found = of(&before, &after);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].what.as_str(), found[0].direction), ("heap_bytes (shared prefix, 3)", Direction::Better));
        assert_eq!(found[0].change, "-50.00 %");
    }

    #[test]
    fn numbers_of_a_script_that_are_new_gone_or_other_counts_are_told_and_what_comes_of_times_is_not() {
        let value = |metric: &str, at: f64, value: f64| WorkloadValue {
            variant: "drafts".into(),
            metric: metric.into(),
            at,
            value: Value::from(value),
        };
        let mut before = example::results();
        before.rows[0].workload = vec![
            value("served", 0.0, 8.0),
            value("heap_bytes", 1.0, 64.0),
            value("ppl", 1.0, 12.0),
            value("break_even_turn", 0.0, 2.0),
            value("speedup", 0.0, 1.5),
        ];
        let mut after = before.clone();
        after.rows[0].workload = vec![
            value("served", 0.0, 6.0),
            value("heap_bytes", 2.0, 64.0),
            value("ppl", 1.0, 12.0 + 1e-4),
            value("break_even_turn", 0.0, 3.0),
        ];
        let found = of(&before, &after);
        let told: Vec<(&str, &str, Direction)> =
            found.iter().map(|found| (found.what.as_str(), found.change.as_str(), found.direction)).collect();
        let expected = [
            ("served (drafts, 0)", "-25.00 %", Direction::Worse),
            ("heap_bytes (drafts, 2)", "is new", Direction::Neither),
            ("heap_bytes (drafts, 1)", "is missing now", Direction::Neither),
        ];
        assert_eq!(told, expected);
    }
}
