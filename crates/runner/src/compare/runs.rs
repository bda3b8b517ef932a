//! Times of two runs: processes of different times, so nothing is paired.

use kv_metrics::{Estimate, LEAST_LAUNCHES};
use kv_report::{CellRecord, Place, Results, Role, Row, Status, TimeTable, Times, Visit, matched};

use super::judged::{Basis, Observed, alone, judged};
use crate::sweep::{BlockVisits, Instance, Launches, Part};

/// What is compared: the id of the metric, and where its launches come from.
const METRICS: [(&str, Option<Part>); 3] = [("tpot_ms_p50", Some(Part::Step)), ("cache_ms_p50", Some(Part::Cache)), (TTFT, None)];
const TTFT: &str = "ttft_ms";

/// How the times of a run changed since an earlier one.
pub(super) fn times(before: &Results, after: &Results) -> Times {
    if !after.run.run_id.is_empty() && before.run.run_id == after.run.run_id {
        return Times::Same;
    }
    match (&before.run.machine_id, &after.run.machine_id) {
        (Some(first), Some(second)) if first == second => {}
        (Some(first), Some(second)) => {
            return Times::NotCompared(format!(
                "A ran on the machine {first} and B on {second}, and times of two machines say nothing of the code"
            ));
        }
        (first, _) => {
            let side = if first.is_none() { "A" } else { "B" };
            return Times::NotCompared(format!("the machine of {side} is unknown"));
        }
    }
    let rows = matched(before, after);
    let rows: Vec<(&Row, &Row)> =
        rows.into_iter().filter(|(first, second)| [first, second].iter().all(|row| row.status == Status::Ok)).collect();
    let both = Both { before, after };
    let observed: Vec<Observed> = rows.iter().flat_map(|pair| METRICS.iter().filter_map(|metric| both.observed(*pair, *metric))).collect();
    let ttft = observed
        .iter()
        .find(|observed| observed.metric == TTFT)
        .map(|_| "The time to first token is not judged between runs: its parts are composed or measured once.".to_owned());
    let margin = before.run.margin.max(after.run.margin);
    Times::Compared(TimeTable {
        how: vec![
            "The launches of each run are its observations; the intervals of ratios of their geometric means are Welch's, corrected for all cells of a workload (Holm).".into(),
            "Runs at different times differ by more than the intervals of one run say: where buffers lie, what else the machine does and its clock are others. So the verdict is on how a cell changed over how the baseline of its length changed. What all cells share cannot be told from the machine this way; `run --against` can.".into(),
        ]
        .into_iter()
        .chain(ttft)
        .collect(),
        rows: judged(observed, Basis::OverBaseline, margin),
        floor: rows.iter().filter_map(|(_, row)| both.floor_in_words(row)).collect(),
    })
}

struct Both<'a> {
    before: &'a Results,
    after: &'a Results,
}

impl Both<'_> {
    fn observed(&self, (first, second): (&Row, &Row), (metric, part): (&'static str, Option<Part>)) -> Option<Observed> {
        let ms = (first.value(metric)?, second.value(metric)?);
        let sides = [(self.before, first), (self.after, second)];
        let launches = sides.map(|(results, row)| logarithms(results, &row.cell, metric, part));
        let role = self.role(first, second);
        let of_baseline = part.filter(|_| role == Role::Compared).and_then(|part| {
            let [before, after] = sides.map(|(results, row)| over_baseline(results, &row.cell, &Instance::Cell(row.cell.id.clone()), part));
            Estimate::unpaired(&before?, &after?)
        });
        let floor = part.and_then(|part| self.control(second, part)).map_or(0.0, |control| control.mean.abs());
        let fewest = launches.iter().map(Vec::len).min().unwrap_or(0);
        let missing = match role {
            _ if part.is_none() => "its parts are composed or measured once".to_owned(),
            Role::Alone => "a cell is compared with no baseline, so that nothing tells its change from the machine's".to_owned(),
            _ if fewest < LEAST_LAUNCHES => format!("too few launches count: {fewest}, and {LEAST_LAUNCHES} are needed in both runs"),
            _ => "a cell was not timed beside the baseline in every launch".to_owned(),
        };
        let own = Estimate::unpaired(&launches[0], &launches[1]);
        Some(Observed { place: Place::of(&second.cell), metric, role, ms, ratio: ms.1 / ms.0, own, of_baseline, floor, missing })
    }

    /// As what a cell is timed, if both runs agree.
    fn role(&self, first: &Row, second: &Row) -> Role {
        let baseline = |results: &Results, row: &Row| {
            let id = row.cell.baseline.as_ref()?;
            results.run.cells.iter().find(|cell| cell.id == *id).map(|cell| cell.label.clone())
        };
        match (baseline(self.before, first), baseline(self.after, second)) {
            (Some(first), Some(other)) if first != other => Role::Alone,
            (Some(_), Some(label)) if label == second.cell.label => Role::Baseline,
            (Some(_), Some(_)) => Role::Compared,
            _ => Role::Alone,
        }
    }

    /// How the baseline's double changed over the baseline itself, at the length of a row.
    fn control(&self, row: &Row, part: Part) -> Option<Estimate> {
        let [before, after] = [self.before, self.after].map(|results| {
            let cell = results.run.cells.iter().find(|cell| is_at(cell, row) && cell.baseline.as_ref() == Some(&cell.id))?;
            over_baseline(results, cell, &Instance::Control, part)
        });
        Estimate::unpaired(&before?, &after?)
    }

    /// What the baseline changed by, in words; nothing for other rows.
    fn floor_in_words(&self, row: &Row) -> Option<String> {
        let other = self.before.rows.iter().find(|other| Place::of(&other.cell) == Place::of(&row.cell))?;
        if self.role(other, row) != Role::Baseline {
            return None;
        }
        let change = |metric: &'static str, part: Part| {
            let sides = [(self.before, other), (self.after, row)];
            let [before, after] = sides.map(|(results, row)| logarithms(results, &row.cell, metric, Some(part)));
            Some(alone(&Estimate::unpaired(&before, &after)?))
        };
        let step = change("tpot_ms_p50", Part::Step)?;
        let model = change("model_ms_p50", Part::Model).filter(|_| row.value("model_ms_p50").is_some());
        let model = model.map_or(String::new(), |model| format!(", and the model's part, whose work no cache changes, {model}"));
        let control = self.control(row, Part::Step).map(|control| alone(&control));
        let control =
            control.map_or(String::new(), |control| format!(" Its double changed by {control} over it: what that is off 1 is noise."));
        Some(format!("Floor: {} takes {step} times as long as in A{model}.{control}", Place::of(&row.cell)))
    }
}

fn is_at(cell: &CellRecord, row: &Row) -> bool {
    (&cell.workload, cell.batch, cell.seq_len) == (&row.cell.workload, row.cell.batch, row.cell.seq_len)
}

/// The logarithms of a cell's times, one per launch that counts.
fn logarithms(results: &Results, cell: &CellRecord, metric: &str, part: Option<Part>) -> Vec<f64> {
    let launches = Launches::of(cell, &results.visits);
    let time = |visit: &&Visit| match part {
        Some(part) => part.median(visit),
        None => visit.values.get(metric).copied(),
    };
    // The time to first token may have been measured in one that does not count otherwise.
    let launches = if part.is_some() { launches.counted } else { launches.all };
    launches.iter().filter_map(time).map(f64::ln).filter(|logarithm| logarithm.is_finite()).collect()
}

/// The logarithms of an instance's ratios to its baseline, one per launch that counts.
fn over_baseline(results: &Results, cell: &CellRecord, instance: &Instance, part: Part) -> Option<Vec<f64>> {
    let visits = BlockVisits::new(&cell.block, cell.baseline.as_ref()?, &results.visits);
    visits.observations(part, &visits.counted()).of.remove(instance)
}
