//! What changed between two runs of the same cells, or between two builds that one run has timed in turns.
//!
//! What is counted is compared strictly. Times are compared by whoever has their launches, and come in as
//! [`Times`]. Everything that shows a comparison is a function of [`Comparison`].

mod changes;
mod differences;
mod fail_on;
mod page;
mod times;

use std::collections::BTreeSet;

use crate::{CellRecord, Results, Row, Status, counted};

use changes::changes;
use differences::{Strict, differences};

pub use changes::Changed;
pub use differences::{Difference, Direction, Found};
pub use fail_on::{CONDITIONS, FailOn};
pub use page::comparison_html;
pub use times::{Change, Role, TimeChange, TimeTable, TimeVerdict, Times};

/// What two sides have in common and in what they differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What is compared with: the earlier run, or the other build.
    pub before: Side,
    /// What is compared.
    pub after: Side,
    /// What else is not the same: model, build, machine, environment, config.
    pub changed: Vec<Changed>,
    /// Cells that only the first side has.
    pub only_before: Vec<Place>,
    /// Cells that only the second side has.
    pub only_after: Vec<Place>,
    /// Cells that both have.
    pub cells: usize,
    /// Values of these cells that do not depend on the machine.
    pub values: usize,
    /// The ids of their metrics.
    pub compared: BTreeSet<&'static str>,
    /// Those of them that differ, and how cells ended otherwise than before.
    pub differences: Vec<Difference>,
    /// How times changed.
    pub times: Times,
    /// Cells that both measured, and that only one has a time per token of.
    pub timed_once: Vec<Place>,
    /// What violates the conditions that were asked for, in sentences.
    pub violations: Vec<String>,
    /// What violates none of them and may still be as bad, in sentences.
    pub unsure: Vec<String>,
}

/// One of the two sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// The name of its column.
    pub name: &'static str,
    /// What it is, in words.
    pub what: String,
}

/// What a cell is, whichever run it belongs to: ids of cells contain the model's hash, and a strategy's parameters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The workload's name.
    pub workload: String,
    /// Sequences decoded together.
    pub batch: usize,
    /// Tokens in each sequence.
    pub seq_len: usize,
    /// The strategy instance's label.
    pub label: String,
}

impl Place {
    /// That of a cell.
    pub fn of(cell: &CellRecord) -> Place {
        let CellRecord { workload, batch, seq_len, label, .. } = cell.clone();
        Place { workload, batch, seq_len, label }
    }
}

impl std::fmt::Display for Place {
    /// As sentences and tables name it: "paged, decode at 128 ×4".
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Place { workload, batch, seq_len, label } = self;
        write!(formatter, "{label}, {workload} at {seq_len}")?;
        if *batch > 1 { write!(formatter, " ×{batch}") } else { Ok(()) }
    }
}

/// The rows of both results that are of the same cell, in the order of the second.
pub fn matched<'a>(before: &'a Results, after: &'a Results) -> Vec<(&'a Row, &'a Row)> {
    let of_before = |row: &Row| before.rows.iter().find(|other| Place::of(&other.cell) == Place::of(&row.cell));
    after.rows.iter().filter_map(|row| Some((of_before(row)?, row))).collect()
}

impl Comparison {
    /// Compares everything but times.
    pub fn of((name_before, before): (Side, &Results), (name_after, after): (Side, &Results), times: Times) -> Comparison {
        let rows = matched(before, after);
        let only = |own: &Results, other: &Results| {
            let is_alone = |place: &Place| other.rows.iter().all(|row| Place::of(&row.cell) != *place);
            own.rows.iter().map(|row| Place::of(&row.cell)).filter(is_alone).collect()
        };
        let Strict { values, compared, differences } = differences(&rows);
        Comparison {
            before: name_before,
            after: name_after,
            changed: changes(&before.run, &after.run),
            only_before: only(before, after),
            only_after: only(after, before),
            cells: rows.len(),
            values,
            compared,
            differences,
            times,
            timed_once: rows.iter().filter(|pair| is_timed_once(pair)).map(|(_, row)| Place::of(&row.cell)).collect(),
            violations: vec![],
            unsure: vec![],
        }
    }

    /// The comparison, held against conditions.
    #[must_use]
    pub fn judged(self, conditions: &FailOn) -> Comparison {
        Comparison { violations: conditions.violations(&self), unsure: conditions.unsure(&self), ..self }
    }

    /// What was found, in sentences.
    pub fn sentences(&self) -> Vec<String> {
        let Comparison { before, after, values, differences, .. } = self;
        let mut sentences = vec![];
        let cells = counted(self.cells, "cell");
        sentences.push(match differences.iter().filter(|difference| difference.is_value()).count() {
            _ if self.cells == 0 => format!("{} and {} have no cell in common.", before.name, after.name),
            0 => format!("{cells} in both, with {values} values that do not depend on the machine: all are the same."),
            differing => format!("{cells} in both, with {values} values that do not depend on the machine: {differing} differ."),
        });
        sentences.extend(self.lost().map(|place| format!("{place}: measured in {}, and not in {}.", before.name, after.name)));
        for (own, other, places) in [(before, after, &self.only_before), (after, before, &self.only_after)] {
            if !places.is_empty() {
                sentences.push(format!("Only in {}, and not in {}: {}.", own.name, other.name, listed(places)));
            }
        }
        sentences.extend(self.times.sentences());
        sentences.extend(self.unsure.iter().cloned());
        sentences
    }

    /// The cells that were measured on the first side and failed on the second.
    pub(crate) fn lost(&self) -> impl Iterator<Item = &Place> {
        let ok = Status::Ok.to_string();
        let is_lost = move |difference: &&Difference| difference.what == differences::STATUS && difference.before.text == ok;
        self.differences.iter().filter(is_lost).map(|difference| &difference.place)
    }
}

/// Whether both rows were measured, and only one of them has a time per token.
fn is_timed_once((before, after): &(&Row, &Row)) -> bool {
    let is_timed = |row: &Row| row.value(times::STEP).is_some();
    [before.status, after.status] == [Status::Ok; 2] && is_timed(before) != is_timed(after)
}

/// The first places, and how many more there are.
fn listed(places: &[Place]) -> String {
    const NAMED: usize = 3;
    let more = places.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    places.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join("; ") + &more
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::example;

    pub(crate) fn side(name: &'static str) -> Side {
        Side { name, what: format!("the run {name}") }
    }

    pub(crate) fn of(before: &Results, after: &Results) -> Comparison {
        Comparison::of((side("A"), before), (side("B"), after), Times::Same)
    }

    #[test]
    fn a_run_and_itself_differ_in_nothing() {
        let results = example::results();
        let comparison = of(&results, &results);
        assert_eq!((comparison.differences.len(), comparison.changed.len(), comparison.cells), (0, 0, 4));
        assert_eq!(comparison.sentences()[0], "4 cells in both, with 2 values that do not depend on the machine: all are the same.");
    }

    #[test]
    fn cells_are_matched_by_what_they_are() {
        let before = example::results();
        let mut after = example::results();
        after.rows[0].cell.id = "another model's".into();
        after.rows[1].cell.seq_len = 9;
        let comparison = of(&before, &after);
        assert_eq!(comparison.cells, 3);
        assert_eq!(comparison.only_before[0].to_string(), "contiguous, generate at 3");
        let sentences = comparison.sentences().join("\n");
        assert!(sentences.contains("Only in B, and not in A: contiguous, generate at 9."), "{sentences}");
    }

    #[test]
    fn a_cell_that_fails_now_is_told() {
        let before = example::results();
        let mut after = example::results();
        (after.rows[0].status, after.rows[0].error) = (Status::Failed, Some("no more".into()));
        let comparison = of(&before, &after);
        assert_eq!(comparison.sentences()[1], "contiguous, decode at 128: measured in A, and not in B.");
        let back = of(&after, &before);
        assert_eq!(back.lost().count(), 0, "it is measured again");
        assert!(back.differences.iter().any(|difference| difference.what == "status"));
    }
}
