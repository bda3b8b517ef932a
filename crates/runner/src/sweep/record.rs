//! Recording the prompt, and what is noted about the model.

use super::Sweep;
use super::prediction::RecordingPrediction;
use crate::config::Workload;
use crate::models::Loaded;
use crate::progress::say;
use crate::recording::{Store, StoredRecording};
use crate::worker::process::{self, How, OnInterrupt, SecondTry};
use crate::worker::protocol::{Message, RecordTask, Task};
use crate::{Problem, interrupt};

impl Sweep<'_> {
    /// Records the prompt, or finds it recorded. `None` if nothing is to be replayed, or if it cannot be recorded: every
    /// prompt is computed then, as rows and warnings say.
    ///
    /// # Errors
    /// A [`Problem`] if no worker can be started, or there is no room on the disk.
    pub(super) fn record(&mut self) -> Result<Option<StoredRecording>, Problem> {
        let Some(RecordingPrediction { key, disk_bytes, .. }) = &self.prediction.recording else { return Ok(None) };
        let is_needed = |cell: &usize| {
            let is_replayed = self.cell(*cell).workload == Workload::Decode && !self.probes.recomputes(&self.cell(*cell).label);
            is_replayed && !self.is_done(*cell)
        };
        if !self.prediction.blocks.iter().flat_map(|block| &block.cells).any(is_needed) {
            return Ok(None);
        }
        let store = Store::of_user()?;
        store.remove_stale();
        let stored = match store.claim(key, self.kept, self.folder.path()) {
            Ok(stored) => stored,
            Err(problem) => {
                self.warn_of_prefills(&problem.line());
                return Ok(None);
            }
        };
        let geometry = &self.setting.model_config.geometry;
        if stored.is_finished(key, geometry) {
            return Ok(Some(stored));
        }
        if let Err(problem) = store.require_room(*disk_bytes) {
            stored.discard();
            return Err(problem);
        }
        let task = RecordTask { model: self.setting.model.clone(), key: key.clone(), folder: stored.folder().to_owned() };
        let job = self.setting.job(Task::Record(task));
        let seconds = self.prediction.recording_seconds();
        let patience = self.setting.patience(seconds);
        let mut second_try = SecondTry::default();
        let mut model = None;
        let mut has_begun = false;
        let how = loop {
            let progress = &mut self.progress;
            let ended = process::run(&job, patience, OnInterrupt::AtOnce, |message| {
                match message {
                    Message::Model(record) => model = Some(record),
                    Message::Phase(phase) => {
                        has_begun = model.is_some();
                        progress.phase(&format!("the prompt of {} tokens: {}", key.tokens.len(), phase.name));
                    }
                    Message::Progress { done, all } => {
                        progress.phase(&format!("recording the prompt: {done} of {all} tokens"));
                        // Attention grows with the length: work done is between linear and quadratic.
                        progress.within(seconds, (done as f64 / all.max(1) as f64).powf(1.2));
                    }
                    _ => {}
                }
                Ok(())
            })?;
            if let Some(how) = second_try.judge(ended.how) {
                break how;
            }
        };
        if let Some(model) = model {
            self.note_model(model);
        }
        let reason = match how {
            How::Finished => {
                self.progress.advance(seconds);
                return Ok(Some(stored));
            }
            How::Interrupted => {
                stored.discard();
                return Ok(None);
            }
            // Without its model, there is nothing to measure at all.
            How::Refused(problem) if !has_begun => return Err(problem),
            How::Refused(problem) => problem.line(),
            How::Killed(reason) | How::Died(_, reason) => reason,
        };
        stored.discard();
        if !interrupt::requested() {
            self.warn_of_prefills(&reason);
        }
        Ok(None)
    }

    fn warn_of_prefills(&mut self, reason: &str) {
        let warning = format!("The prompt could not be recorded ({reason}), so the model computed it for every strategy and length.");
        say(&warning);
        if !self.run.warnings.contains(&warning) {
            self.run.warnings.push(warning);
        }
    }

    /// Notes how the model lay in memory. The first load counts.
    pub(super) fn note_model(&mut self, loaded: Loaded) {
        let known = &mut self.run.model;
        if known.weight_pages.is_empty() {
            known.model_bytes = loaded.bytes;
            known.weight_formats = loaded.formats;
            known.weight_pages = loaded.pages;
            known.load_seconds = loaded.seconds;
        }
    }
}
