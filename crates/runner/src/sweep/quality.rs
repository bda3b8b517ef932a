//! The passes that judge quality, each in a worker.

use kv_report::{Pass, Status, Visit};

use super::Sweep;
use super::done::Done;
use super::job::instance_of;
use super::passes::in_words;
use super::record::Recorded;
use crate::recording::{Store, StoredRecording};
use crate::worker::process::{Ended, How, OnInterrupt};
use crate::worker::protocol::{AttentionTask, Message, QualityTask, Streamed, Task, Window};
use crate::{Problem, interrupt};

impl Sweep<'_> {
    /// Records the beginnings of the text's windows. Fewer than all if they cannot be recorded or after Ctrl-C: then no text is
    /// read.
    pub(super) fn record_windows(&mut self) -> Result<Vec<StoredRecording>, Problem> {
        let prediction = self.prediction;
        let is_due = |cell: usize, done: Done<'_>| !done.was_judged(cell, Pass::Quality) && !done.has_failed(cell);
        let builds = self.setting.builds();
        let is_needed = |cell: &usize| prediction.reads_text(*cell) && builds.iter().any(|build| is_due(*cell, self.done_by(*build)));
        let mut stored = vec![];
        if !prediction.blocks.iter().flat_map(|block| &block.cells).any(is_needed) {
            return Ok(stored);
        }
        // All of them or none: a text of which a part was recorded is not read.
        let bytes = prediction.windows.iter().map(|window| window.disk_bytes).sum();
        if let Err(problem) = Store::of_user().and_then(|store| store.require_room(bytes)) {
            self.warn(format!("The windows of the text could not be recorded ({}), so the model reads no text.", problem.line()));
            return Ok(stored);
        }
        for (index, window) in prediction.windows.iter().enumerate() {
            let what = format!("window {} of {} of the text", index + 1, prediction.windows.len());
            match self.record_prompt(window, &what, prediction.window_seconds())? {
                Recorded::Stored(recording) => stored.push(recording),
                Recorded::Interrupted => break,
                Recorded::Failed(reason) => {
                    self.warn(format!("{what} could not be recorded ({reason}), so the model reads no text."));
                    break;
                }
            }
        }
        Ok(stored)
    }

    /// Judges a cell that was timed.
    pub(super) fn judge_quality(
        &mut self,
        index: usize,
        prompt: Option<&StoredRecording>,
        windows: &[StoredRecording],
    ) -> Result<(), Problem> {
        if self.prediction.judges_attention(index) && !self.done().has_failed(index) && !self.done().was_judged(index, Pass::Attention) {
            self.judge_attention(index, windows.first().or(prompt))?;
        }
        let is_wanted =
            self.prediction.reads_text(index) && !self.done().has_failed(index) && !self.done().was_judged(index, Pass::Quality);
        if is_wanted && !interrupt::requested() {
            if windows.len() == self.prediction.windows.len() {
                self.judge_text(index, windows)?;
            } else {
                let reason = "the windows of the text could not be recorded";
                self.keep(Visit::failed(&self.ids[index], Pass::Quality, Status::Failed, "record", reason))?;
            }
        }
        Ok(())
    }

    fn judge_attention(&mut self, index: usize, recording: Option<&StoredRecording>) -> Result<(), Problem> {
        if interrupt::requested() {
            return Ok(());
        }
        let cell = self.cell(index);
        let script = self.prediction.script(index);
        let task = AttentionTask {
            instance: instance_of(cell, &self.ids[index]),
            geometry: self.setting.model_config.geometry.clone(),
            tokens: script.seq_len,
            chunk: script.prefill_chunk,
            seed: script.seed,
            recording: recording.map(|recording| recording.folder().to_owned()),
        };
        let seconds = self.prediction.attention_seconds(index);
        self.judge(index, Pass::Attention, Task::Attention(task), seconds)
    }

    fn judge_text(&mut self, index: usize, recordings: &[StoredRecording]) -> Result<(), Problem> {
        let (Some(quality), Some(model)) = (&self.plan.quality, self.setting.rows.model()) else { return Ok(()) };
        let cell = self.cell(index);
        let script = self.prediction.script(index);
        let window = |(tokens, recording): (&Vec<u32>, &StoredRecording)| Window {
            tokens: tokens.clone(),
            recording: recording.folder().to_owned(),
        };
        let task = QualityTask {
            model: model.clone(),
            instance: instance_of(cell, &self.ids[index]),
            seq_len: script.seq_len,
            prefill_chunk: script.prefill_chunk,
            steps: quality.steps,
            windows: self.setting.windows.iter().zip(recordings).map(window).collect(),
            together: self.prediction.windows_together(index),
            streamed: self.prediction.streams(index).then_some(Streamed { tokens: quality.streamed, chunk: quality.chunk }),
        };
        let seconds = self.prediction.text_seconds(index);
        self.judge(index, Pass::Quality, Task::Quality(task), seconds)
    }

    /// Runs a judge. One that dies makes no row fail: the cell was timed and weighed.
    fn judge(&mut self, index: usize, pass: Pass, task: Task, seconds: f64) -> Result<(), Problem> {
        let cell = self.cell(index);
        let what = format!("{} at {}", cell.label, cell.seq_len);
        let mut judged = vec![];
        let mut now = what.clone();
        let patience = self.setting.patience(seconds);
        let ended: Ended = self.insist(&what.clone(), task, patience, OnInterrupt::AtOnce, |sweep, message| {
            match message {
                Message::Visit(visit) => judged.push(visit),
                Message::Phase(phase) => {
                    now = format!("{what}: {}", phase.work);
                    sweep.progress.phase(&now);
                }
                Message::Progress { done, all } => sweep.progress.phase(&format!("{now}, {done} of {all}")),
                _ => {}
            }
            Ok(())
        })?;
        let failed = |status, reason: &str| Visit::failed(&self.ids[index], pass, status, &in_words(&ended.phase), reason);
        match (judged.last_mut(), &ended.how) {
            // Half of an answer would be taken for all of it by a run that goes on.
            (_, How::Interrupted) => return Ok(()),
            (Some(_), How::Finished) => {}
            (None, How::Finished) => judged.push(failed(Status::Failed, "the worker answered nothing")),
            (Some(last), How::Died(_, reason, _)) => last.notes.push(format!("{} was not completed: {reason}", in_words(&ended.phase))),
            (None, How::Died(status, reason, _)) => judged.push(failed(*status, reason)),
        }
        judged.into_iter().try_for_each(|visit| self.keep(visit))?;
        self.advance(seconds);
        Ok(())
    }
}
