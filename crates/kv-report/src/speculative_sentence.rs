//! What was found of a strategy instance in speculative decoding.

use crate::shown::with_interval;
use crate::{Row, Value};

/// How the ways of drafting are called: by the probability that a token is right.
const ACCEPTANCE: &str = "p = ";

/// The parts of the sentence: the best length of a draft for each acceptance, the one in the middle first.
pub(crate) fn of_speculative(row: &Row) -> Vec<String> {
    let mut ways: Vec<&str> = vec![];
    for value in row.workload.iter().filter(|value| value.metric == "speedup") {
        if !ways.contains(&value.variant.as_str()) {
            ways.push(&value.variant);
        }
    }
    let mut found: Vec<String> = vec![];
    let middle = ways.get(ways.len() / 2).copied();
    for way in middle.into_iter().chain(ways.iter().copied().filter(|way| Some(*way) != middle)) {
        let Some((draft, speedup)) = row.along(way, "speedup").max_by(|a, b| a.1.value.total_cmp(&b.1.value)) else { continue };
        let (share, acceptance) = (with_interval(&inverse(speedup)), way.trim_start_matches(ACCEPTANCE));
        found.push(match found.len() {
            0 => format!(
                "writes a token in {share} of the plain time with drafts of {draft} at an acceptance of {acceptance} (the draft's own cost not included)"
            ),
            _ => format!("at {acceptance} in {share} with drafts of {draft}"),
        });
    }
    found
}

/// One over a ratio.
fn inverse(ratio: &Value) -> Value {
    Value { interval: ratio.interval.map(|(low, high)| (high.recip(), low.recip())), ..Value::from(ratio.value.recip()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WorkloadValue;

    #[test]
    fn the_best_draft_of_each_acceptance_is_told() {
        let value = |variant: &str, at: f64, speedup: f64| WorkloadValue {
            variant: variant.into(),
            metric: "speedup".into(),
            at,
            value: Value { interval: Some((speedup / 1.25, speedup * 2.0)), ..Value::from(speedup) },
        };
        let workload = vec![
            value("p = 0.5", 1.0, 0.8),
            value("p = 0.5", 4.0, 0.5),
            value("p = 0.8", 1.0, 1.25),
            value("p = 0.8", 4.0, 2.0),
            value("p = 0.95", 4.0, 4.0),
        ];
        assert_eq!(
            of_speculative(&Row { workload, ..Row::default() }),
            [
                "writes a token in 0.5000 [0.2500, 0.6250] of the plain time with drafts of 4 at an acceptance of 0.8 (the draft's own cost not included)",
                "at 0.5 in 1.25 [0.6250, 1.56] with drafts of 1",
                "at 0.95 in 0.2500 [0.1250, 0.3125] with drafts of 4",
            ]
        );
    }
}
