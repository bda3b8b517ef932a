//! The passes over the cells, each in a worker.

use std::path::Path;
use std::time::{Duration, Instant};

use kv_report::{Build, Pass, Status, Visit};

use super::blame::{Blame, Death};
use super::job::instance_of;
use super::{Certainty, Sweep};
use crate::block::Block;
use crate::config::{Level, Workload};
use crate::progress::say;
use crate::recording::StoredRecording;
use crate::worker::process::{self, By, Ended, How, OnInterrupt};
use crate::worker::protocol::{
    GateTask, InstanceSpec, Job, LatencyTask, MemoryTask, Message, Phase, Purpose, ScriptSpec, ScriptedTask, Task, Text, Ttft,
};
use crate::workloads::Scripted;
use crate::{Problem, hash, interrupt};

/// Estimated seconds of the conformance suite for one instance.
pub(super) const GATE_SECONDS: f64 = 0.7;

impl Sweep<'_> {
    /// Holds every instance against the conformance suite, unless an earlier start of this run did.
    pub(super) fn run_gate(&mut self) -> Result<(), Problem> {
        let unchecked: Vec<String> = self.done().labels_left().into_iter().filter(|label| !self.done().was_checked(label)).collect();
        if !unchecked.is_empty() {
            self.progress.begin(&format!("checking {} with the conformance suite", unchecked.join(", ")));
        }
        for label in unchecked {
            if interrupt::requested() {
                return Ok(());
            }
            let Some(cell) = self.plan.cells.iter().find(|cell| cell.label == label) else { continue };
            let task = GateTask { instance: instance_of(cell, &label), geometry: self.setting.model_config.geometry.clone() };
            let what = format!("the conformance suite of {label}");
            let ended = self.insist(&what, Task::Gate(task), self.setting.patience(0.0), OnInterrupt::AtOnce, |sweep, message| {
                match message {
                    Message::Phase(phase) => sweep.progress.phase(&format!("checking {label}: {}", phase.work)),
                    Message::Visit(visit) => sweep.keep(visit)?,
                    _ => {}
                }
                Ok(())
            })?;
            match ended.how {
                How::Interrupted => return Ok(()),
                How::Died(status, reason, _) if !self.done().was_checked(&label) => {
                    let reason = format!("the conformance suite could not be completed: {reason}");
                    self.keep(Visit::failed(&label, Pass::Gate, status, &in_words(&ended.phase), &reason))?;
                }
                How::Finished | How::Died(..) => {}
            }
            self.advance(GATE_SECONDS);
        }
        Ok(())
    }

    /// Times the cells of a block that have not been timed in this launch.
    pub(super) fn time_block(&mut self, block: &Block, launch: u32, recording: Option<&StoredRecording>) -> Result<(), Problem> {
        let mut blame = Blame::default();
        let mut control = block.control;
        let mut without_baseline = false;
        let mut may_retry = true;
        loop {
            let left = self.done().to_time(block, launch);
            if left.is_empty() {
                return Ok(());
            }
            let cells = blame.next(&left);
            let again = self.baseline_again(block, &left, launch).filter(|_| !without_baseline);
            let block = &Block { control, ..block.clone() };
            let job = self.setting.job(if self.cell(cells[0]).workload.has_lengths() {
                Task::Latency(self.latency_task(block, again, &cells, launch, recording))
            } else {
                Task::Scripted(self.scripted_task(block, again, &cells, launch))
            });
            let checked = matches!(&job.task, Task::Latency(task) if task.checked.is_some());
            let ended = self.hear_latency(&job, block, &cells, launch)?;
            let (status, reason) = match ended.how {
                How::Interrupted => return Ok(()),
                How::Finished if self.done().to_time(block, launch).len() < left.len() => continue,
                How::Finished => (Status::Failed, "the worker answered nothing".to_owned()),
                How::Died(_, _, By::SomebodyElse) if std::mem::take(&mut may_retry) => {
                    self.note_retry(&block.name);
                    continue;
                }
                How::Died(status, reason, _) => (status, reason),
            };
            if checked && self.done().to_time(block, launch).is_empty() {
                // It died in the real prefill that comes last. The rows are complete without it.
                let what = format!("{}: the real prefill that checks composed times was not completed: {reason}", block.name);
                self.warn(what);
                return Ok(());
            }
            let in_hand = ended.phase.as_ref().and_then(|phase| self.ids.iter().position(|id| phase.id.as_ref() == Some(id)));
            if status == Status::Oom && in_hand.is_some() && in_hand == control {
                // There was no room for the baseline and its double.
                control = None;
                continue;
            }
            if in_hand.is_some() && in_hand == again {
                // It was timed before. The others go on without it.
                without_baseline = true;
                continue;
            }
            let left = self.done().to_time(block, launch);
            let death = Death { status, in_hand, together: &cells, left: &left, beside_baseline: again.is_some() };
            for cell in blame.judge(death) {
                let visit = Visit::failed(&self.ids[cell], Pass::Latency, status, &in_words(&ended.phase), &reason);
                self.finish_cell(cell, block, Visit { launch, ..visit })?;
            }
        }
    }

    /// The baseline, where it is not among those to be timed but has to be timed again beside them: it belongs to an earlier
    /// block of the same length, or was timed in this launch before the run was killed.
    fn baseline_again(&self, block: &Block, left: &[usize], launch: u32) -> Option<usize> {
        let was_timed = |cell: &usize| block.cells.contains(cell) && !left.contains(cell) && self.done().was_timed(*cell, launch);
        block.again.or(block.baseline.filter(was_timed)).filter(|cell| !self.done().has_failed(*cell))
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
        let script = self.prediction.script(left[0]);
        let ttft = if launch < self.plan.ttft_launches { Ttft::Measured } else { Ttft::LeftOut };
        let recording = recording.filter(|_| self.plan.level == Level::Attention || script.workload == Workload::Decode);
        // One real prefill per block is enough to see whether composing holds.
        let checks = recording.is_some()
            && self.plan.level == Level::Model
            && ttft == Ttft::Measured
            && !block.cells.iter().any(|cell| self.done().was_timed(*cell, launch));
        let checked =
            left.iter().find(|cell| self.prediction.can_be_replayed(**cell)).filter(|_| checks).map(|cell| self.ids[*cell].clone());
        LatencyTask {
            rows: self.setting.rows.clone(),
            script,
            instances: cells.map(|cell| instance_of(self.cell(*cell), &self.ids[*cell])).collect(),
            recording: recording.map(|recording| recording.folder().to_owned()),
            ttft,
            checked,
            launch,
            control: block.control.map(|baseline| self.ids[baseline].clone()),
            rounds: self.prediction.rounds(block),
            order_seed: hash::number(format!("{} {} {launch}", self.run.order_seed, block.name).as_bytes()),
        }
    }

    /// Runs a workload that is a script of its own with the cells of a block.
    fn scripted_task(&self, block: &Block, again: Option<usize>, left: &[usize], launch: u32) -> ScriptedTask {
        let instances = again.iter().chain(left).map(|cell| instance_of(self.cell(*cell), &self.ids[*cell])).collect();
        let purpose = Purpose::Time {
            launch,
            control: block.control.map(|baseline| self.ids[baseline].clone()),
            rounds: self.prediction.rounds(block),
            order_seed: hash::number(format!("{} {} {launch}", self.run.order_seed, block.name).as_bytes()),
        };
        self.script_for(self.prediction.script(left[0]), instances, purpose)
    }

    fn script_for(&self, script: ScriptSpec, instances: Vec<InstanceSpec>, purpose: Purpose) -> ScriptedTask {
        let text = self.setting.text.clone();
        let image = script.scripted.as_ref().and_then(Scripted::image).map(Path::to_owned);
        let model = &self.setting.model_config.geometry;
        let geometry = script.scripted.as_ref().map_or_else(|| model.clone(), |scripted| scripted.geometry(model));
        ScriptedTask { rows: self.setting.rows.clone(), geometry, script, instances, text, image, purpose }
    }

    fn hear_latency(&mut self, job: &Job, block: &Block, cells: &[usize], launch: u32) -> Result<Ended, Problem> {
        let seconds = |cell: &usize| self.prediction.latency_seconds(*cell, launch);
        let longest = cells.iter().map(seconds).fold(0.0, f64::max);
        let patience = self.setting.patience(longest + self.prediction.load_seconds());
        let mut now = String::new();
        self.run_worker(job, patience, OnInterrupt::AfterDecoding, |sweep, message| {
            match message {
                Message::Model(record) => sweep.note_model(record),
                Message::Phase(phase) => {
                    let label = phase.id.as_ref().and_then(|id| sweep.label_of(id)).map_or(String::new(), |label| format!(", {label}"));
                    now = format!("{}{label}: {}", block.name, phase.work);
                    sweep.progress.phase(&now);
                }
                Message::Progress { done, all } => sweep.progress.phase(&format!("{now}, {done} of {all}")),
                Message::Visit(visit) => match sweep.ids.iter().position(|id| *id == visit.cell) {
                    Some(cell) if block.cells.contains(&cell) && visit.pass == Pass::Latency && !visit.control => {
                        sweep.finish_cell(cell, block, visit)?
                    }
                    // The check of a composed time, the control, or the baseline, timed again. That one failed makes no row.
                    _ if visit.pass == Pass::Check || visit.status == Status::Ok => {
                        sweep.keep(Visit { block: Some(block.name.clone()), ..visit })?;
                    }
                    _ => {
                        let what = if visit.control { "the baseline's double" } else { "the baseline, timed again," };
                        let error = visit.error.unwrap_or_default();
                        sweep.warn(format!("{}: {what} failed in launch {}: {error}", block.name, visit.launch + 1));
                    }
                },
                _ => {}
            }
            Ok(())
        })
    }

    /// Counts the bytes of a cell that was timed.
    pub(super) fn count_bytes(&mut self, index: usize, recording: Option<&StoredRecording>) -> Result<(), Problem> {
        if self.done().has_failed(index) || self.done().was_judged(index, Pass::Memory) || interrupt::requested() {
            return Ok(());
        }
        let cell = self.cell(index);
        let script = self.prediction.script(index);
        let chunk = if self.probes.recomputes(&cell.label) { script.seq_len } else { script.prefill_chunk };
        let instance = instance_of(cell, &self.ids[index]);
        let what = format!("{} at {}: counting bytes", cell.label, cell.seq_len);
        let seconds = self.prediction.memory_seconds(index);
        let text = self.prediction.text(index);
        let task = if script.scripted.is_some() {
            Task::Scripted(self.script_for(script, vec![instance], Purpose::Bytes))
        } else {
            Task::Memory(MemoryTask {
                instance,
                geometry: self.setting.model_config.geometry.clone(),
                recording: recording.filter(|_| self.prediction.reads_recording(index)).map(|recording| recording.folder().to_owned()),
                room_to_fork: self.prediction.room_to_fork(index),
                script,
                chunk,
                text,
            })
        };
        self.progress.phase(&what);
        let mut counted = vec![];
        let patience = self.setting.patience(seconds);
        let ended = self.insist(&what, task, patience, OnInterrupt::AfterVisit, |_, message| {
            if let Message::Visit(visit) = message {
                counted.push(visit);
            }
            Ok(())
        })?;
        let failed = |status, reason: &str| Visit::failed(&self.ids[index], Pass::Memory, status, &in_words(&ended.phase), reason);
        // What was counted stays counted, even if the worker died afterwards. The text comes first: with the bytes the cell is done.
        counted.sort_by_key(|visit| visit.pass != Pass::Text);
        let was_counted = counted.iter().any(|visit| visit.pass == Pass::Memory);
        if !was_counted {
            counted.push(match &ended.how {
                How::Interrupted => return Ok(()),
                How::Finished => failed(Status::Failed, "the worker answered nothing"),
                How::Died(status, reason, _) => failed(*status, reason),
            });
        } else if let (How::Died(_, reason, _), Text::Followed) = (&ended.how, text) {
            self.warn(format!("{what}: the cache could not be followed along the text: {reason}"));
        }
        counted.into_iter().try_for_each(|visit| self.keep(visit))?;
        self.advance(seconds);
        Ok(())
    }

    /// Keeps a cell's latency visit and shows it.
    fn finish_cell(&mut self, index: usize, block: &Block, mut visit: Visit) -> Result<(), Problem> {
        let predicted = Some(self.cell(index)).filter(|cell| cell.workload.has_lengths());
        if let Some((bytes, Certainty::Predicted)) = predicted.and_then(|cell| self.probes.bytes(self.plan, cell)) {
            visit.values.insert("predicted_bytes".into(), bytes as f64);
        }
        visit.block = Some(block.name.clone());
        let seconds = self.prediction.latency_seconds(index, visit.launch);
        self.keep(visit.clone())?;
        self.progress.count_cell();
        self.advance(seconds);
        let cell = &self.plan.cells[index];
        let of_other = if self.build == Build::Other { " (the other build)" } else { "" };
        self.progress.visit(&format!("{}{of_other}", cell.label), cell.seq_len, cell.batch, &visit);
        Ok(())
    }

    fn label_of(&self, id: &str) -> Option<String> {
        let index = self.ids.iter().position(|other| other == id)?;
        Some(self.cell(index).label.clone())
    }

    /// Runs a job whose worker may be started again from the beginning: once, if somebody else ended it.
    pub(super) fn insist(
        &mut self,
        what: &str,
        task: Task,
        patience: Duration,
        on_interrupt: OnInterrupt,
        mut hear: impl FnMut(&mut Self, Message) -> Result<(), Problem>,
    ) -> Result<Ended, Problem> {
        let job = self.setting.job(task);
        let ended = self.run_worker(&job, patience, on_interrupt, &mut hear)?;
        if !matches!(ended.how, How::Died(_, _, By::SomebodyElse)) {
            return Ok(ended);
        }
        self.note_retry(what);
        self.run_worker(&job, patience, on_interrupt, &mut hear)
    }

    /// Runs a worker of the build whose turn it is, and adds up how long those of its kind took.
    fn run_worker(
        &mut self,
        job: &Job,
        patience: Duration,
        on_interrupt: OnInterrupt,
        mut hear: impl FnMut(&mut Self, Message) -> Result<(), Problem>,
    ) -> Result<Ended, Problem> {
        let begun = Instant::now();
        let program = self.setting.program(self.build);
        let ended = process::run(&program, job, patience, on_interrupt, |message| hear(self, message));
        *self.run.seconds.entry(job.task.name().to_owned()).or_default() += begun.elapsed().as_secs_f64();
        ended
    }

    /// Notes that a worker was ended from outside and is started again.
    fn note_retry(&mut self, what: &str) {
        self.warn(format!("A worker was killed from outside and started again ({what})."));
    }

    /// Says a warning, and keeps it for the report.
    pub(super) fn warn(&mut self, warning: String) {
        say(&warning);
        if !self.run.warnings.contains(&warning) {
            self.run.warnings.push(warning);
        }
    }
}

/// The work that a worker did last.
pub(super) fn in_words(phase: &Option<Phase>) -> String {
    phase.as_ref().map_or("start".to_owned(), |phase| phase.work.to_string())
}
