//! What the visits of a build say is done, and what is left.

use std::collections::BTreeSet;

use kv_report::{Build, Pass, Status, Visit};

use super::Sweep;
use crate::block::Block;

/// The visits of one build.
pub(super) struct Done<'a> {
    sweep: &'a Sweep<'a>,
    visits: &'a [Visit],
}

impl Sweep<'_> {
    /// What is done of the build whose workers are started now.
    pub(super) fn done(&self) -> Done<'_> {
        self.done_by(self.build)
    }

    /// What is done of a build.
    pub(super) fn done_by(&self, build: Build) -> Done<'_> {
        Done { sweep: self, visits: self.visits_by(build) }
    }

    /// Whether no build has anything left to do.
    pub(super) fn is_complete(&self) -> bool {
        self.own_cells().into_iter().all(|index| !self.is_left(index))
    }

    /// Whether some build has something left to do for a cell.
    pub(super) fn is_left(&self, index: usize) -> bool {
        self.setting.builds().iter().any(|build| !self.done_by(*build).is_done(index))
    }
}

impl Done<'_> {
    /// Whether a cell needs no more passes: all were made, or one failed.
    pub(super) fn is_done(&self, index: usize) -> bool {
        let prediction = self.sweep.prediction;
        self.has_failed(index)
            || (self.launches_of(index).is_some_and(|launches| (0..launches).all(|launch| self.was_timed(index, launch)))
                && self.was_judged(index, Pass::Memory)
                && (!prediction.judges_attention(index) || self.was_judged(index, Pass::Attention))
                && (!prediction.reads_text(index) || self.was_judged(index, Pass::Quality)))
    }

    /// Launches that a cell needs. `None` if it is in no block.
    fn launches_of(&self, index: usize) -> Option<u32> {
        let block = self.sweep.prediction.blocks.iter().find(|block| block.cells.contains(&index))?;
        Some(self.sweep.launches_due(block))
    }

    pub(super) fn was_checked(&self, label: &str) -> bool {
        self.visits.iter().any(|visit| visit.pass == Pass::Gate && visit.cell == label)
    }

    pub(super) fn has_failed(&self, index: usize) -> bool {
        let is_of_cell = |visit: &Visit| match visit.pass {
            Pass::Gate => visit.cell == self.sweep.cell(index).label,
            Pass::Latency | Pass::Memory => visit.cell == self.sweep.ids[index] && !visit.control,
            // The check of a composed time is no part of the cell, and neither is the text behind its bytes. What judges quality
            // may fail without a cell that was timed.
            Pass::Check | Pass::Text | Pass::Attention | Pass::Quality => false,
        };
        self.visits.iter().any(|visit| visit.status != Status::Ok && is_of_cell(visit))
    }

    pub(super) fn was_timed(&self, index: usize, launch: u32) -> bool {
        self.visits
            .iter()
            .any(|visit| visit.cell == self.sweep.ids[index] && visit.pass == Pass::Latency && !visit.control && visit.launch == launch)
    }

    /// Whether a pass over a cell that is made once was made, well or not.
    pub(super) fn was_judged(&self, index: usize, pass: Pass) -> bool {
        self.visits.iter().any(|visit| visit.cell == self.sweep.ids[index] && visit.pass == pass)
    }

    /// The cells of a block that have not been timed in this launch and have not failed.
    pub(super) fn to_time(&self, block: &Block, launch: u32) -> Vec<usize> {
        block.cells.iter().copied().filter(|cell| !self.has_failed(*cell) && !self.was_timed(*cell, launch)).collect()
    }

    /// The labels of the cells that are still to be measured, each once.
    pub(super) fn labels_left(&self) -> BTreeSet<String> {
        let left = self.sweep.own_cells().into_iter().filter(|index| !self.is_done(*index));
        left.map(|index| self.sweep.cell(index).label.clone()).collect()
    }
}
