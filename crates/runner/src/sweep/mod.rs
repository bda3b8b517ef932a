//! Runs a plan in worker processes, and keeps what they measured as it comes.

mod blame;
mod comparisons;
mod job;
mod judged;
mod launches;
mod level;
mod observations;
mod pairs;
mod parts;
mod passes;
mod prediction;
mod probe;
mod quality;
mod quality_prediction;
mod record;
mod report;
mod rows;
mod workload_values;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use kv_report::{Pass, RunRecord, Status, Visit};

use crate::block::Block;
use crate::plan::{Cell, Plan};
use crate::progress::{Progress, say};
use crate::recording::{Kept, StoredRecording};
use crate::run_folder::RunFolder;
use crate::{Problem, interrupt};

pub(crate) use comparisons::spreads;
pub(crate) use job::Setting;
pub(crate) use judged::COUNTED_DISTURBED;
use passes::GATE_SECONDS;
pub(crate) use prediction::{Prediction, predict};
pub(crate) use probe::{Certainty, Probes};
use quality::Recordings;
pub(crate) use report::{LIGHT_PAGE, draw, editions, tables, write_tables};
pub(crate) use rows::{MOST_OFF, results};

/// A run under way.
pub(crate) struct Sweep<'a> {
    pub(crate) setting: &'a Setting<'a>,
    pub(crate) plan: &'a Plan,
    /// The cells' ids, in the order of the plan.
    pub(crate) ids: &'a [String],
    pub(crate) probes: &'a Probes,
    pub(crate) prediction: &'a Prediction<'a>,
    pub(crate) gate: Gate,
    pub(crate) kept: Kept,
    pub(crate) run: RunRecord,
    pub(crate) visits: Vec<Visit>,
    pub(crate) folder: RunFolder,
    pub(crate) progress: Progress,
    /// Whether the prompt is still to be recorded.
    pub(crate) recording_is_due: bool,
    /// For each block, its visits when its launches were last counted, and how many are due.
    pub(crate) due: RefCell<BTreeMap<String, (usize, u32)>>,
}

/// Whether strategies prove themselves before they are timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Checked,
    Unchecked,
}

/// A run that has ended.
pub(crate) struct Ended {
    /// Whether everything was measured.
    pub(crate) is_complete: bool,
    pub(crate) run: RunRecord,
    pub(crate) visits: Vec<Visit>,
    pub(crate) folder: RunFolder,
}

impl Sweep<'_> {
    /// Measures what has not been measured yet. A failing cell is a row. An interruption ends this early.
    ///
    /// # Errors
    /// A [`Problem`] if results cannot be written, or the machine starts no processes.
    pub(crate) fn run(mut self) -> Result<Ended, Problem> {
        let measured = self.measure();
        self.progress.clear();
        measured?;
        let is_complete = self.is_complete();
        let Sweep { run, visits, folder, .. } = self;
        Ok(Ended { is_complete, run, visits, folder })
    }

    fn measure(&mut self) -> Result<(), Problem> {
        self.refuse_what_cannot_be_measured()?;
        let (seconds, cells) = self.left();
        self.progress.expect(seconds, cells);
        if self.gate == Gate::Checked {
            self.run_gate()?;
        }
        if interrupt::requested() || self.is_complete() {
            return Ok(());
        }
        let recording = self.record()?;
        self.recording_is_due = false;
        self.advance(0.0);
        let texts = if interrupt::requested() { Recordings::default() } else { self.record_texts()? };
        for block in self.prediction.own_blocks() {
            if interrupt::requested() {
                break;
            }
            self.run_block(block, recording.as_ref(), &texts)?;
            self.save()?;
        }
        // A run that was interrupted may be resumed.
        if self.is_complete() {
            recording.into_iter().for_each(StoredRecording::end);
            texts.end();
        }
        Ok(())
    }

    /// Says that a piece of so many estimated seconds is done, and what is left now.
    fn advance(&mut self, seconds: f64) {
        self.progress.advance(seconds);
        let (seconds, cells) = self.left();
        self.progress.expect(seconds, cells);
    }

    /// Estimated seconds of what is left, and the times that cells are still to be timed.
    fn left(&self) -> (f64, usize) {
        let unchecked = || self.labels_left().iter().filter(|label| !self.was_checked(label)).count();
        let mut seconds = if self.gate == Gate::Checked { unchecked() as f64 * GATE_SECONDS } else { 0.0 };
        let mut cells = 0;
        if self.recording_is_due {
            seconds += self.prediction.recording_seconds();
        }
        for block in self.prediction.own_blocks() {
            for launch in 0..self.launches_due(block) {
                let to_time = self.to_time(block, launch);
                if !to_time.is_empty() {
                    cells += to_time.len();
                    seconds += self.prediction.launch_seconds(block, &to_time, launch);
                }
            }
            let to_count = block.cells.iter().filter(|cell| !self.is_done(**cell));
            seconds += to_count.map(|cell| self.prediction.memory_seconds(*cell) + self.prediction.quality_seconds(*cell)).sum::<f64>();
        }
        (seconds, cells)
    }

    fn run_block(&mut self, block: &Block, recording: Option<&StoredRecording>, texts: &Recordings) -> Result<(), Problem> {
        let mut launch = 0;
        // How many are needed shows as they come.
        while launch < self.launches_due(block) {
            if launch > 0 && launch == self.prediction.launches(block) {
                say(&format!(
                    "{}: the times spread, or the machine was busy; more launches follow, {} in all at most",
                    block.name,
                    2 * launch
                ));
            }
            self.time_block(block, launch, recording)?;
            if interrupt::requested() {
                return Ok(());
            }
            launch += 1;
        }
        for cell in &block.cells {
            self.count_bytes(*cell, recording)?;
            self.judge_quality(*cell, recording, texts)?;
            if interrupt::requested() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Makes rows of the cells whose strategy cannot be built or has no room for them, and of those that do not fit into memory.
    fn refuse_what_cannot_be_measured(&mut self) -> Result<(), Problem> {
        for index in self.own_cells() {
            let cell = &self.plan.cells[index];
            let refusal =
                match (self.probes.refusal(self.plan, cell), self.prediction.too_large.iter().find(|too_large| too_large.cell == index)) {
                    (Some(broken), _) => Some((broken.status, broken.phase, broken.reason)),
                    (_, Some(too_large)) => Some((Status::Oom, "plan".into(), self.prediction.refusal(too_large))),
                    (None, None) => None,
                };
            if let Some((status, phase, reason)) = refusal.filter(|_| !self.is_done(index)) {
                self.keep(Visit::failed(&self.ids[index], Pass::Latency, status, &phase, &reason))?;
            }
        }
        Ok(())
    }

    /// Keeps a visit.
    fn keep(&mut self, visit: Visit) -> Result<(), Problem> {
        self.folder.add(&visit)?;
        self.visits.push(visit);
        Ok(())
    }

    /// Writes the record and the tables as they are now.
    fn save(&self) -> Result<(), Problem> {
        self.folder.write_run(&self.run)?;
        write_tables(&results(&self.run, &self.visits), &self.folder)
    }

    /// The cells that this run measures.
    fn own_cells(&self) -> Vec<usize> {
        (0..self.plan.cells.len()).filter(|cell| self.prediction.is_own(*cell)).collect()
    }

    fn cell(&self, index: usize) -> &Cell {
        &self.plan.cells[index]
    }

    /// Whether a cell needs no more passes: all were made, or one failed.
    fn is_done(&self, index: usize) -> bool {
        self.has_failed(index)
            || (self.launches_of(index).is_some_and(|launches| (0..launches).all(|launch| self.was_timed(index, launch)))
                && self.visits.iter().any(|visit| visit.cell == self.ids[index] && visit.pass == Pass::Memory)
                && (!self.prediction.judges_attention(index) || self.was_judged(index, Pass::Attention))
                && (!self.prediction.reads_text(index) || self.was_judged(index, Pass::Quality)))
    }

    /// Launches that a cell needs. `None` if it is in no block.
    fn launches_of(&self, index: usize) -> Option<u32> {
        let block = self.prediction.blocks.iter().find(|block| block.cells.contains(&index))?;
        Some(self.launches_due(block))
    }

    fn was_checked(&self, label: &str) -> bool {
        self.visits.iter().any(|visit| visit.pass == Pass::Gate && visit.cell == label)
    }

    fn has_failed(&self, index: usize) -> bool {
        let is_of_cell = |visit: &Visit| match visit.pass {
            Pass::Gate => visit.cell == self.cell(index).label,
            Pass::Latency | Pass::Memory => visit.cell == self.ids[index] && !visit.control,
            // The check of a composed time is no part of the cell, and neither is the text behind its bytes. What judges quality
            // may fail without a cell that was timed.
            Pass::Check | Pass::Text | Pass::Attention | Pass::Quality => false,
        };
        self.visits.iter().any(|visit| visit.status != Status::Ok && is_of_cell(visit))
    }

    fn was_timed(&self, index: usize, launch: u32) -> bool {
        self.visits
            .iter()
            .any(|visit| visit.cell == self.ids[index] && visit.pass == Pass::Latency && !visit.control && visit.launch == launch)
    }

    fn is_complete(&self) -> bool {
        self.own_cells().into_iter().all(|index| self.is_done(index))
    }

    /// The labels of the cells that are still to be measured, each once.
    fn labels_left(&self) -> BTreeSet<String> {
        let left = self.own_cells().into_iter().filter(|index| !self.is_done(*index));
        left.map(|index| self.cell(index).label.clone()).collect()
    }
}
