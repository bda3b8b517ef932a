//! Going on with an unfinished run, on this machine or on another.

use std::collections::BTreeSet;

use kv_report::{OriginRecord, Pass, RunRecord, RunState, Visit};

use crate::Problem;
use crate::run_folder::Left;
use crate::run_record::differences;

/// A run that is to be gone on with.
#[derive(Debug)]
pub(crate) struct GoneOn {
    pub(crate) run: RunRecord,
    pub(crate) visits: Vec<Visit>,
    /// Whether visits of the log were given up, so that it is to be written anew.
    pub(crate) gave_up: bool,
}

/// Goes on with a run that was left, under the record of one that would begin now.
///
/// What was begun on one machine is not finished on another: ratios are taken within a process, and all launches of a block
/// belong together. So a part that goes on elsewhere begins the blocks again that were not timed to the end, and checks strategies
/// again that are not done. Other runs do not go on elsewhere.
///
/// # Errors
/// A [`Problem`] that says what changed since.
pub(crate) fn go_on(now: RunRecord, Left { run, visits }: Left) -> Result<GoneOn, Problem> {
    let is_here = same_place(&run, &now);
    if !same_plan(&run, &now) || !(is_here || now.part.is_some()) {
        let message =
            format!("the unfinished run of {} cannot be resumed: {} changed since", run.started, differences(&run, &now).join(" and "));
        return Err(Problem::new(message).help(format!("`--overwrite` begins again. What was run then: {}", run.command)));
    }
    let news: Vec<String> = now.warnings.iter().filter(|warning| !run.warnings.contains(warning)).cloned().collect();
    let (mut run, kept) = if is_here { (run, visits.clone()) } else { elsewhere(run, visits.clone(), now) };
    run.state = RunState::Running;
    run.warnings.extend(news);
    let gave_up = kept.len() < visits.len();
    Ok(GoneOn { run, visits: kept, gave_up })
}

/// Whether two runs measure the same with the same program.
pub(crate) fn same_plan(one: &RunRecord, other: &RunRecord) -> bool {
    one.plan_hash == other.plan_hash && one.part == other.part && one.build == other.build
}

/// Whether two runs measure on the same machine in the same way.
fn same_place(one: &RunRecord, other: &RunRecord) -> bool {
    let fact = |run: &RunRecord, name: &str| run.environment.facts.iter().find(|fact| fact.name == name)?.value.clone();
    let is_same = |name: &str| fact(one, name) == fact(other, name);
    one.machine_id == other.machine_id && is_same("CPU") && is_same("threads used") && is_same("attention kernels")
}

/// The run on the machine of `now`, without the times of blocks that were not timed to the end. What passed the conformance suite
/// there need not pass it here.
fn elsewhere(before: RunRecord, mut visits: Vec<Visit>, now: RunRecord) -> (RunRecord, Vec<Visit>) {
    // Bytes are counted after the last launch.
    let is_after = |pass: Pass| matches!(pass, Pass::Memory | Pass::Text | Pass::Attention | Pass::Quality);
    let counted: BTreeSet<&str> = visits.iter().filter(|visit| is_after(visit.pass)).map(|visit| visit.cell.as_str()).collect();
    let of_cell = |cell: &kv_report::CellRecord| counted.contains(cell.id.as_str()).then(|| cell.block.clone());
    let timed: BTreeSet<String> = before.cells.iter().filter_map(of_cell).collect();
    visits.retain(|visit| visit.pass != Pass::Gate && visit.block.as_ref().is_none_or(|block| timed.contains(block)));
    let blocks: Vec<String> = timed.into_iter().filter(|block| before.origin_of(block).is_none()).collect();
    let origin = OriginRecord {
        part: before.part.as_ref().map(|part| part.part),
        run_id: before.run_id.clone(),
        order_seed: before.order_seed,
        machine_id: before.machine_id.clone(),
        environment: before.environment.clone(),
        blocks,
    };
    let mut run = RunRecord { machine_id: now.machine_id, environment: now.environment, ..before };
    if !origin.blocks.is_empty() {
        run.origins.push(origin);
    }
    (run, visits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join::Found;
    use crate::join::tests::part;

    #[test]
    fn another_machine_checks_strategies_again() {
        let Found { run, visits, .. } = part(1, &[("ppl", 3.0)]);
        let visits = [vec![Visit::passed("paged", Pass::Gate)], visits].concat();
        let left = || Left { run: run.clone(), visits: visits.clone() };
        let here = go_on(run.clone(), left()).unwrap();
        assert_eq!((here.visits.len(), here.gave_up), (2, false));
        let there = go_on(RunRecord { machine_id: Some("another".into()), ..run.clone() }, left()).unwrap();
        assert_eq!((there.visits.len(), there.visits[0].pass, there.gave_up), (1, Pass::Quality, true));
        assert_eq!(there.run.origins[0].machine_id, run.machine_id);
    }
}
