//! Runs a plan in worker processes, and keeps what they measured as it comes.

mod blame;
mod build_pairs;
mod cell_launches;
mod comparisons;
mod done;
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
mod results;
mod rows;
mod workload_values;

use std::cell::RefCell;
use std::collections::BTreeMap;

use kv_report::{Build, Pass, RunRecord, Status, Visit};

use crate::block::Block;
use crate::plan::{Cell, Plan};
use crate::progress::{Progress, say};
use crate::recording::{Kept, StoredRecording};
use crate::run_folder::RunFolder;
use crate::{Problem, hash, interrupt};

pub(crate) use build_pairs::{PairedObservations, Pairs};
pub(crate) use cell_launches::Launches;
pub(crate) use comparisons::spreads;
pub(crate) use job::Setting;
pub(crate) use judged::COUNTED_DISTURBED;
pub(crate) use observations::{BlockVisits, Instance, Part};
use passes::GATE_SECONDS;
pub(crate) use prediction::{Prediction, predict};
pub(crate) use probe::{Certainty, Probes};
use quality::Recordings;
pub(crate) use report::{LIGHT_PAGE, PAGE, WITH_LIGHT_PAGE, draw, picture_files, pictures, tables, write_tables};
pub(crate) use results::results;
pub(crate) use rows::MOST_OFF;

/// A run under way.
pub(crate) struct Sweep<'a> {
    pub(crate) setting: &'a Setting<'a>,
    pub(crate) plan: &'a Plan,
    /// The cells' ids, in the order of the plan.
    pub(crate) ids: &'a [String],
    pub(crate) probes: &'a Probes,
    /// What the instances are in the other build, if there is one.
    pub(crate) other_probes: Option<&'a Probes>,
    pub(crate) prediction: &'a Prediction<'a>,
    pub(crate) gate: Gate,
    pub(crate) kept: Kept,
    pub(crate) run: RunRecord,
    /// Of both builds, each in order.
    pub(crate) visits: Vec<Visit>,
    pub(crate) other_visits: Vec<Visit>,
    /// The build whose workers are started now.
    pub(crate) build: Build,
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
        let Sweep { run, visits, other_visits, folder, .. } = self;
        Ok(Ended { is_complete, run, visits: [visits, other_visits].concat(), folder })
    }

    fn measure(&mut self) -> Result<(), Problem> {
        self.in_each_build(Sweep::refuse_what_cannot_be_measured)?;
        let (seconds, cells) = self.left();
        self.progress.expect(seconds, cells);
        if self.gate == Gate::Checked {
            self.in_each_build(Sweep::run_gate)?;
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

    /// Does this with the workers of each build.
    fn in_each_build(&mut self, mut work: impl FnMut(&mut Self) -> Result<(), Problem>) -> Result<(), Problem> {
        self.setting.builds().iter().try_for_each(|build| self.in_build(*build, &mut work))
    }

    /// Does this with the workers of a build.
    fn in_build<T>(&mut self, build: Build, work: impl FnOnce(&mut Self) -> T) -> T {
        self.build = build;
        let done = work(self);
        self.build = Build::Own;
        done
    }

    /// Says that a piece of so many estimated seconds is done, and what is left now.
    fn advance(&mut self, seconds: f64) {
        self.progress.advance(seconds);
        let (seconds, cells) = self.left();
        self.progress.expect(seconds, cells);
    }

    /// Estimated seconds of what is left, and the times that cells are still to be timed.
    fn left(&self) -> (f64, usize) {
        let mut seconds = if self.recording_is_due { self.prediction.recording_seconds() } else { 0.0 };
        let mut cells = 0;
        for done in self.setting.builds().iter().map(|build| self.done_by(*build)) {
            if self.gate == Gate::Checked {
                seconds += done.labels_left().iter().filter(|label| !done.was_checked(label)).count() as f64 * GATE_SECONDS;
            }
            for block in self.prediction.own_blocks() {
                for launch in 0..self.launches_due(block) {
                    let to_time = done.to_time(block, launch);
                    if !to_time.is_empty() {
                        cells += to_time.len();
                        seconds += self.prediction.launch_seconds(block, &to_time, launch);
                    }
                }
                let to_count = block.cells.iter().filter(|cell| !done.is_done(**cell));
                seconds += to_count.map(|cell| self.prediction.memory_seconds(*cell) + self.prediction.quality_seconds(*cell)).sum::<f64>();
            }
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
            for build in self.order_of_builds(block, launch) {
                self.in_build(build, |sweep| sweep.time_block(block, launch, recording))?;
                if interrupt::requested() {
                    return Ok(());
                }
            }
            launch += 1;
        }
        self.in_each_build(|sweep| {
            for cell in &block.cells {
                if interrupt::requested() {
                    break;
                }
                sweep.count_bytes(*cell, recording)?;
                sweep.judge_quality(*cell, recording, texts)?;
            }
            Ok(())
        })
    }

    /// The builds in the order in which they time a launch, drawn at random: what drifts disturbs neither more than the other.
    fn order_of_builds(&self, block: &Block, launch: u32) -> Vec<Build> {
        let mut builds = self.setting.builds().to_vec();
        if hash::number(format!("{} {} {launch} builds", self.run.order_seed, block.name).as_bytes()) % 2 == 1 {
            builds.reverse();
        }
        builds
    }

    /// Makes rows of the cells whose strategy cannot be built or has no room for them, and of those that do not fit into memory.
    fn refuse_what_cannot_be_measured(&mut self) -> Result<(), Problem> {
        for index in self.own_cells() {
            let cell = &self.plan.cells[index];
            let other = self
                .other_probes
                .filter(|_| self.build == Build::Other)
                .and_then(|other| other.refusal_beside(self.probes, self.plan, cell));
            let broken = self.probes.refusal(self.plan, cell).or(other);
            let refusal = match (broken, self.prediction.too_large.iter().find(|too_large| too_large.cell == index)) {
                (Some(broken), _) => Some((broken.status, broken.phase, broken.reason)),
                (_, Some(too_large)) => Some((Status::Oom, "plan".into(), self.prediction.refusal(too_large))),
                (None, None) => None,
            };
            if let Some((status, phase, reason)) = refusal.filter(|_| !self.done().is_done(index)) {
                self.keep(Visit::failed(&self.ids[index], Pass::Latency, status, &phase, &reason))?;
            }
        }
        Ok(())
    }

    /// Keeps a visit of the build whose workers are started now.
    fn keep(&mut self, visit: Visit) -> Result<(), Problem> {
        let visit = Visit { build: self.build, ..visit };
        self.folder.add(&visit)?;
        match self.build {
            Build::Own => self.visits.push(visit),
            Build::Other => self.other_visits.push(visit),
        }
        Ok(())
    }

    /// The visits of a build.
    fn visits_by(&self, build: Build) -> &[Visit] {
        match build {
            Build::Own => &self.visits,
            Build::Other => &self.other_visits,
        }
    }

    /// Writes the record and the tables as they are now.
    fn save(&self) -> Result<(), Problem> {
        self.folder.write_run(&self.run)?;
        write_tables(&results(&self.run, &[self.visits.as_slice(), &self.other_visits].concat()), &self.folder)
    }

    /// The cells that this run measures.
    fn own_cells(&self) -> Vec<usize> {
        (0..self.plan.cells.len()).filter(|cell| self.prediction.is_own(*cell)).collect()
    }

    fn cell(&self, index: usize) -> &Cell {
        &self.plan.cells[index]
    }
}
