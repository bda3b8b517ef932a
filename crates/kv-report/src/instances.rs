//! Strategy instances: their rows of the decode workload, with the same number of sequences at once.

use std::collections::BTreeSet;

use crate::{Results, Row, Status};

/// A strategy instance and its rows of the decode workload at one batch.
pub(crate) struct Instance<'a> {
    /// Its label in the config.
    pub(crate) label: &'a str,
    /// The rows that were measured, in order of their lengths.
    pub(crate) rows: Vec<&'a Row>,
    /// The rows that failed.
    pub(crate) failed: Vec<&'a Row>,
}

impl<'a> Instance<'a> {
    /// The measured row of a length.
    pub(crate) fn at(&self, length: usize) -> Option<&'a Row> {
        self.rows.iter().find(|row| row.cell.seq_len == length).copied()
    }

    /// The row of a length that failed.
    pub(crate) fn failed_at(&self, length: usize) -> Option<&'a Row> {
        self.failed.iter().find(|row| row.cell.seq_len == length).copied()
    }

    /// The measured row of the longest length that has something.
    pub(crate) fn longest(&self, has: impl Fn(&Row) -> bool) -> Option<&'a Row> {
        self.rows.iter().rev().find(|row| has(row)).copied()
    }
}

/// The batches of the decode workload, the smallest first: in a run without larger ones, 1.
pub(crate) fn batches(results: &Results) -> BTreeSet<usize> {
    results.rows.iter().filter(|row| row.cell.workload == "decode").map(|row| row.cell.batch).collect()
}

/// Every instance at the smallest batch, in the order of its rows. Quality is measured with one sequence.
pub(crate) fn instances(results: &Results) -> Vec<Instance<'_>> {
    batches(results).first().map_or(vec![], |batch| instances_of(results, *batch))
}

/// Every instance at a batch, in the order of its rows.
pub(crate) fn instances_of(results: &Results, batch: usize) -> Vec<Instance<'_>> {
    let mut instances: Vec<Instance<'_>> = vec![];
    for row in results.rows.iter().filter(|row| row.cell.workload == "decode" && row.cell.batch == batch) {
        let label = row.cell.label.as_str();
        let place = instances.iter().position(|instance| instance.label == label).unwrap_or_else(|| {
            instances.push(Instance { label, rows: vec![], failed: vec![] });
            instances.len() - 1
        });
        let instance = &mut instances[place];
        if row.status == Status::Ok { instance.rows.push(row) } else { instance.failed.push(row) }
    }
    for instance in &mut instances {
        instance.rows.sort_by_key(|row| row.cell.seq_len);
    }
    instances
}

/// The longest length at which more than half of the instances have something, of those that have it at any length. Where
/// there is none, the length at which the most have it.
pub(crate) fn common_length(instances: &[Instance<'_>], has: impl Fn(&Row) -> bool) -> Option<usize> {
    let lengths_of =
        |instance: &Instance<'_>| -> Vec<usize> { instance.rows.iter().filter(|row| has(row)).map(|row| row.cell.seq_len).collect() };
    let of_each: Vec<Vec<usize>> = instances.iter().map(lengths_of).filter(|lengths| !lengths.is_empty()).collect();
    let count = |length: usize| of_each.iter().filter(|lengths| lengths.contains(&length)).count();
    of_each.iter().flatten().copied().max_by_key(|length| {
        let count = count(*length);
        if 2 * count > of_each.len() { (of_each.len() + 1, *length) } else { (count, *length) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CellRecord;

    fn row(label: &str, seq_len: usize) -> Row {
        let cell = CellRecord { label: label.into(), seq_len, batch: 1, workload: "decode".into(), ..CellRecord::default() };
        Row { cell, ..Row::default() }
    }

    fn results(rows: Vec<Row>) -> Results {
        Results { rows, ..crate::example::results() }
    }

    #[test]
    fn rows_of_an_instance_are_in_order_and_others_are_not_among_them() {
        let mut rows = vec![row("a", 256), row("b", 128), row("a", 128), row("a", 512), row("a", 64), row("a", 32)];
        rows[3].status = Status::Oom;
        rows[4].cell.batch = 4;
        rows[5].cell.workload = "generate".into();
        let results = results(rows);
        let all = instances(&results);
        assert_eq!(all.iter().map(|instance| instance.label).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(all[0].rows.iter().map(|row| row.cell.seq_len).collect::<Vec<_>>(), [128, 256]);
        assert_eq!((all[0].failed[0].cell.seq_len, all[0].longest(|_| true).unwrap().cell.seq_len), (512, 256));
        assert!(all[0].at(512).is_none() && all[0].failed_at(512).is_some());
        assert_eq!(batches(&results).into_iter().collect::<Vec<_>>(), [1, 4]);
        let of_four = instances_of(&results, 4);
        assert_eq!((of_four.len(), of_four[0].label, of_four[0].rows[0].cell.seq_len), (1, "a", 64));
    }

    #[test]
    fn the_common_length_is_that_of_most() {
        let at = |rows: &[(&str, usize)]| {
            let results = results(rows.iter().map(|(label, length)| row(label, *length)).collect());
            common_length(&instances(&results), |_| true)
        };
        assert_eq!(at(&[("a", 128), ("a", 256), ("b", 128), ("b", 256), ("c", 128), ("c", 512)]), Some(256));
        assert_eq!(at(&[("a", 128), ("b", 256)]), Some(256), "no length has most of them");
        assert_eq!(at(&[("a", 1), ("b", 1), ("c", 2), ("d", 3)]), Some(1));
        assert_eq!(at(&[]), None);
    }
}
