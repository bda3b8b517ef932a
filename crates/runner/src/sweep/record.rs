//! Recording the prompt, and what is noted about the model.

use kv_report::counted;

use super::Sweep;
use super::prediction::RecordingPrediction;
use crate::Problem;
use crate::config::Level;
use crate::models::Loaded;
use crate::recording::{Store, StoredRecording};
use crate::worker::process::{How, OnInterrupt};
use crate::worker::protocol::{Message, RecordTask, Task, Work};

/// What came of recording a prompt.
pub(super) enum Recorded {
    Stored(StoredRecording),
    Interrupted,
    /// Why it cannot be recorded.
    Failed(String),
}

impl Sweep<'_> {
    /// Records the prompt, or finds it recorded. `None` if nothing is to be replayed, or if it cannot be recorded: every
    /// prompt is computed then, as rows and warnings say.
    ///
    /// # Errors
    /// A [`Problem`] if no worker can be started, or there is no room on the disk.
    pub(super) fn record(&mut self) -> Result<Option<StoredRecording>, Problem> {
        let Some(prompt) = &self.prediction.recording else { return Ok(None) };
        let is_needed = |cell: &usize| self.prediction.reads_recording(*cell) && self.is_left(*cell);
        if !self.prediction.own_blocks().flat_map(|block| &block.cells).any(is_needed) {
            return Ok(None);
        }
        let seconds = self.prediction.recording_seconds();
        match self.record_prompt(prompt, &format!("the prompt of {}", counted(prompt.key.tokens.len(), "token")), seconds)? {
            Recorded::Stored(stored) => Ok(Some(stored)),
            Recorded::Interrupted => Ok(None),
            Recorded::Failed(reason) => self.without_recording(&reason),
        }
    }

    /// Records what a prediction says, or finds it recorded.
    ///
    /// # Errors
    /// A [`Problem`] if no worker can be started, or there is no room on the disk.
    pub(super) fn record_prompt(&mut self, prompt: &RecordingPrediction, what: &str, seconds: f64) -> Result<Recorded, Problem> {
        let RecordingPrediction { key, disk_bytes, .. } = prompt;
        let Some(model) = self.setting.rows.model() else { return Ok(Recorded::Failed("there is no model".into())) };
        let store = Store::of_user()?;
        store.remove_stale();
        let stored = match store.claim(key, self.kept, self.folder.path()) {
            Ok(stored) => stored,
            Err(problem) => return Ok(Recorded::Failed(problem.line())),
        };
        if stored.is_finished(key, &self.setting.model_config.geometry) {
            return Ok(Recorded::Stored(stored));
        }
        if let Err(problem) = store.require_room(*disk_bytes) {
            stored.discard();
            return Err(problem);
        }
        let task = RecordTask { model: model.clone(), key: key.clone(), folder: stored.folder().to_owned() };
        let mut has_begun = false;
        let patience = self.setting.patience(seconds);
        let ended = self.insist(what, Task::Record(task), patience, OnInterrupt::AtOnce, |sweep, message| {
            match message {
                Message::Model(loaded) => sweep.note_model(loaded),
                Message::Phase(phase) => {
                    has_begun = phase.work == Work::Record;
                    sweep.progress.phase(&format!("{what}: {}", phase.work));
                }
                Message::Progress { done, all } => {
                    sweep.progress.phase(&format!("{what}: {done} of {all} computed"));
                    sweep.progress.within(seconds, done as f64 / all.max(1) as f64);
                }
                _ => {}
            }
            Ok(())
        });
        let outcome = match ended.map(|ended| ended.how) {
            Ok(How::Finished) => {
                self.progress.advance(seconds);
                return Ok(Recorded::Stored(stored));
            }
            Ok(How::Interrupted) => Recorded::Interrupted,
            Ok(How::Died(_, reason, _)) => Recorded::Failed(reason),
            Err(problem) if has_begun => Recorded::Failed(problem.line()),
            // Without its model, there is nothing to measure at all.
            Err(problem) => return Err(problem),
        };
        stored.discard();
        Ok(outcome)
    }

    /// Goes on without a recording, if the model can compute what was to be recorded.
    fn without_recording(&mut self, reason: &str) -> Result<Option<StoredRecording>, Problem> {
        if self.plan.level == Level::Attention {
            return Err(Problem::new(format!("the model's rows could not be recorded: {reason}"))
                .help("`preset` in [model] names a shape whose rows are generated"));
        }
        self.warn(format!("The prompt could not be recorded ({reason}), so the model computed it for every strategy and length."));
        Ok(None)
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
