//! How long a context fits into the same bytes.

use crate::decision::at;
use crate::front::holds_tokens;
use crate::instances::{Instance, instances};
use crate::noise::is_baseline;
use crate::shown::bytes;
use crate::{Results, Row};

/// How many tokens each instance holds in the bytes of the baseline at its longest length.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Capacity {
    /// What is asked, in words.
    pub(crate) question: String,
    /// Labels, and what they hold, in words.
    pub(crate) answers: Vec<(String, String)>,
}

/// `None` without a baseline, or if fewer than two instances tell how they grow.
///
/// Tokens follow from the heap at an instance's longest length and the slope of the heap along the text: what was not measured is
/// predicted.
pub(crate) fn capacity(results: &Results) -> Option<Capacity> {
    let instances = instances(results);
    let baseline = instances.iter().filter_map(|instance| instance.longest(is_baseline)).max_by_key(|row| row.cell.seq_len)?;
    let length = baseline.cell.seq_len;
    let budget = baseline.value("heap_live_bytes").filter(|_| holds_tokens(baseline))?;
    let answer = |instance: &Instance<'_>| {
        let row = instance.longest(|row| row.values.contains_key("heap_slope"))?;
        holds_tokens(row).then(|| Some((instance.label.to_owned(), words(row, budget, length)?)))?
    };
    let answers: Vec<(String, String)> = instances.iter().filter_map(answer).collect();
    let place = at(length, baseline.cell.batch);
    let question = format!("Tokens that fit into {}, what {} takes at {place}", bytes(budget), baseline.cell.label);
    (answers.len() > 1).then_some(Capacity { question, answers })
}

fn words(row: &Row, budget: f64, length: usize) -> Option<String> {
    /// A cache that grows by less than a number in a byte per token does not grow.
    const LEAST_SLOPE: f64 = 1.0;
    let (slope, held) = (row.value("heap_slope")?, row.value("heap_live_bytes")?);
    let is_bounded = slope < LEAST_SLOPE || (row.evicts() && held <= budget && row.value("resident_tokens")? < row.value("seen_tokens")?);
    if is_bounded {
        return Some(if held <= budget {
            format!("any length: it holds {} of it", bytes(held))
        } else {
            "none: it takes more at once".into()
        });
    }
    let tokens = (row.cell.seq_len as f64 + (budget - held) / slope).max(0.0).floor();
    Some(format!("about {tokens:.0} ({:.2}× of {length}), predicted from how it grows", tokens / length as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Value, example_quality};

    #[test]
    fn tokens_follow_from_slope_and_intercept_and_a_bounded_cache_holds_any_length() {
        let mut results = example_quality::results();
        assert_eq!(capacity(&results), None, "nobody tells how it grows");
        for row in results.rows.iter_mut().filter(|row| row.cell.seq_len == 2048) {
            let (slope, heap) = match row.cell.label.as_str() {
                "contiguous f16" => (1000.0, 2_048_000.0),
                "quantized q4_0" => (250.0, 512_000.0),
                "window 512" => (0.0, 512_000.0),
                _ => continue,
            };
            row.values.extend([("heap_slope", slope), ("heap_live_bytes", heap)].map(|(id, value)| (id.into(), Value::from(value))));
        }
        let capacity = capacity(&results).unwrap();
        assert!(
            capacity.question.starts_with("Tokens that fit into 1.95 MiB, what contiguous f16 takes at 2048 tokens"),
            "{}",
            capacity.question
        );
        let of = |label: &str| &capacity.answers.iter().find(|(other, _)| other == label).unwrap().1;
        assert_eq!(of("quantized q4_0"), "about 8192 (4.00× of 2048), predicted from how it grows");
        assert_eq!(of("window 512"), "any length: it holds 500.00 KiB of it");
        assert_eq!(of("contiguous f16"), "about 2048 (1.00× of 2048), predicted from how it grows");
    }
}
