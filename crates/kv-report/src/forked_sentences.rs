//! What was found of a strategy instance where something is computed once and forked: a prefix before labels, an image before
//! questions.

use crate::Row;
use crate::counted;
use crate::shown::{bytes, short, with_interval};

/// The parts of the sentence about labels.
pub(crate) fn of_classify(row: &Row) -> Vec<String> {
    let whole = |metric| row.along("forked", metric).find(|(at, _)| *at == 0.0).map(|(_, value)| value);
    let mut found = vec![];
    let all = |variant| row.along(variant, "cumulative_ms").last();
    if let Some(((labels, forked), (_, recomputed))) = all("forked").zip(all("recomputed")) {
        let share = short(forked.value / recomputed.value);
        found.push(format!("scores {} in {share} of the time of recomputing, the prefix included", counted(labels as usize, "label")));
    }
    found.extend(held(row, "label"));
    if let (Some(error), Some(same)) = (whole("score_error"), whole("same_best_label")) {
        let best = if same.value > 0.5 { "and finds the same best label" } else { "and finds another best label" };
        found.push(format!("differs by {:.1e} nats at most from recomputing, {best}", error.value));
    }
    found
}

/// The parts of the sentence about an image.
pub(crate) fn of_multimodal(row: &Row) -> Vec<String> {
    let mut found = vec![];
    if let Some((question, ratio)) = row.along("forked", "ttft_ratio").last().filter(|(question, _)| *question > 1.0) {
        found.push(format!("answers question {question} after {} of the time with the image kept", with_interval(ratio)));
    }
    found.extend(held(row, "question"));
    found
}

/// What all sequences take together, with forks and without.
fn held(row: &Row, what: &str) -> Option<String> {
    let last = |variant| row.along(variant, "heap_bytes").last();
    let ((count, forked), (_, recomputed)) = last("forked").zip(last("recomputed"))?;
    let count = counted(count as usize, what);
    Some(format!("holds {count} in {} with forks and in {} without", bytes(forked.value), bytes(recomputed.value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Value, WorkloadValue};

    fn row(values: &[(&str, &str, f64, f64)]) -> Row {
        let value = |(variant, metric, at, value): &(&str, &str, f64, f64)| WorkloadValue {
            variant: (*variant).into(),
            metric: (*metric).into(),
            at: *at,
            value: Value::from(*value),
        };
        Row { workload: values.iter().map(value).collect(), ..Row::default() }
    }

    #[test]
    fn labels_are_told_by_time_bytes_and_scores() {
        let mut values = vec![
            ("forked", "cumulative_ms", 0.0, 8.0),
            ("forked", "cumulative_ms", 8.0, 10.0),
            ("recomputed", "cumulative_ms", 8.0, 80.0),
            ("forked", "heap_bytes", 0.0, 1024.0),
            ("forked", "heap_bytes", 8.0, 2048.0),
            ("recomputed", "heap_bytes", 8.0, 8192.0),
            ("forked", "score_error", 0.0, 0.00002),
            ("forked", "same_best_label", 0.0, 1.0),
        ];
        assert_eq!(
            of_classify(&row(&values)),
            [
                "scores 8 labels in 0.1250 of the time of recomputing, the prefix included",
                "holds 8 labels in 2.00 KiB with forks and in 8.00 KiB without",
                "differs by 2.0e-5 nats at most from recomputing, and finds the same best label",
            ]
        );
        values[7].3 = 0.0;
        assert!(of_classify(&row(&values))[2].ends_with("and finds another best label"));
        assert!(of_classify(&row(&[])).is_empty(), "nothing was measured");
    }

    #[test]
    fn questions_after_the_first_tell_what_keeping_the_image_saves() {
        let first = ("forked", "ttft_ratio", 1.0, 1.0);
        assert!(of_multimodal(&row(&[first])).is_empty());
        let found = of_multimodal(&row(&[first, ("forked", "ttft_ratio", 4.0, 0.0625)]));
        assert_eq!(found, ["answers question 4 after 0.0625 of the time with the image kept"]);
    }
}
