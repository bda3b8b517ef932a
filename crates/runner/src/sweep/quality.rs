//! The passes that judge quality, each in a worker.

use std::path::PathBuf;

use kv_quality::RecallPrompt;
use kv_report::{Pass, Status, Visit};

use super::Sweep;
use super::done::Done;
use super::job::instance_of;
use super::passes::in_words;
use super::prediction::RecordingPrediction;
use super::record::Recorded;
use crate::recall_texts::RecallSource;
use crate::recording::{Store, StoredRecording};
use crate::worker::process::{Ended, How, OnInterrupt};
use crate::worker::protocol::{AttentionTask, ExactAnswers, Message, QualityTask, RecallSpec, Sequences, Streamed, Task, Window};
use crate::{Problem, interrupt};

/// Sequences that are generated where none are recorded: attention is compared on each, and intervals are over them.
const GENERATED_SEQUENCES: u64 = 4;

/// What was recorded for the passes that judge quality: all of a kind, or fewer if they could not be recorded.
#[derive(Debug, Default)]
pub(super) struct Recordings {
    /// The beginnings of the text's windows.
    windows: Vec<StoredRecording>,
    /// The texts that state facts.
    recall: Vec<StoredRecording>,
}

impl Recordings {
    /// Gives them up once everything was judged.
    pub(super) fn end(self) {
        self.windows.into_iter().chain(self.recall).for_each(StoredRecording::end);
    }
}

impl Sweep<'_> {
    /// Records what the model reads, and what states the facts that it is asked for. Fewer than all if it cannot be recorded or
    /// after Ctrl-C: then no text is read, or no facts are asked for.
    pub(super) fn record_texts(&mut self) -> Result<Recordings, Problem> {
        let prediction = self.prediction;
        let is_due = |cell: usize, done: Done<'_>| !done.was_judged(cell, Pass::Quality) && !done.has_failed(cell);
        let builds = self.setting.builds();
        let is_needed = |cell: &usize| prediction.reads_text(*cell) && builds.iter().any(|build| is_due(*cell, self.done_by(*build)));
        if !prediction.own_blocks().flat_map(|block| &block.cells).any(is_needed) {
            return Ok(Recordings::default());
        }
        let windows = self.record_all(&prediction.windows, "window", "the model reads no text")?;
        let is_stopped = windows.len() < prediction.windows.len();
        let recall =
            if is_stopped { vec![] } else { self.record_all(&prediction.recall, "text with facts", "the model is asked for none")? };
        Ok(Recordings { windows, recall })
    }

    fn record_all(&mut self, texts: &[RecordingPrediction], what: &str, otherwise: &str) -> Result<Vec<StoredRecording>, Problem> {
        let mut stored = vec![];
        // All of them or none: a text of which a part was recorded is not read.
        let bytes = texts.iter().map(|text| text.disk_bytes).sum();
        if let Err(problem) = Store::of_user().and_then(|store| store.require_room(bytes)) {
            self.warn(format!("Every {what} could not be recorded ({}), so {otherwise}.", problem.line()));
            return Ok(stored);
        }
        for (index, text) in texts.iter().enumerate() {
            let which = format!("{what} {} of {}", index + 1, texts.len());
            match self.record_prompt(text, &which, self.prediction.text_recording_seconds(text))? {
                Recorded::Stored(recording) => stored.push(recording),
                Recorded::Interrupted => break,
                Recorded::Failed(reason) => {
                    self.warn(format!("{which} could not be recorded ({reason}), so {otherwise}."));
                    break;
                }
            }
        }
        Ok(stored)
    }

    /// Judges a cell that was timed.
    pub(super) fn judge_quality(&mut self, index: usize, prompt: Option<&StoredRecording>, texts: &Recordings) -> Result<(), Problem> {
        if self.prediction.judges_attention(index) && !self.done().has_failed(index) && !self.done().was_judged(index, Pass::Attention) {
            self.judge_attention(index, prompt, &texts.windows)?;
        }
        let is_wanted =
            self.prediction.reads_text(index) && !self.done().has_failed(index) && !self.done().was_judged(index, Pass::Quality);
        if is_wanted && !interrupt::requested() {
            if texts.windows.len() == self.prediction.windows.len() {
                self.judge_text(index, texts)?;
            } else {
                let reason = "the windows of the text could not be recorded";
                self.keep(Visit::failed(&self.ids[index], Pass::Quality, Status::Failed, "record", reason))?;
            }
        }
        Ok(())
    }

    /// On all windows of the text, or on the one prompt that was recorded, or on rows that are generated.
    fn judge_attention(&mut self, index: usize, prompt: Option<&StoredRecording>, windows: &[StoredRecording]) -> Result<(), Problem> {
        if interrupt::requested() {
            return Ok(());
        }
        let cell = self.cell(index);
        let recordings = windows.iter().chain(prompt.filter(|_| windows.is_empty()));
        let recorded: Vec<PathBuf> = recordings.map(|recording| recording.folder().to_owned()).collect();
        let script = self.prediction.script(index);
        let task = AttentionTask {
            instance: instance_of(cell, &self.ids[index]),
            geometry: self.setting.model_config.geometry.clone(),
            tokens: script.seq_len,
            chunk: script.prefill_chunk,
            seed: script.seed,
            sequences: if recorded.is_empty() { Sequences::Generated(GENERATED_SEQUENCES) } else { Sequences::Recorded(recorded) },
            exact_answers: self.known(index, "needle_acc_dense").map(|(share, interval)| ExactAnswers { share, interval }),
        };
        let seconds = self.prediction.attention_seconds(index);
        self.judge(index, Pass::Attention, Task::Attention(task), seconds)
    }

    fn judge_text(&mut self, index: usize, texts: &Recordings) -> Result<(), Problem> {
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
            windows: self.setting.windows.iter().zip(&texts.windows).map(window).collect(),
            together: self.prediction.windows_together(index),
            streamed: self.prediction.streams(index).then_some(Streamed { tokens: quality.streamed, chunk: quality.chunk }),
            floor: self.known(index, "kld_floor").map(|(floor, _)| floor),
            recall: if texts.recall.len() == self.prediction.recall.len() { self.recall(script.seq_len, &texts.recall) } else { vec![] },
        };
        let seconds = self.prediction.text_seconds(index);
        self.judge(index, Pass::Quality, Task::Quality(task), seconds)
    }

    /// The prompts of a length that state facts, with what is asked about them.
    fn recall(&self, seq_len: usize, recordings: &[StoredRecording]) -> Vec<RecallSpec> {
        let spec = |(source, recording): (&RecallSource, &StoredRecording)| {
            let RecallPrompt { tokens, questions } = source.prompt(seq_len);
            let recording = recording.folder().to_owned();
            RecallSpec { task: source.task, tokens: source.text.tokens()[..tokens].to_vec(), questions, recording }
        };
        self.setting.recall.iter().zip(recordings).map(spec).filter(|spec| !spec.questions.is_empty()).collect()
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

    /// A number that is the same for all cells of this length, if one of them has it in this build, with its interval.
    fn known(&self, index: usize, id: &str) -> Option<(f64, Option<(f64, f64)>)> {
        let length = self.plan.cells[index].seq_len;
        let is_of_length =
            |visit: &&Visit| (0..self.ids.len()).any(|cell| self.ids[cell] == visit.cell && self.plan.cells[cell].seq_len == length);
        let visits = self.visits_by(self.build).iter();
        let visit = visits.filter(|visit| visit.values.contains_key(id)).find(is_of_length)?;
        Some((visit.values[id], visit.intervals.get(id).copied()))
    }
}
