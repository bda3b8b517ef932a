//! Conditions on a comparison under which a program fails.

use super::times::STEP;
use super::{Comparison, Difference, Place, Role, TimeChange, TimeTable, TimeVerdict, Times};

/// What conditions look like.
pub const CONDITIONS: &str = "conditions are `slower>5%` (time per output token), `bytes>1%` (live heap) and `kld>0.001` (mean KL divergence, in nats), with commas between them";

/// Conditions that were asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FailOn {
    conditions: Vec<Condition>,
}

/// Something that must not grow by more than this.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Condition {
    what: What,
    /// A share, or nats.
    threshold: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Slower,
    Bytes,
    Kld,
}

impl What {
    const ALL: [(&str, What); 3] = [("slower", What::Slower), ("bytes", What::Bytes), ("kld", What::Kld)];

    /// The metric that differs, of what is compared strictly.
    fn metric(self) -> Option<&'static str> {
        match self {
            What::Slower => None,
            What::Bytes => Some("heap_live_bytes"),
            What::Kld => Some("kld_mean"),
        }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = What::ALL.iter().find(|(_, what)| *what == self.what).map_or("", |(name, _)| name);
        match self.what {
            // Ten digits: a share in percent has none beyond them.
            What::Slower | What::Bytes => write!(formatter, "{name}>{}%", (self.threshold * 1e12).round() / 1e10),
            What::Kld => write!(formatter, "{name}>{}", self.threshold),
        }
    }
}

impl FailOn {
    /// Reads conditions, for example `slower>5%,bytes>1%,kld>0.001`.
    ///
    /// # Errors
    /// What is wrong with them, in words. [`CONDITIONS`] says what is right.
    pub fn parse(text: &str) -> Result<FailOn, String> {
        let mut conditions: Vec<Condition> = vec![];
        for part in text.split(',').map(str::trim) {
            let condition = condition(part)?;
            if conditions.iter().any(|other| other.what == condition.what) {
                return Err(format!("`{part}` is the second condition of its kind"));
            }
            conditions.push(condition);
        }
        Ok(FailOn { conditions })
    }

    /// Whether times are judged.
    pub fn judges_times(&self) -> bool {
        self.conditions.iter().any(|condition| condition.what == What::Slower)
    }

    /// Whether the KL divergence is judged.
    pub fn judges_divergence(&self) -> bool {
        self.conditions.iter().any(|condition| condition.what == What::Kld)
    }

    /// What a comparison violates, in sentences. A cell that was measured before and fails now, or is gone, violates any condition,
    /// and so does a cell that cannot be judged: what was not seen is no success.
    pub(super) fn violations(&self, comparison: &Comparison) -> Vec<String> {
        let (before, after) = (comparison.before.name, comparison.after.name);
        let failed = comparison.lost().map(|place| format!("{place}: it was measured in {before}, and failed in {after}."));
        let gone = comparison.only_before.iter().map(|place| format!("{place}: it is in {before}, and not in {after}."));
        let mut violations: Vec<String> = failed.chain(gone).collect();
        for condition in &self.conditions {
            let found = match condition.what.metric() {
                None => slower(condition, comparison),
                Some(metric) => grown(condition, metric, comparison),
            };
            violations.extend(found.unwrap_or_else(|reason| vec![format!("{condition} cannot be judged: {reason}.")]));
        }
        violations
    }

    /// The cells that are not slower for certain, and not shown to be within the threshold either, in sentences. That noise is no
    /// violation: it would fail every run of a noisy machine.
    pub(super) fn unsure(&self, comparison: &Comparison) -> Vec<String> {
        let Times::Compared(table) = &comparison.times else { return vec![] };
        let of_condition = |condition: &Condition| steps(table).filter_map(|row| not_within(condition, row)).collect::<Vec<_>>();
        self.conditions.iter().filter(|condition| condition.what == What::Slower).flat_map(of_condition).collect()
    }
}

fn condition(part: &str) -> Result<Condition, String> {
    let (name, number) = part.split_once('>').ok_or_else(|| format!("`{part}` is no condition"))?;
    let name = name.trim();
    let (_, what) = *What::ALL
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| format!("`{part}`: nothing that can be judged is called `{name}`"))?;
    let number = number.trim();
    let (digits, unit) = match (what, number.strip_suffix('%')) {
        (What::Kld, Some(_)) => return Err(format!("`{part}`: a KL divergence is in nats, and not in percent")),
        (What::Kld, None) => (number, 1.0),
        (What::Slower | What::Bytes, Some(digits)) => (digits, 0.01),
        (What::Slower | What::Bytes, None) => return Err(format!("`{part}`: a threshold of `{name}` is in percent")),
    };
    let threshold: f64 = digits.trim().parse().map_err(|_| format!("`{part}`: `{number}` is no number"))?;
    if !(0.0..=1e6).contains(&threshold) {
        return Err(format!("`{part}`: a threshold is a number that is not negative"));
    }
    Ok(Condition { what, threshold: threshold * unit })
}

/// The cells whose time per token grew by more than this for certain: the lower end of the interval lies above it.
fn slower(condition: &Condition, comparison: &Comparison) -> Result<Vec<String>, String> {
    let table = match &comparison.times {
        Times::Same => return Ok(vec![]),
        Times::NotCompared(reason) => return Err(reason.clone()),
        Times::Compared(table) => table,
    };
    let is_judged = |row: &TimeChange| !matches!(row.verdict, TimeVerdict::None(_) | TimeVerdict::Floor);
    let reason = |row: &TimeChange| if let TimeVerdict::None(reason) = &row.verdict { Some(reason.clone()) } else { None };
    if !steps(table).any(is_judged) {
        return Err(steps(table).find_map(reason).unwrap_or_else(|| "no cell has a verdict".into()));
    }
    let sentence = |row: &TimeChange| match &row.verdict {
        TimeVerdict::Slower { at_least } if *at_least > 1.0 + condition.threshold => Some(format!(
            "{condition}: {} is slower, by {:.1} % at least ({} times the time per token).",
            row.place,
            100.0 * (at_least - 1.0),
            row.judged_change()
        )),
        // What recomputes has no baseline beside it, in no run.
        TimeVerdict::None(reason) if row.role != Role::Alone => Some(format!("{condition} cannot be judged of {}: {reason}.", row.place)),
        _ => None,
    };
    let timed_once = |place: &Place| {
        format!("{condition} cannot be judged of {place}: only one of {} and {} timed it.", comparison.before.name, comparison.after.name)
    };
    Ok(steps(table).filter_map(sentence).chain(comparison.timed_once.iter().map(timed_once)).collect())
}

/// The changes of the time per token.
fn steps(table: &TimeTable) -> impl Iterator<Item = &TimeChange> {
    table.rows.iter().filter(|row| row.metric == STEP && row.role != Role::Control)
}

/// That a cell may be slower by more than the threshold, if it may and is not for certain.
fn not_within(condition: &Condition, row: &TimeChange) -> Option<String> {
    let most = 1.0 + condition.threshold;
    let is_open = match row.verdict {
        TimeVerdict::None(_) | TimeVerdict::Floor => false,
        TimeVerdict::Slower { at_least } => at_least <= most,
        TimeVerdict::Same | TimeVerdict::Faster | TimeVerdict::Inconclusive | TimeVerdict::WithinFloor => true,
    };
    let change = row.judged_change();
    let (_, high) = change.interval.filter(|(_, high)| is_open && *high > most)?;
    Some(format!(
        "{condition} is not violated for certain by {}, which may be slower by up to {:.1} % ({change} times the time per token).",
        row.place,
        100.0 * (high - 1.0)
    ))
}

/// The cells whose metric grew by more than this.
fn grown(condition: &Condition, metric: &str, comparison: &Comparison) -> Result<Vec<String>, String> {
    if !comparison.compared.contains(metric) {
        return Err(format!("no cell of both has `{metric}`"));
    }
    let growth = |difference: &Difference| {
        let (before, after) = difference.before.number.zip(difference.after.number)?;
        Some(match condition.what {
            What::Kld => after - before,
            _ if before > 0.0 => after / before - 1.0,
            _ => f64::INFINITY,
        })
    };
    let of_metric = comparison.differences.iter().filter(|difference| difference.what == metric);
    let sentence = |difference: &Difference| {
        let Difference { place, before, after, change, .. } = difference;
        match growth(difference) {
            None => Some(format!("{condition} cannot be judged of {place}: its {metric} {change}.")),
            Some(growth) if growth > condition.threshold => {
                Some(format!("{condition}: {metric} of {place} is {} and was {} ({change}).", after.text, before.text))
            }
            Some(_) => None,
        }
    };
    Ok(of_metric.filter_map(sentence).collect())
}

#[cfg(test)]
mod tests {
    use super::super::Change;
    use super::super::tests::of;
    use super::*;
    use crate::{Results, Status, Value, example, example_quality};

    fn violations(conditions: &str, comparison: &Comparison) -> Vec<String> {
        FailOn::parse(conditions).unwrap().violations(comparison)
    }

    #[test]
    fn conditions_are_read_and_shown_as_they_are() {
        let read = FailOn::parse(" slower>5%, bytes > 1 %,kld>0.001").unwrap();
        let shown: Vec<String> = read.conditions.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["slower>5%", "bytes>1%", "kld>0.001"]);
        for (wrong, expected) in [
            ("", "`` is no condition"),
            ("slower", "is no condition"),
            ("slower>5", "in percent"),
            ("kld>1%", "in nats"),
            ("faster>5%", "called `faster`"),
            ("slower>five%", "no number"),
            ("bytes>-1%", "not negative"),
            ("bytes>nan%", "not negative"),
            ("slower>1%,slower>2%", "second condition"),
            ("slower>1%,", "is no condition"),
            ("slower<5%", "is no condition"),
        ] {
            let error = FailOn::parse(wrong).unwrap_err();
            assert!(error.contains(expected), "{wrong}: {error}");
        }
    }

    fn grown(label: &str, id: &str, by: impl Fn(f64) -> f64) -> Comparison {
        let before = example_quality::results();
        let mut after = before.clone();
        for row in after.rows.iter_mut().filter(|row| row.cell.label == label) {
            if let Some(value) = row.value(id) {
                row.values.insert(id.into(), Value::from(by(value)));
            }
        }
        of(&before, &after)
    }

    #[test]
    fn more_bytes_and_more_divergence_violate_and_less_does_not() {
        let comparison = grown("quantized q8_0", "heap_live_bytes", |bytes| bytes * 1.02);
        let found = violations("bytes>1%,kld>0.001", &comparison);
        assert!(!found.is_empty() && found[0].starts_with("bytes>1%: heap_live_bytes of quantized q8_0, decode at"), "{found:?}");
        assert_eq!(violations("bytes>3%", &comparison), [""; 0]);
        assert_eq!(violations("bytes>1%", &grown("quantized q8_0", "heap_live_bytes", |bytes| bytes / 2.0)), [""; 0]);
        let comparison = grown("quantized q8_0", "kld_mean", |kld| kld + 0.002);
        assert!(violations("kld>0.001", &comparison)[0].contains("kld_mean of quantized q8_0"));
        assert_eq!(violations("kld>0.003", &comparison), [""; 0]);
    }

    #[test]
    fn a_cell_that_fails_now_violates_whatever_is_asked() {
        let before = example_quality::results();
        let mut after: Results = before.clone();
        after.rows[3].status = Status::Oom;
        assert!(violations("bytes>1%", &of(&before, &after))[0].ends_with("it was measured in A, and failed in B."));
    }

    #[test]
    fn what_cannot_be_judged_is_no_success() {
        let results = example::results();
        let refused = |conditions: &str, comparison: &Comparison| violations(conditions, comparison).remove(0);
        assert_eq!(refused("kld>0.1", &of(&results, &results)), "kld>0.1 cannot be judged: no cell of both has `kld_mean`.");
        let apart = Comparison { times: Times::NotCompared("other machines".into()), ..of(&results, &results) };
        assert_eq!(refused("slower>5%", &apart), "slower>5% cannot be judged: other machines.");
        let few = timed(&[("a", 1.2, TimeVerdict::None("there are too few launches".into()))]);
        assert!(refused("slower>5%", &few).ends_with("too few launches."));
        assert_eq!(violations("slower>5%", &of(&results, &results)), [""; 0], "the same run");
    }

    fn timed(rows: &[(&str, f64, TimeVerdict)]) -> Comparison {
        let row = |(label, ratio, verdict): &(&str, f64, TimeVerdict)| TimeChange {
            place: Place { workload: "decode".into(), batch: 1, seq_len: 128, label: (*label).into() },
            metric: "tpot_ms_p50",
            ms: (1.0, *ratio),
            change: Change { ratio: *ratio, interval: Some((ratio / 1.02, ratio * 1.02)) },
            of_baseline: None,
            role: Role::Compared,
            verdict: verdict.clone(),
        };
        let results = example::results();
        let table = TimeTable { how: vec![], rows: rows.iter().map(row).collect(), floor: vec![] };
        Comparison { times: Times::Compared(table), ..of(&results, &results) }
    }

    #[test]
    fn only_what_is_slower_for_certain_violates() {
        let comparison = timed(&[
            ("a", 1.10, TimeVerdict::Slower { at_least: 1.07 }),
            ("b", 1.06, TimeVerdict::Slower { at_least: 1.04 }),
            ("c", 1.50, TimeVerdict::Inconclusive),
            ("d", 1.50, TimeVerdict::WithinFloor),
        ]);
        let found = violations("slower>5%", &comparison);
        assert_eq!(found, ["slower>5%: a, decode at 128 is slower, by 7.0 % at least (1.100 [1.078, 1.122] times the time per token)."]);
        assert_eq!(violations("slower>3%", &comparison).len(), 2);
    }

    #[test]
    fn what_may_be_slower_is_told_and_violates_nothing() {
        let comparison = timed(&[
            ("a", 1.10, TimeVerdict::Slower { at_least: 1.07 }),
            ("b", 1.06, TimeVerdict::Slower { at_least: 1.04 }),
            ("c", 1.04, TimeVerdict::Inconclusive),
            ("d", 1.01, TimeVerdict::Inconclusive),
            ("e", 1.00, TimeVerdict::Same),
        ]);
        let judged = comparison.judged(&FailOn::parse("slower>5%").unwrap());
        assert_eq!(judged.violations.len(), 1, "{:?}", judged.violations);
        assert_eq!(judged.unsure.len(), 2, "{:?}", judged.unsure);
        assert_eq!(
            judged.unsure[1],
            "slower>5% is not violated for certain by c, decode at 128, which may be slower by up to 6.1 % (1.040 [1.020, 1.061] times the time per token)."
        );
        assert!(judged.sentences().ends_with(&judged.unsure), "it is printed");
    }

    #[test]
    fn a_cell_without_a_verdict_violates_beside_others_that_have_one() {
        let mut comparison = timed(&[("a", 1.0, TimeVerdict::Same), ("b", 2.0, TimeVerdict::None("too few launches count".into()))]);
        assert_eq!(violations("slower>5%", &comparison), ["slower>5% cannot be judged of b, decode at 128: too few launches count."]);
        comparison.timed_once = vec![comparison.time_table().unwrap().rows[0].place.clone()];
        let found = violations("slower>5%", &comparison);
        assert_eq!(found[1], "slower>5% cannot be judged of a, decode at 128: only one of A and B timed it.");
    }

    #[test]
    fn a_time_that_one_side_lacks_is_seen() {
        let before = example::results();
        let mut after = before.clone();
        assert!(of(&before, &after).timed_once.is_empty());
        after.rows[0].values.remove("tpot_ms_p50");
        assert_eq!(of(&before, &after).timed_once.len(), 1);
        assert_eq!(of(&after, &before).timed_once.len(), 1);
    }

    #[test]
    fn a_number_that_one_side_lacks_cannot_be_judged() {
        let before = example_quality::results();
        let mut after = before.clone();
        after.rows.iter_mut().find(|row| row.cell.label == "quantized q8_0").unwrap().values.remove("kld_mean");
        let found = violations("kld>0.001", &of(&before, &after));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("kld>0.001 cannot be judged of quantized q8_0, decode at"), "{found:?}");
        assert!(found[0].ends_with("its kld_mean is missing now."), "{found:?}");
        assert!(violations("kld>0.001", &of(&after, &before))[0].ends_with("its kld_mean is new."));
    }

    #[test]
    fn a_cell_that_is_gone_violates_whatever_is_asked() {
        let before = example_quality::results();
        let mut after = before.clone();
        let gone = Place::of(&after.rows.remove(0).cell);
        assert_eq!(violations("bytes>1%", &of(&before, &after)), [format!("{gone}: it is in A, and not in B.")]);
        assert_eq!(violations("bytes>1%", &of(&after, &before)), [""; 0], "a new cell is none");
    }
}
