//! Comparison blocks: the cells that are timed in one process, because they are compared with each other.

use crate::config::Workload;
use crate::plan::Plan;

/// Cells of the same workload, length and batch whose caches fit into memory together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// In words.
    pub(crate) name: String,
    /// Indices into the plan's cells.
    pub(crate) cells: Vec<usize>,
    /// The baseline's cell, where it belongs to an earlier block of the same length: it is timed again, so that the others
    /// can be compared with it.
    pub(crate) again: Option<usize>,
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

/// The blocks of a plan, in its order, and the cells that fit into none.
///
/// Cells that do not fit together are packed into several blocks, each with the baseline. The baseline is the cell of the
/// plan's baseline, or the first, among those that fit alone and for which
/// `can_be_baseline` is true.
pub(crate) fn blocks(plan: &Plan, can_be_baseline: impl Fn(usize) -> bool, sizes: &Sizes<'_>) -> (Vec<Block>, Vec<TooLarge>) {
    let mut groups: Vec<((Workload, usize, usize), Vec<usize>)> = vec![];
    for (index, cell) in plan.cells.iter().enumerate() {
        let key = (cell.workload, cell.batch, cell.seq_len);
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, cells)) => cells.push(index),
            None => groups.push((key, vec![index])),
        }
    }
    let mut all = vec![];
    let mut too_large = vec![];
    for ((workload, batch, seq_len), cells) in groups {
        let is_named = |cell: &&usize| plan.baseline.as_ref() == Some(&plan.cells[**cell].label);
        let fits_alone = |cell: &&usize| sizes.of(&[**cell]) <= sizes.limit;
        let candidates = || cells.iter().filter(|cell| can_be_baseline(**cell)).filter(fits_alone);
        let baseline = candidates().find(is_named).or_else(|| candidates().next()).copied();
        let with_baseline = |cells: &[usize]| match baseline {
            Some(baseline) if !cells.contains(&baseline) => sizes.of(&[cells, &[baseline]].concat()),
            _ => sizes.of(cells),
        };
        let mut packs: Vec<Vec<usize>> = vec![];
        // The baseline goes first: it belongs to the first pack.
        let others = cells.iter().copied().filter(|cell| Some(*cell) != baseline);
        for cell in baseline.into_iter().chain(others) {
            let bytes = with_baseline(&[cell]);
            if bytes > sizes.limit {
                let baseline_bytes = baseline.map_or(0, sizes.caches);
                too_large.push(TooLarge { cell, bytes, baseline_bytes });
                continue;
            }
            match packs.last_mut().filter(|pack| with_baseline(&[pack.as_slice(), &[cell]].concat()) <= sizes.limit) {
                Some(pack) => pack.push(cell),
                None => packs.push(vec![cell]),
            }
        }
        let several = packs.len() > 1;
        for (part, mut pack) in packs.into_iter().enumerate() {
            let again = baseline.filter(|baseline| !pack.contains(baseline));
            pack.sort_unstable();
            let of_batch = if batch > 1 { format!(" ×{batch}") } else { String::new() };
            let of_part = if several { format!(", part {}", part + 1) } else { String::new() };
            all.push(Block { name: format!("{} at {seq_len}{of_batch}{of_part}", workload.name()), cells: pack, again });
        }
    }
    (all, too_large)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FillChoice;
    use crate::plan::Cell;

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
            cells,
            decode_steps: 2,
            prefill_chunk: 8,
            seed: 0,
            fill: FillChoice::Replay,
            launches: 1,
            ttft_launches: 1,
            timeout_s: None,
            memory_limit: None,
            baseline: baseline.map(str::to_owned),
        }
    }

    /// A block's cells, and the baseline if it is timed again.
    type Pack = (Vec<usize>, Option<usize>);

    fn packed(plan: &Plan, caches: &[u64], limit: u64) -> (Vec<Pack>, Vec<(usize, u64)>) {
        let sizes = Sizes { caches: &|cell| caches[cell], beside: &|_| 10, limit };
        let (blocks, too_large) = blocks(plan, |cell| cell != 0, &sizes);
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
        // 10 beside, the baseline's 5, and what is left of 30.
        let (blocks, too_large) = packed(&plan, &[9, 5, 9, 6], 30);
        assert_eq!(blocks, [(vec![0, 1], None), (vec![2, 3], Some(1))]);
        assert_eq!(too_large, []);
        let (blocks, too_large) = packed(&plan, &[9, 5, 16, 6], 30);
        assert_eq!(blocks, [(vec![0, 1, 3], None)]);
        assert_eq!(too_large, [(2, 31)]);
        // A baseline that does not fit leaves its place to the next one that does.
        let (blocks, too_large) = packed(&plan, &[9, 25, 5, 6], 30);
        assert_eq!((blocks, too_large), (vec![(vec![0, 2, 3], None)], vec![(1, 40)]));
    }

    /// A strategy that recomputes needs much for its step, and only the blocks that it is in pay for it.
    #[test]
    fn what_one_needs_for_its_steps_does_not_push_the_others_out() {
        let plan = plan(&["naive", "b", "c"], &[8], None);
        let sizes = Sizes { caches: &|cell| [0, 8, 8][cell], beside: &|cell| [90, 10, 10][cell], limit: 60 };
        let (blocks, too_large) = blocks(&plan, |cell| cell != 0, &sizes);
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0].cells, [1, 2]);
        assert_eq!(too_large, [TooLarge { cell: 0, bytes: 98, baseline_bytes: 8 }]);
    }

    #[test]
    fn without_a_name_the_first_that_can_is_the_baseline() {
        let plan = plan(&["naive", "b", "c"], &[8], None);
        assert_eq!(packed(&plan, &[8, 8, 8], 26).0, [(vec![0, 1], None), (vec![2], Some(1))]);
    }
}
