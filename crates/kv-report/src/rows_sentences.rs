//! What was found of a strategy instance in workloads that feed rows and run no model: serving requests, and a decoder that reads
//! an encoder's rows.

use crate::Row;
use crate::counted;
use crate::shown::{bytes, short, with_interval};

/// The parts of the sentence about requests.
pub(crate) fn of_serve(row: &Row) -> Vec<String> {
    let whole = |metric| row.along("served", metric).find(|(at, _)| *at == 0.0).map(|(_, value)| value);
    let number = |metric| whole(metric).map(|value| value.value);
    let mut found = vec![];
    if let (Some(served), Some(requests), Some(mean), Some(most)) =
        (number("served"), number("requests"), number("running_mean"), number("running_most"))
    {
        found.push(format!(
            "serves {served} of {}, {} at once on the average and {most} at most",
            counted(requests as usize, "request"),
            short(mean)
        ));
    }
    if let Some(speed) = whole("served_tokens_per_s") {
        found.push(format!("writes {} tokens per second of the cache's time", with_interval(speed)));
    }
    if let Some(waste) = number("waste") {
        let free = number("free_pool_bytes").filter(|free| *free > 0.0);
        let free = free.map_or(String::new(), |free| format!(", with {} in free pages beside it", bytes(free)));
        found.push(format!("wastes {:.1} % of what sequences take{free}", 100.0 * waste));
    }
    if let Some(preempted) = number("preempted").filter(|preempted| *preempted > 0.0) {
        found.push(format!("computes a sequence again {}", counted(preempted as usize, "time")));
    }
    if let Some(refused) = number("refused").filter(|refused| *refused > 0.0) {
        found.push(format!("refuses {refused} that can never fit"));
    }
    found
}

/// The parts of the sentence about a summary.
pub(crate) fn of_summarise(row: &Row) -> Vec<String> {
    let whole = |metric| row.along("encoder kept", metric).find(|(at, _)| *at == 0.0).map(|(_, value)| value);
    let mut found = vec![];
    if let Some(ratio) = whole("step_ratio") {
        found.push(format!("takes {} of the time for a step with the encoder's keys and values kept", with_interval(ratio)));
    }
    if let (Some(encoder), Some(decoder)) = (whole("encoder_heap_bytes"), whole("decoder_heap_bytes")) {
        found.push(format!("holds the encoder's rows in {} and the decoder's in {} more", bytes(encoder.value), bytes(decoder.value)));
    }
    if let Some(error) = whole("read_error") {
        found.push(format!("reads the encoder with a relative error of {:.1e}", error.value));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Value, WorkloadValue};

    fn row(variant: &str, values: &[(&str, f64)]) -> Row {
        let value = |(metric, value): &(&str, f64)| WorkloadValue {
            variant: variant.into(),
            metric: (*metric).into(),
            at: 0.0,
            value: Value::from(*value),
        };
        Row { workload: values.iter().map(value).collect(), ..Row::default() }
    }

    #[test]
    fn serving_is_told_by_sequences_speed_and_waste() {
        let all = [
            ("served", 62.0),
            ("requests", 64.0),
            ("running_mean", 20.5),
            ("running_most", 31.0),
            ("served_tokens_per_s", 1234.0),
            ("waste", 0.0234),
            ("free_pool_bytes", 2048.0),
            ("preempted", 3.0),
            ("refused", 2.0),
        ];
        assert_eq!(
            of_serve(&row("served", &all)),
            [
                "serves 62 of 64 requests, 20.50 at once on the average and 31 at most",
                "writes 1234 tokens per second of the cache's time",
                "wastes 2.3 % of what sequences take, with 2.00 KiB in free pages beside it",
                "computes a sequence again 3 times",
                "refuses 2 that can never fit",
            ]
        );
        let quiet = [("waste", 0.7), ("free_pool_bytes", 0.0), ("preempted", 0.0), ("refused", 0.0)];
        assert_eq!(of_serve(&row("served", &quiet)), ["wastes 70.0 % of what sequences take"]);
    }

    #[test]
    fn a_summary_is_told_by_time_bytes_and_error() {
        let all = [("step_ratio", 0.02), ("encoder_heap_bytes", 2048.0), ("decoder_heap_bytes", 512.0), ("read_error", 0.00012)];
        assert_eq!(
            of_summarise(&row("encoder kept", &all)),
            [
                "takes 0.0200 of the time for a step with the encoder's keys and values kept",
                "holds the encoder's rows in 2.00 KiB and the decoder's in 512 B more",
                "reads the encoder with a relative error of 1.2e-4",
            ]
        );
    }
}
