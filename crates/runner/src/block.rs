//! Comparison blocks: the cells that are timed in one process, because they are compared with each other.

use crate::config::Workload;
use crate::estimate::Reuse;
use crate::plan::Plan;

/// Cells of the same workload, length and batch whose caches fit into memory together. Those that recompute are apart: they
/// take so long that they would only stretch the rounds of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// In words.
    pub(crate) name: String,
    /// Indices into the plan's cells.
    pub(crate) cells: Vec<usize>,
    /// The cell that the others are compared with. Cells that recompute are compared with none.
    pub(crate) baseline: Option<usize>,
    /// The baseline's cell, where it belongs to an earlier block of the same length: it is timed again, so that the others
    /// can be compared with it.
    pub(crate) again: Option<usize>,
    /// The baseline, where it is also timed as an instance of its own: what the two differ by is noise. `None` if there is no
    /// baseline, or no room for its double.
    pub(crate) control: Option<usize>,
    /// Whether its cells recompute.
    pub(crate) reuse: Reuse,
}

/// A cell that does not fit into the memory limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TooLarge {
    pub(crate) cell: usize,
    /// Bytes that it needs, the baseline beside it included.
    pub(crate) bytes: u64,
    /// The part of the baseline's caches; 0 if there is none beside it.
    pub(crate) baseline_bytes: u64,
}

/// What the memory of a block is made of.
pub(crate) struct Sizes<'a> {
    /// Bytes of a cell's caches; 0 if the strategy does not say.
    pub(crate) caches: &'a dyn Fn(usize) -> u64,
    /// Bytes that a block of this cell takes beside its caches: the weights, and what a step needs.
    pub(crate) beside: &'a dyn Fn(usize) -> u64,
    /// Bytes that a process may take.
    pub(crate) limit: u64,
}

impl Sizes<'_> {
    /// Bytes of a process that holds these cells.
    fn of(&self, cells: &[usize]) -> u64 {
        let caches = cells.iter().map(|cell| (self.caches)(*cell)).fold(0, u64::saturating_add);
        // One cell takes its steps at a time.
        caches.saturating_add(cells.iter().map(|cell| (self.beside)(*cell)).max().unwrap_or(0))
    }
}

/// What the cells of a block have in common: workload, batch, length, and whether they recompute.
type Group = (Workload, usize, usize, Reuse);

/// The blocks of a plan, in its order, and the cells that fit into none.
///
/// Cells that do not fit together are packed into several blocks, each with the baseline. The baseline is the cell of the
/// plan's baseline, or the first, among those that fit alone, do not recompute and for
/// which `can_be_baseline` is true.
pub(crate) fn blocks(
    plan: &Plan,
    reuse: impl Fn(usize) -> Reuse,
    can_be_baseline: impl Fn(usize) -> bool,
    sizes: &Sizes<'_>,
) -> (Vec<Block>, Vec<TooLarge>) {
    let mut groups: Vec<(Group, Vec<usize>)> = vec![];
    for (index, cell) in plan.cells.iter().enumerate() {
        let key = (cell.workload, cell.batch, cell.seq_len, reuse(index));
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, cells)) => cells.push(index),
            None => groups.push((key, vec![index])),
        }
    }
    let mut all = vec![];
    let mut too_large = vec![];
    for ((workload, batch, seq_len, reuse), cells) in groups {
        let is_named = |cell: &&usize| plan.baseline.as_ref() == Some(&plan.cells[**cell].label);
        let fits_alone = |cell: &&usize| sizes.of(&[**cell]) <= sizes.limit;
        let candidates = || cells.iter().filter(|_| reuse == Reuse::Caches).filter(|cell| can_be_baseline(**cell)).filter(fits_alone);
        let baseline = candidates().find(is_named).or_else(|| candidates().next()).copied();
        let bytes_of = |cells: &[usize], control: Option<usize>| {
            let mut all = cells.to_vec();
            all.extend(baseline.filter(|baseline| !cells.contains(baseline)));
            all.extend(control);
            sizes.of(&all)
        };
        let mut packs: Vec<(Vec<usize>, Option<usize>)> = vec![];
        // The baseline goes first: it belongs to the first pack.
        let others = cells.iter().copied().filter(|cell| Some(*cell) != baseline);
        for cell in baseline.into_iter().chain(others) {
            let bytes = bytes_of(&[cell], None);
            if bytes > sizes.limit {
                let baseline_bytes = baseline.map_or(0, sizes.caches);
                too_large.push(TooLarge { cell, bytes, baseline_bytes });
                continue;
            }
            match packs.last_mut().filter(|(pack, control)| bytes_of(&[pack.as_slice(), &[cell]].concat(), *control) <= sizes.limit) {
                Some((pack, _)) => pack.push(cell),
                None => {
                    packs.push((vec![cell], baseline.filter(|_| bytes_of(&[cell], baseline) <= sizes.limit)));
                }
            }
        }
        let several = packs.len() > 1;
        for (number, (mut pack, control)) in packs.into_iter().enumerate() {
            let again = baseline.filter(|baseline| !pack.contains(baseline));
            pack.sort_unstable();
            let of_batch = if batch > 1 { format!(" ×{batch}") } else { String::new() };
            let recomputed = if reuse == Reuse::Recomputes { ", recomputed" } else { "" };
            let of_pack = if several { format!(", pack {}", number + 1) } else { String::new() };
            let name = format!("{} at {seq_len}{of_batch}{recomputed}{of_pack}", workload.name());
            all.push(Block { name, cells: pack, baseline, again, control, reuse });
        }
    }
    (all, too_large)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FillChoice, HugePages, Level};
    use crate::plan::{Baseline, Cell};

    fn plan(labels: &[&str], lengths: &[usize], baseline: Option<&str>) -> Plan {
        let cell = |label: &str, seq_len: usize| Cell {
            label: label.into(),
            strategy: *crate::builtin().get("contiguous").unwrap(),
            config: toml::Table::new(),
            workload: Workload::Decode,
            seq_len,
            batch: 1,
        };
        let cells = lengths.iter().flat_map(|length| labels.iter().map(|label| cell(label, *length))).collect();
        Plan {
            level: Level::Model,
            context: 4096,
            cells,
            decode_steps: 2,
            prefill_chunk: 8,
            seed: 0,
            fill: FillChoice::Replay,
            rounds: None,
            launches: 1,
            margin: 0.03,
            huge_pages: HugePages::Advise,
            ttft_launches: 1,
            timeout_s: None,
            memory_limit: None,
            baseline: baseline.map(str::to_owned),
            baseline_is: Baseline::Marked,
            quality: None,
            scripted: vec![],
        }
    }

    /// A block's cells, and the baseline if it is timed again.
    type Pack = (Vec<usize>, Option<usize>);

    fn packed(plan: &Plan, caches: &[u64], limit: u64) -> (Vec<Pack>, Vec<(usize, u64)>) {
        let sizes = Sizes { caches: &|cell| caches[cell], beside: &|_| 10, limit };
        let (blocks, too_large) = blocks(plan, |_| Reuse::Caches, |cell| cell != 0, &sizes);
        (
            blocks.into_iter().map(|block| (block.cells, block.again)).collect(),
            too_large.into_iter().map(|cell| (cell.cell, cell.bytes)).collect(),
        )
    }

    #[test]
    fn each_length_is_a_block() {
        let plan = plan(&["a", "b"], &[8, 16], None);
        assert_eq!(packed(&plan, &[1; 4], 100), (vec![(vec![0, 1], None), (vec![2, 3], None)], vec![]));
    }

    #[test]
    fn caches_that_do_not_fit_together_are_packed_each_with_the_baseline() {
        let plan = plan(&["a", "b", "c", "d"], &[8], Some("b"));
        // 10 beside, twice the baseline's 5, and what is left of 35.
        let (blocks, too_large) = packed(&plan, &[9, 5, 9, 6], 35);
        assert_eq!(blocks, [(vec![0, 1], None), (vec![2, 3], Some(1))]);
        assert_eq!(too_large, []);
        let (blocks, too_large) = packed(&plan, &[9, 5, 16, 6], 30);
        assert_eq!(blocks, [(vec![0, 1], None), (vec![3], Some(1))]);
        assert_eq!(too_large, [(2, 31)]);
        // A baseline that does not fit leaves its place to the next one that does.
        let (blocks, too_large) = packed(&plan, &[9, 25, 5, 6], 30);
        assert_eq!((blocks, too_large), (vec![(vec![0, 2], None), (vec![3], Some(2))], vec![(1, 40)]));
    }

    /// A strategy that recomputes needs much for its step, and only the blocks that it is in pay for it.
    #[test]
    fn what_one_needs_for_its_steps_does_not_push_the_others_out() {
        let plan = plan(&["naive", "b", "c"], &[8], None);
        let sizes = Sizes { caches: &|cell| [0, 8, 8][cell], beside: &|cell| [90, 10, 10][cell], limit: 60 };
        let reuse = |cell| if cell == 0 { Reuse::Recomputes } else { Reuse::Caches };
        let (blocks, too_large) = blocks(&plan, reuse, |_| true, &sizes);
        assert_eq!(blocks.len(), 1);
        assert_eq!((blocks[0].cells.as_slice(), blocks[0].baseline), ([1, 2].as_slice(), Some(1)));
        assert_eq!(too_large, [TooLarge { cell: 0, bytes: 90, baseline_bytes: 0 }]);
    }

    #[test]
    fn without_a_name_the_first_that_can_is_the_baseline() {
        let plan = plan(&["naive", "b", "c"], &[8], None);
        assert_eq!(packed(&plan, &[8, 8, 8], 34).0, [(vec![0, 1], None), (vec![2], Some(1))]);
    }

    #[test]
    fn what_recomputes_is_apart_and_compared_with_nothing() {
        let plan = plan(&["naive", "b", "c"], &[8], None);
        let sizes = Sizes { caches: &|_| 1, beside: &|_| 1, limit: 60 };
        let (blocks, _) = blocks(&plan, |cell| if cell == 0 { Reuse::Recomputes } else { Reuse::Caches }, |_| true, &sizes);
        let blocks: Vec<_> = blocks.iter().map(|block| (block.name.as_str(), block.cells.clone(), block.baseline)).collect();
        assert_eq!(blocks, [("decode at 8, recomputed", vec![0], None), ("decode at 8", vec![1, 2], Some(1))]);
    }

    /// The baseline's double is left out where there is no room for it, rather than the cell.
    #[test]
    fn without_room_there_is_no_control() {
        let plan = plan(&["a", "b"], &[8], None);
        let sizes = Sizes { caches: &|cell| [10, 12][cell], beside: &|_| 5, limit: 28 };
        let (blocks, too_large) = blocks(&plan, |_| Reuse::Caches, |_| true, &sizes);
        let controls: Vec<_> = blocks.iter().map(|block| (block.cells.clone(), block.control)).collect();
        assert_eq!(controls, [(vec![0], Some(0)), (vec![1], None)]);
        assert_eq!(too_large, []);
    }
}
