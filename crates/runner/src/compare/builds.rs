//! Times of two builds whose workers took turns: launches are paired.

use std::collections::BTreeSet;

use kv_metrics::LEAST_LAUNCHES;
use kv_report::{CellRecord, Place, Results, Role, Row, Status, TimeTable, Times, Visit};

use super::judged::{Basis, Observed, alone, judged};
use crate::sweep::{Instance, PairedObservations, Pairs, Part};

/// What is compared: the id of the metric, and the part of the steps that it is of.
const METRICS: [(&str, Option<Part>); 4] =
    [("tpot_ms_p50", Some(Part::Step)), ("cache_ms_p50", Some(Part::Cache)), ("model_ms_p50", Some(Part::Model)), ("ttft_ms", None)];

/// How the times of this build compare with those of the other one.
pub(super) fn times(own: &Results, other: &Results) -> Times {
    let mut blocks: Vec<&str> = vec![];
    for cell in &own.run.cells {
        if !blocks.contains(&cell.block.as_str()) {
            blocks.push(&cell.block);
        }
    }
    let mut observed = vec![];
    let mut floor = vec![];
    for block in blocks {
        let cells: Vec<&CellRecord> = own.run.cells.iter().filter(|cell| cell.block == block).collect();
        let block = Block { own, other, pairs: Pairs::new(block, &own.visits, &other.visits) };
        let launches = block.pairs.counted();
        let steps = block.pairs.of_part(Part::Step, &launches);
        floor.extend(cells.iter().filter_map(|cell| floor_in_words(cell, &steps)));
        observed.extend(METRICS.iter().flat_map(|metric| block.observed(&cells, *metric, &launches)));
    }
    observed.sort_by_key(|one: &Observed| own.run.cells.iter().position(|cell| Place::of(cell) == one.place));
    Times::Compared(TimeTable {
        how: vec![
            "Workers of both builds timed the same cells in turns, launch by launch, and launches are paired; intervals are corrected for all cells of a workload (Holm).".into(),
        ],
        rows: judged(observed, Basis::Itself, own.run.margin),
        floor,
    })
}

/// A comparison block, timed by both builds.
struct Block<'a> {
    own: &'a Results,
    other: &'a Results,
    pairs: Pairs<'a>,
}

impl Block<'_> {
    fn observed(&self, cells: &[&CellRecord], (metric, part): (&'static str, Option<Part>), launches: &BTreeSet<u32>) -> Vec<Observed> {
        // The time to first token is measured in the first launches, disturbed or not.
        let with_value = || {
            let has = |visit: &Visit| visit.values.get(metric).copied();
            let measured = |launch: &u32| !self.pairs.observations(&[*launch].into(), has).of.is_empty();
            self.pairs.observations(&self.pairs.launches().into_iter().filter(measured).collect(), has)
        };
        let observations = part.map_or_else(with_value, |part| self.pairs.of_part(part, launches));
        let baseline = cells.iter().find(|cell| is_baseline(cell)).map(|cell| Instance::Cell(cell.id.clone()));
        let mean = |instance: Option<&Instance>| observations.mean(instance?);
        let floor = mean(Some(&Instance::Control)).zip(mean(baseline.as_ref())).map_or(0.0, |(double, baseline)| (double - baseline).abs());
        let of_cell = |cell: &&CellRecord| {
            let row = |results: &'_ Results| -> Option<Row> {
                results.rows.iter().find(|row| row.cell.id == cell.id && row.status == Status::Ok).cloned()
            };
            let ms = (row(self.other)?.value(metric)?, row(self.own)?.value(metric)?);
            let one = |instance: Instance, role: Role| {
                let ratio = observations.mean(&instance)?.exp();
                let own = observations.estimate(&instance);
                let launches = observations.of.get(&instance).map_or(0, Vec::len);
                // The rows have the times of the baseline, and none of its double.
                let ms = if role == Role::Control { *observations.ms.get(&instance)? } else { ms };
                let missing = format!("too few launches of both builds count: {launches}, and {LEAST_LAUNCHES} are needed");
                Some(Observed { place: Place::of(cell), metric, role, ms, ratio, own, of_baseline: None, floor, missing })
            };
            let role = match &cell.baseline {
                _ if is_baseline(cell) => Role::Baseline,
                Some(_) => Role::Compared,
                None => Role::Alone,
            };
            let unpaired = || Observed {
                place: Place::of(cell),
                metric,
                role,
                ms,
                ratio: ms.1 / ms.0,
                own: None,
                of_baseline: None,
                floor,
                missing: "one of the builds did not time a cell in every launch".into(),
            };
            let own = one(Instance::Cell(cell.id.clone()), role).unwrap_or_else(unpaired);
            let double = if role == Role::Baseline { one(Instance::Control, Role::Control) } else { None };
            Some([Some(own), double].into_iter().flatten())
        };
        cells.iter().filter_map(of_cell).flatten().collect()
    }
}

fn is_baseline(cell: &CellRecord) -> bool {
    cell.baseline.as_ref() == Some(&cell.id)
}

/// What the baseline and its double say of the two builds; nothing for other cells.
fn floor_in_words(cell: &CellRecord, steps: &PairedObservations) -> Option<String> {
    let of = |instance: Instance| Some(alone(&steps.estimate(&instance)?));
    let baseline = of(Instance::Cell(cell.id.clone())).filter(|_| is_baseline(cell))?;
    let double = of(Instance::Control)?;
    Some(format!(
        "Floor: {} takes {baseline} of the other build's time, and its double in the same processes {double}: what the two differ by is noise.",
        Place::of(cell)
    ))
}
