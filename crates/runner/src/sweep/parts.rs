//! The part of a plan that a run measures. Everything else that is predicted is predicted of the whole plan: which cell is
//! followed along the text, for one, must not depend on who measures it.

use kv_report::{AssignedBlock, CellRecord, PartRecord};

use super::{Prediction, Setting};
use crate::block::Block;
use crate::partition::{Load, Partition, Share, assign, shares};

/// The threads of the machine by whose speed blocks are assigned to parts. It is nobody's machine.
const REFERENCE_THREADS: usize = 8;

/// How a plan is shared.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// The part that this run measures.
    pub(crate) own: Partition,
    /// The part of each block.
    assigned: Vec<u32>,
    /// What every part takes on this machine.
    shares: Vec<Share>,
}

impl Prediction<'_> {
    /// Leaves all blocks but those of a part to others. What is recorded is what this part needs.
    pub(crate) fn take_part(&mut self, own: Partition, plan_hash: &str, setting: &Setting<'_>, model_hash: &str) {
        let assigned = assign(&self.loads_at(REFERENCE_THREADS), own.of, plan_hash);
        let mut shares = shares(&self.loads_at(setting.threads), &assigned, own.of);
        // Workers of both builds take turns.
        shares.iter_mut().for_each(|share| share.milliseconds = share.milliseconds.saturating_mul(setting.builds().len() as u64));
        self.parts = Some(Parts { own, assigned, shares });
        self.predict_recordings(setting, model_hash);
    }

    /// The blocks that this run measures.
    pub(crate) fn own_blocks(&self) -> impl Iterator<Item = &Block> {
        let is_own = |index: usize| self.parts.as_ref().is_none_or(|parts| parts.assigned[index] == parts.own.part);
        self.blocks.iter().enumerate().filter(move |(index, _)| is_own(*index)).map(|(_, block)| block)
    }

    /// Whether this run measures a cell, or says why it cannot be measured.
    pub(crate) fn is_own(&self, cell: usize) -> bool {
        let has_block = || self.blocks.iter().any(|block| block.cells.contains(&cell));
        let is_first = self.parts.as_ref().is_none_or(|parts| parts.own.part == 1);
        self.own_blocks().any(|block| block.cells.contains(&cell)) || (is_first && !has_block())
    }

    /// The part that this run measures, and what every part takes on this machine beside what it records. `None` if the plan is
    /// not shared.
    pub(crate) fn shares(&self) -> Option<(Partition, &[Share])> {
        self.parts.as_ref().map(|parts| (parts.own, parts.shares.as_slice()))
    }

    /// The names of the blocks of a part.
    pub(crate) fn names_of_part(&self, part: u32) -> Vec<&str> {
        let assigned = self.parts.iter().flat_map(|parts| &parts.assigned);
        self.blocks.iter().zip(assigned).filter(|(_, of)| **of == part).map(|(block, _)| block.name.as_str()).collect()
    }

    /// What the record of a run says of its part, given the cells of the whole plan.
    pub(crate) fn part_record(&self, cells: &[CellRecord]) -> Option<PartRecord> {
        let Parts { own: Partition { part, of }, assigned, .. } = self.parts.as_ref()?;
        let block = |(block, part): (&Block, &u32)| AssignedBlock { name: block.name.clone(), part: *part };
        Some(PartRecord { part: *part, of: *of, blocks: self.blocks.iter().zip(assigned).map(block).collect(), cells: cells.to_vec() })
    }

    /// What the blocks cost with so many threads, by formulas alone.
    fn loads_at(&self, threads: usize) -> Vec<Load> {
        let there = Prediction { estimate: self.estimate.at(threads), ..self.clone() };
        let load = |block: &Block| Load {
            block: block.name.clone(),
            milliseconds: (there.block_seconds(block) * 1e3).round() as u64,
            bytes: there.block_bytes(block).0,
        };
        self.blocks.iter().map(load).collect()
    }
}
