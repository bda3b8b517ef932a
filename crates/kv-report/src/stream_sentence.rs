//! What was found of a strategy instance in a stream.

use crate::shown::{bytes, short, with_interval};
use crate::{Row, Value};

/// The parts of the sentence.
pub(crate) fn of_stream(row: &Row) -> Vec<String> {
    let mut found = vec![];
    // A stream is fed in one way.
    let way = row.workload.first().map_or("", |value| value.variant.as_str());
    let ends = |metric| row.along(way, metric).next().zip(row.along(way, metric).last()).filter(|(first, last)| first.0 < last.0);
    let whole = |metric| row.along(way, metric).next().map(|(_, value)| value);
    if let Some(growth) = whole("tpot_growth")
        && let Some(((first, _), (last, _))) = ends("tpot_ms")
    {
        found.push(format!("takes {} times as long for a token at {last} tokens as at {first}", with_interval(growth)));
    }
    if let Some(((first, before), (last, after))) = ends("heap_bytes") {
        found.push(format!("holds {} at {first} tokens and {} at {last}", bytes(before.value), bytes(after.value)));
    }
    let perplexity = |value: &Value| short(value.value);
    match (whole("ppl_within_context"), whole("ppl_beyond_context")) {
        (Some(within), Some(beyond)) => found.push(format!(
            "has a perplexity of {} on the text within the model's context and of {} beyond it",
            perplexity(within),
            perplexity(beyond)
        )),
        (Some(within), None) => found.push(format!("has a perplexity of {} on the text", perplexity(within))),
        (None, _) => {}
    }
    if let Some(tokens) = row.value("ended_at_tokens") {
        let needed = row.value("needed_bytes").map_or(String::new(), |needed| format!(", and would have needed {} for all", bytes(needed)));
        found.push(format!("ended at {tokens} of {} tokens{needed}", row.cell.seq_len));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CellRecord, WorkloadValue};

    fn row(values: &[(&str, f64, f64)]) -> Row {
        let value = |(metric, at, value): &(&str, f64, f64)| WorkloadValue {
            variant: "in chunks".into(),
            metric: (*metric).into(),
            at: *at,
            value: Value { interval: (*metric == "tpot_growth").then_some((1.0, 1.05)), ..Value::from(*value) },
        };
        let cell = CellRecord { seq_len: 64, ..CellRecord::default() };
        Row { cell, workload: values.iter().map(value).collect(), ..Row::default() }
    }

    #[test]
    fn a_bounded_cache_is_told_at_both_ends() {
        let found = of_stream(&row(&[
            ("tpot_ms", 4.0, 1.0),
            ("tpot_ms", 64.0, 1.02),
            ("tpot_growth", 0.0, 1.02),
            ("heap_bytes", 4.0, 1024.0),
            ("heap_bytes", 64.0, 2048.0),
            ("ppl_within_context", 0.0, 33.0),
            ("ppl_beyond_context", 0.0, 35.5),
        ]));
        assert_eq!(
            found,
            [
                "takes 1.02 [1.00, 1.05] times as long for a token at 64 tokens as at 4",
                "holds 1.00 KiB at 4 tokens and 2.00 KiB at 64",
                "has a perplexity of 33.00 on the text within the model's context and of 35.50 beyond it",
            ]
        );
    }

    #[test]
    fn one_that_ended_says_what_it_would_have_needed() {
        let mut ended = row(&[("ppl_within_context", 0.0, 33.0), ("heap_bytes", 16.0, 1024.0)]);
        ended.values = [("ended_at_tokens".into(), Value::from(16.0)), ("needed_bytes".into(), Value::from(4096.0))].into();
        assert_eq!(
            of_stream(&ended),
            ["has a perplexity of 33.00 on the text", "ended at 16 of 64 tokens, and would have needed 4.00 KiB for all"]
        );
        ended.values.remove("needed_bytes");
        assert_eq!(of_stream(&ended)[1], "ended at 16 of 64 tokens");
    }
}
