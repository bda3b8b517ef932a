//! How the cells of a run compare with their baselines.

use std::collections::{BTreeMap, BTreeSet};

use kv_metrics::{Comparison, Estimate, Judgement, LEAST_LAUNCHES, Pooled};
use kv_report::{CellRecord, RunRecord, Visit};

use super::observations::{BlockVisits, Instance, Observations, Part};

/// The comparisons of a run.
#[derive(Debug, Default)]
pub(crate) struct Comparisons {
    /// By the cell's id. The baseline's are those with its double.
    of: BTreeMap<String, OfCell>,
}

/// How a cell compares with its baseline.
#[derive(Debug, Clone, Default)]
pub(crate) struct OfCell {
    pub(crate) parts: BTreeMap<Part, Comparison>,
    /// The paired ratios alone, where there are too few launches for more.
    pub(crate) ratios: BTreeMap<Part, f64>,
    /// Why there are none.
    pub(crate) missing: Option<String>,
    /// Launches that were disturbed, and all.
    pub(crate) disturbed: (usize, usize),
    /// Launches that count.
    pub(crate) counted: usize,
}

impl Comparisons {
    /// Compares the cells of a run.
    pub(crate) fn of(run: &RunRecord, visits: &[Visit]) -> Comparisons {
        let mut comparisons = Comparisons::default();
        let charts: BTreeSet<&str> = run.cells.iter().map(chart).collect();
        for of_chart in charts {
            let cells: Vec<&CellRecord> = run.cells.iter().filter(|cell| chart(cell) == of_chart).collect();
            comparisons.add_chart(run, &cells, visits);
        }
        comparisons
    }

    /// How a cell compares.
    pub(crate) fn cell(&self, id: &str) -> OfCell {
        self.of.get(id).cloned().unwrap_or_default()
    }

    fn add_chart(&mut self, run: &RunRecord, cells: &[&CellRecord], visits: &[Visit]) {
        let mut families: BTreeMap<Part, Vec<(String, Estimate)>> = BTreeMap::new();
        let blocks: BTreeSet<(&str, &str)> =
            cells.iter().filter_map(|cell| Some((cell.block.as_str(), cell.baseline.as_deref()?))).collect();
        for (block, baseline) in blocks {
            let of_block = BlockVisits::new(block, baseline, visits);
            let counted = of_block.counted();
            let parts: Vec<(Part, Observations)> = Part::of_run(run).map(|part| (part, of_block.observations(part, &counted))).collect();
            for cell in cells.iter().filter(|cell| cell.block == block) {
                let wanted = if cell.id == baseline { Instance::Control } else { Instance::Cell(cell.id.clone()) };
                let missing = match counted.len() {
                    _ if cell.id == baseline => None,
                    0 => Some("the baseline was not timed beside it".to_owned()),
                    launches if launches < LEAST_LAUNCHES => {
                        Some(format!("too few launches for a verdict: {launches}, and {LEAST_LAUNCHES} are needed"))
                    }
                    _ if parts[0].1.of.contains_key(&wanted) => None,
                    _ => Some("it was not timed beside the baseline in every launch".to_owned()),
                };
                let disturbed = (of_block.disturbed().len(), of_block.launches().len());
                let ratio = |(part, observations): &(Part, Observations)| Some((*part, observations.ratio(&wanted)?));
                let ratios = parts.iter().filter_map(ratio).collect();
                self.of.insert(cell.id.clone(), OfCell { ratios, missing, disturbed, counted: counted.len(), ..OfCell::default() });
                if counted.len() >= LEAST_LAUNCHES {
                    for (part, observations) in &parts {
                        let estimate = observations.estimate(&wanted).map(|estimate| (cell.id.clone(), estimate));
                        families.entry(*part).or_default().extend(estimate);
                    }
                }
            }
        }
        let judgement = Judgement { margin: run.margin, ..Judgement::default() };
        for (part, family) in families {
            let estimates: Vec<Estimate> = family.iter().map(|(_, estimate)| *estimate).collect();
            for ((cell, _), comparison) in family.iter().zip(judgement.judge(&estimates)) {
                self.of.entry(cell.clone()).or_default().parts.insert(part, comparison);
            }
        }
    }
}

/// How much the ratios of whole steps spread in each block of a run, with its name.
pub(crate) fn spreads(run: &RunRecord, visits: &[Visit]) -> Vec<(String, Pooled)> {
    let mut blocks: Vec<(&str, &str)> = vec![];
    for cell in &run.cells {
        if let Some(baseline) = cell.baseline.as_deref().filter(|_| !blocks.iter().any(|(block, _)| *block == cell.block)) {
            blocks.push((&cell.block, baseline));
        }
    }
    let of_block = |(block, baseline): (&str, &str)| {
        let visits = BlockVisits::new(block, baseline, visits);
        Some((block.to_owned(), visits.observations(Part::Step, &visits.counted()).pooled?))
    };
    blocks.into_iter().filter_map(of_block).collect()
}

/// What is shown together, and corrected together.
fn chart(cell: &CellRecord) -> &str {
    &cell.workload
}
