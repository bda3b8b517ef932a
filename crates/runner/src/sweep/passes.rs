//! The passes over the cells, each in a worker.

use std::collections::BTreeSet;

use kv_report::{Pass, Status, Visit};

use super::job::instance_of;
use super::{Certainty, Sweep};
use crate::block::Block;
use crate::config::Workload;
use crate::progress::say;
use crate::recording::StoredRecording;
use crate::worker::latency::DECODE;
use crate::worker::process::{self, How, OnInterrupt, SecondTry};
use crate::worker::protocol::{GateTask, Job, LatencyTask, MemoryTask, Message, Task, Ttft};
use crate::{Problem, interrupt};

/// Estimated seconds of the conformance suite for one instance.
pub(super) const GATE_SECONDS: f64 = 0.7;

impl Sweep<'_> {
    /// Holds every instance against the conformance suite, unless an earlier start of this run did.
    pub(super) fn run_gate(&mut self) -> Result<(), Problem> {
        for label in self.labels_left() {
            if interrupt::requested() {
                return Ok(());
            }
            if self.was_checked(&label) {
                continue;
            }
            let Some(cell) = self.plan.cells.iter().find(|cell| cell.label == label) else { continue };
            let task = GateTask { instance: instance_of(cell, &label), geometry: self.setting.model_config.geometry.clone() };
            let job = self.setting.job(Task::Gate(task));
            let mut second_try = SecondTry::default();
            let (phase, how) = loop {
                let mut visits = vec![];
                let progress = &mut self.progress;
                let ended = process::run(&job, self.setting.patience(0.0), OnInterrupt::AtOnce, |message| {
                    match message {
                        Message::Phase(phase) => progress.phase(&format!("checking {label}: {}", phase.name)),
                        Message::Visit(visit) => visits.push(visit),
                        _ => {}
                    }
                    Ok(())
                })?;
                for visit in visits {
                    self.keep(visit)?;
                }
                match second_try.judge(ended.how) {
                    Some(how) => break (ended.phase, how),
                    None => self.note_second_try(&format!("the conformance suite of {label}")),
                }
            };
            let phase = phase.map_or("start".into(), |phase| phase.name);
            match how {
                How::Finished => {}
                How::Interrupted => return Ok(()),
                How::Refused(problem) => return Err(problem),
                How::Killed(reason) => self.keep(unfinished_gate(&label, Status::Oom, &phase, &reason))?,
                How::Died(status, reason) => self.keep(unfinished_gate(&label, status, &phase, &reason))?,
            }
            self.advance(GATE_SECONDS);
        }
        Ok(())
    }

    /// Times the cells of a block that have not been timed in this launch.
    pub(super) fn time_block(&mut self, block: &Block, launch: u32, recording: Option<&StoredRecording>) -> Result<(), Problem> {
        /// Starts in which a worker dies after everything of the instance in hand was said.
        const MOST_UNEXPLAINED: usize = 3;
        let mut second_try = SecondTry::default();
        let mut again = block.again.filter(|cell| !self.has_failed(*cell));
        // Cells in whose hands memory ran out. Whether that is their fault shows when they are alone.
        let mut suspects = BTreeSet::new();
        let mut unexplained = 0;
        loop {
            let left = self.to_time(block, launch);
            let together: Vec<usize> = left.iter().copied().filter(|cell| !suspects.contains(cell)).collect();
            let cells = if together.is_empty() { left.iter().take(1).copied().collect() } else { together };
            if cells.is_empty() {
                return Ok(());
            }
            let job = self.setting.job(Task::Latency(self.latency_task(block, again, &cells, launch, recording)));
            let ended = self.hear_latency(&job, block, &cells, launch)?;
            let culprit = ended.phase.as_ref().and_then(|phase| phase.id.clone());
            let phase = ended.phase.map_or("start".into(), |phase| phase.name);
            let Some(how) = second_try.judge(ended.how) else {
                self.note_second_try(&block.name);
                continue;
            };
            let (status, reason) = match how {
                How::Finished if self.to_time(block, launch).is_empty() => return Ok(()),
                How::Finished if cells.iter().all(|cell| self.was_timed(*cell, launch) || self.has_failed(*cell)) => continue,
                How::Finished => (Status::Failed, "the worker answered nothing".to_owned()),
                How::Interrupted => return Ok(()),
                // The model cannot be loaded, for example: no cell can be measured.
                How::Refused(problem) => return Err(problem),
                How::Killed(reason) => (Status::Oom, reason),
                How::Died(status, reason) => (status, reason),
            };
            if again.is_some_and(|cell| culprit.as_ref() == Some(&self.ids[cell])) {
                // It was timed before, in its own block. The others go on without it.
                again = None;
                continue;
            }
            let all_left = self.to_time(block, launch);
            let blamed: Vec<usize> = match culprit {
                Some(id) => all_left.iter().copied().filter(|cell| self.ids[*cell] == id).collect(),
                // Nobody's phase.
                None => all_left.clone(),
            };
            if blamed.is_empty() && unexplained < MOST_UNEXPLAINED {
                unexplained += 1;
                continue;
            }
            if status == Status::Oom && cells.len() + usize::from(again.is_some()) > 1 && blamed.iter().all(|cell| suspects.insert(*cell)) {
                continue;
            }
            let blamed = if blamed.is_empty() { all_left } else { blamed };
            for cell in blamed {
                let visit = Visit::failed(&self.ids[cell], Pass::Latency, status, &phase, &reason);
                self.finish_cell(cell, block, Visit { launch, ..visit })?;
            }
        }
    }

    /// The cells of a block that have not been timed in this launch and have not failed.
    pub(super) fn to_time(&self, block: &Block, launch: u32) -> Vec<usize> {
        block.cells.iter().copied().filter(|cell| !self.has_failed(*cell) && !self.was_timed(*cell, launch)).collect()
    }

    fn latency_task(
        &self,
        block: &Block,
        again: Option<usize>,
        left: &[usize],
        launch: u32,
        recording: Option<&StoredRecording>,
    ) -> LatencyTask {
        let cells = again.iter().chain(left);
        let script = self.plan.script(self.cell(left[0]));
        let ttft = if launch < self.plan.ttft_launches { Ttft::Measured } else { Ttft::LeftOut };
        let is_replayed = |cell: &&usize| !self.probes.recomputes(&self.cell(**cell).label);
        let recording = recording.filter(|_| script.workload == Workload::Decode);
        // One real prefill per block is enough to see whether composing holds.
        let checks = recording.is_some() && ttft == Ttft::Measured && !block.cells.iter().any(|cell| self.was_timed(*cell, launch));
        let checked = left.iter().find(is_replayed).filter(|_| checks).map(|cell| self.ids[*cell].clone());
        LatencyTask {
            model: self.setting.model.clone(),
            script,
            instances: cells.map(|cell| instance_of(self.cell(*cell), &self.ids[*cell])).collect(),
            recording: recording.map(|recording| recording.folder().to_owned()),
            ttft,
            checked,
            launch,
        }
    }

    fn hear_latency(&mut self, job: &Job, block: &Block, cells: &[usize], launch: u32) -> Result<process::Ended, Problem> {
        let seconds = |cell: &usize| self.prediction.latency_seconds(self.plan, self.probes, *cell, launch);
        let longest = cells.iter().map(seconds).fold(0.0, f64::max);
        let patience = self.setting.patience(longest + self.prediction.load_seconds());
        let mut now = String::new();
        process::run(job, patience, OnInterrupt::AfterVisitOf(DECODE), |message| {
            match message {
                Message::Model(record) => self.note_model(record),
                Message::Phase(phase) => {
                    let label = phase.id.as_ref().and_then(|id| self.label_of(id)).map_or(String::new(), |label| format!(", {label}"));
                    now = format!("{}{label}: {}", block.name, phase.name);
                    self.progress.phase(&now);
                }
                Message::Progress { done, all } => self.progress.phase(&format!("{now}, {done} of {all}")),
                Message::Visit(visit) => match self.ids.iter().position(|id| *id == visit.cell) {
                    Some(cell) if block.cells.contains(&cell) && visit.pass == Pass::Latency => self.finish_cell(cell, block, visit)?,
                    // The check of a composed time, or the baseline, timed again. That it failed this time makes no row.
                    _ if visit.pass == Pass::Check || visit.status == Status::Ok => {
                        self.keep(Visit { block: Some(block.name.clone()), ..visit })?;
                    }
                    _ => {}
                },
                _ => {}
            }
            Ok(())
        })
    }

    /// Counts the bytes of a cell that was timed.
    pub(super) fn count_bytes(&mut self, index: usize) -> Result<(), Problem> {
        if self.is_done(index) || interrupt::requested() {
            return Ok(());
        }
        let cell = self.cell(index);
        let script = self.plan.script(cell);
        let chunk = if self.probes.recomputes(&cell.label) { script.seq_len } else { script.prefill_chunk };
        let instance = instance_of(cell, &self.ids[index]);
        let what = format!("{} at {}: counting bytes", cell.label, cell.seq_len);
        let seconds = self.prediction.memory_seconds(self.plan, index);
        let task = MemoryTask { instance, geometry: self.setting.model_config.geometry.clone(), script, chunk };
        let job = self.setting.job(Task::Memory(task));
        let mut second_try = SecondTry::default();
        self.progress.phase(&what);
        let (visit, phase, how) = loop {
            let mut visit = None;
            let ended = process::run(&job, self.setting.patience(seconds), OnInterrupt::AfterVisit, |message| {
                if let Message::Visit(counted) = message {
                    visit = Some(counted);
                }
                Ok(())
            })?;
            // What was counted stays counted, even if the worker died afterwards.
            if visit.is_some() {
                break (visit, ended.phase, ended.how);
            }
            match second_try.judge(ended.how) {
                Some(how) => break (None, ended.phase, how),
                None => self.note_second_try(&what),
            }
        };
        let phase = phase.map_or("start".into(), |phase| phase.name);
        let failed = |status: Status, reason: &str| Visit::failed(&self.ids[index], Pass::Memory, status, &phase, reason);
        let visit = match (visit, how) {
            (Some(visit), _) => visit,
            (None, How::Interrupted) => return Ok(()),
            (None, How::Finished) => failed(Status::Failed, "the worker answered nothing"),
            (None, How::Refused(problem)) => return Err(problem),
            (None, How::Killed(reason)) => failed(Status::Oom, &reason),
            (None, How::Died(status, reason)) => failed(status, &reason),
        };
        self.keep(visit)?;
        self.advance(seconds);
        Ok(())
    }

    /// Keeps a cell's latency visit and shows it.
    fn finish_cell(&mut self, index: usize, block: &Block, mut visit: Visit) -> Result<(), Problem> {
        if let Some((bytes, Certainty::Predicted)) = self.probes.bytes(self.plan, self.cell(index)) {
            visit.values.insert("predicted_bytes".into(), bytes as f64);
        }
        visit.block = Some(block.name.clone());
        let seconds = self.prediction.latency_seconds(self.plan, self.probes, index, visit.launch);
        self.keep(visit.clone())?;
        self.progress.count_cell();
        self.advance(seconds);
        let cell = &self.plan.cells[index];
        self.progress.visit(&cell.label, cell.seq_len, cell.batch, &visit);
        Ok(())
    }

    fn label_of(&self, id: &str) -> Option<String> {
        let index = self.ids.iter().position(|other| other == id)?;
        Some(self.cell(index).label.clone())
    }

    /// Notes that a worker was killed from outside and is started again.
    fn note_second_try(&mut self, what: &str) {
        let warning = format!("A worker was killed from outside and started again ({what}).");
        say(&warning);
        self.run.warnings.push(warning);
    }
}

/// The visit of a gate whose worker died.
fn unfinished_gate(label: &str, status: Status, phase: &str, reason: &str) -> Visit {
    let reason = format!("the conformance suite could not be completed: {reason}");
    Visit::failed(label, Pass::Gate, status, phase, &reason)
}
