//! Every instance compared with every other, for a reader who takes another baseline.

use std::collections::BTreeSet;

use kv_report::{CellRecord, Pair, RunRecord, Visit};

use super::comparisons::Comparisons;
use super::judged::value;
use super::observations::Part;

/// The comparisons with each label as the baseline, the run's own included. Each is judged as the run's own are: the chart of
/// one baseline is a family.
pub(super) fn pairs(run: &RunRecord, visits: &[Visit]) -> Vec<Pair> {
    let labels: BTreeSet<&str> = run.cells.iter().filter(|cell| cell.baseline.is_some()).map(|cell| cell.label.as_str()).collect();
    labels.into_iter().flat_map(|label| with_baseline(run, visits, label)).collect()
}

fn with_baseline(run: &RunRecord, visits: &[Visit], label: &str) -> Vec<Pair> {
    let mut run = run.clone();
    let of_block = |block: &str| run.cells.iter().find(|cell| cell.block == block && cell.label == label).map(|cell| cell.id.clone());
    let baselines: Vec<Option<String>> = run.cells.iter().map(|cell| cell.baseline.as_ref().and(of_block(&cell.block))).collect();
    for (cell, baseline) in run.cells.iter_mut().zip(baselines) {
        cell.baseline = baseline;
    }
    let comparisons = Comparisons::of(&run, visits);
    let of_cell = |cell: &CellRecord| {
        let baseline = cell.baseline.clone().filter(|baseline| *baseline != cell.id)?;
        let compared = comparisons.cell(&cell.id);
        let of_part = |metric: &str, part: Part| {
            let value = value(compared.parts.get(&part)?);
            Some(Pair { cell: cell.id.clone(), baseline: baseline.clone(), metric: metric.into(), value })
        };
        Some([of_part("tpot_ratio", Part::Step), of_part("cache_ratio", Part::Cache)].into_iter().flatten().collect::<Vec<_>>())
    };
    run.cells.iter().filter_map(of_cell).flatten().collect()
}

#[cfg(test)]
mod tests {
    use kv_report::{Pass, StepTime};

    use super::*;

    fn visit(cell: &str, launch: u32, ms: f64) -> Visit {
        let step =
            StepTime { phase: "decode".into(), step: 0, round: 0, warm_up: false, position: 9, step_ms: ms, cache_ms: ms, seam_ms: 0.0 };
        Visit { block: Some("block".into()), launch, process: Some(launch), steps: vec![step], ..Visit::passed(cell, Pass::Latency) }
    }

    #[test]
    fn a_pair_is_the_inverse_of_its_inverse_and_the_control_is_nobodys_pair() {
        let cell = |id: &str| CellRecord {
            id: id.into(),
            label: id.into(),
            block: "block".into(),
            baseline: Some("a".into()),
            ..CellRecord::default()
        };
        let run = RunRecord { cells: ["a", "b", "c"].map(cell).into(), ..crate::sweep::rows::tests::run() };
        let visits: Vec<Visit> = (0..4u32)
            .flat_map(|launch| {
                let noise = 1.0 + 0.001 * f64::from(launch);
                [
                    visit("a", launch, 1.0),
                    visit("b", launch, 2.0 * noise),
                    visit("c", launch, 4.0),
                    Visit { control: true, ..visit("a", launch, 1.0) },
                ]
            })
            .collect();
        let pairs = pairs(&run, &visits);
        assert_eq!(pairs.len(), 3 * 2 * 2, "each with two others, in two parts");
        let ratio = |cell: &str, baseline: &str| {
            let is_it = |pair: &&Pair| pair.cell == cell && pair.baseline == baseline && pair.metric == "tpot_ratio";
            pairs.iter().find(is_it).unwrap().value.clone()
        };
        assert!((ratio("c", "b").value * ratio("b", "c").value - 1.0).abs() < 1e-9);
        assert!((ratio("b", "a").value - 2.003).abs() < 0.01 && (ratio("a", "c").value - 0.25).abs() < 1e-9);
        assert_eq!(ratio("b", "a").verdict.as_deref(), Some("slower"));
        assert_eq!(ratio("a", "b").verdict.as_deref(), Some("faster"));
    }
}
