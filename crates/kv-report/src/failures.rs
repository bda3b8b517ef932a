//! The cells that failed, those that failed in the same way together.

use crate::{Results, Row, Status};

/// How the error of a cell begins that was not timed for a reason that another cell of the strategy has.
pub const TOLD_BEFORE: &str = "not timed, for the reason given for";

/// Cells of a strategy that failed in the same way.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    pub(crate) label: String,
    /// Workload, length and batch of each, in words.
    pub(crate) cells: String,
    /// How they ended, where and why.
    pub(crate) reason: String,
}

/// Every failure, in the order of the rows.
pub(crate) fn failures(results: &Results) -> Vec<Failure> {
    let mut groups: Vec<(&Row, Vec<&Row>)> = vec![];
    for row in results.rows.iter().filter(|row| row.status != Status::Ok) {
        let is_alike = |other: &Row| {
            let of = |row: &Row| (row.cell.label.clone(), row.cell.workload.clone(), row.cell.batch);
            of(other) == of(row) && (is_told_before(row) || reason(other) == reason(row))
        };
        match groups.iter_mut().find(|(first, _)| is_alike(first)) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((row, vec![row])),
        }
    }
    let failure = |(first, rows): (&Row, Vec<&Row>)| {
        let lengths: Vec<String> = rows.iter().map(|row| row.cell.seq_len.to_string()).collect();
        let tokens = if lengths == ["1"] { "token" } else { "tokens" };
        let cells = format!("{}, {} {tokens}, batch {}", first.cell.workload, lengths.join(", "), first.cell.batch);
        Failure { label: first.cell.label.clone(), cells, reason: reason(first) }
    };
    groups.into_iter().map(failure).collect()
}

/// Whether another row of the strategy has the reason.
fn is_told_before(row: &Row) -> bool {
    row.error.as_ref().is_some_and(|error| error.starts_with(TOLD_BEFORE))
}

fn reason(row: &Row) -> String {
    let phase = row.phase.as_ref().map_or(String::new(), |phase| format!(" in {phase}"));
    let error = row.error.as_ref().map_or(String::new(), |error| format!(": {error}"));
    format!("{}{phase}{error}", row.status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn cells_that_fail_alike_are_one_failure() {
        let mut results = example::results();
        let alone = failures(&results);
        assert_eq!(alone.len(), 2, "{alone:?}");
        let slow = alone.iter().find(|failure| failure.label == "slow").unwrap();
        assert_eq!(
            (slow.cells.as_str(), slow.reason.as_str()),
            ("decode, 128 tokens, batch 1", "timed out in prefill: no answer for 60 s")
        );
        let mut longer = results.rows.iter().find(|row| row.cell.label == "slow").unwrap().clone();
        longer.cell.seq_len = 256;
        let mut other = longer.clone();
        other.error = Some("another".into());
        let mut told_before = longer.clone();
        (told_before.cell.seq_len, told_before.error) = (512, Some(format!("{TOLD_BEFORE} decode at 128")));
        results.rows.extend([longer, other, told_before]);
        let all = failures(&results);
        let of_slow: Vec<&str> = all.iter().filter(|failure| failure.label == "slow").map(|failure| failure.cells.as_str()).collect();
        assert_eq!(of_slow, ["decode, 128, 256, 512 tokens, batch 1", "decode, 256 tokens, batch 1"]);
    }
}
