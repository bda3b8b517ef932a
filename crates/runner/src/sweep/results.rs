//! From the visits of a run to its results.

use kv_report::{Build, OtherBuild, Results, Row, RunRecord, Visit};

use super::judged::judge;
use super::rows::row;
use crate::compare;

/// A run's results. Cells that were not timed have no row. Of a run of two builds, the rows are those of this one, beside how it
/// compares with the other.
pub(crate) fn results(run: &RunRecord, visits: &[Visit]) -> Results {
    let of = |build: Build| visits.iter().filter(move |visit| visit.build == build).cloned().collect::<Vec<Visit>>();
    let own = of_build(run, of(Build::Own));
    let against = run.against.as_ref().map(|other| compare::between_builds(&own, &of_build(&as_other(run, other), of(Build::Other))));
    Results { against, ..own }
}

/// The run as that of the other build.
fn as_other(run: &RunRecord, other: &OtherBuild) -> RunRecord {
    RunRecord { build: other.build.clone(), against: None, ..run.clone() }
}

fn of_build(run: &RunRecord, visits: Vec<Visit>) -> Results {
    let mut rows: Vec<Row> = run.cells.iter().filter_map(|cell| row(run, cell, &visits)).collect();
    judge(&mut rows, run, &visits);
    Results { run: run.clone(), rows, visits, against: None }
}
