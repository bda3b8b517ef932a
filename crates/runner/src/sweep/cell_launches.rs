//! The launches in which a cell was timed.

use kv_report::{CellRecord, Pass, Status, Visit};

use super::observations::BlockVisits;

/// The launches of a cell, in the order of their visits, each once.
pub(crate) struct Launches<'v> {
    /// All of them: the time to first token may have been measured in one that does not count.
    pub(crate) all: Vec<&'v Visit>,
    /// Those that count. The ones that were disturbed count in neither times nor ratios, if there are enough of the others.
    pub(crate) counted: Vec<&'v Visit>,
}

impl<'v> Launches<'v> {
    /// Those of a cell among the visits of one build.
    pub(crate) fn of(cell: &CellRecord, visits: &'v [Visit]) -> Launches<'v> {
        let is_of_cell = |visit: &&Visit| {
            visit.pass == Pass::Latency
                && visit.cell == cell.id
                && !visit.control
                && visit.status == Status::Ok
                && (cell.block.is_empty() || visit.block.as_ref().is_none_or(|block| *block == cell.block))
        };
        let mut all: Vec<&Visit> = vec![];
        for visit in visits.iter().filter(is_of_cell) {
            // The baseline is timed again beside instances that did not fit beside it the first time.
            if !all.iter().any(|other| other.launch == visit.launch) {
                all.push(visit);
            }
        }
        let mut counted = all.clone();
        if let Some(baseline) = &cell.baseline {
            let launches = BlockVisits::new(&cell.block, baseline, visits).counted();
            if !launches.is_empty() {
                counted.retain(|visit| launches.contains(&visit.launch));
            }
        }
        Launches { all, counted }
    }
}
