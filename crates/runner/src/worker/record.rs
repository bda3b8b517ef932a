//! The worker that records a prompt.

use std::fmt::Display;

use kv_model::Model;

use super::channel::Channel;
use super::protocol::{Message, ModelSpec, RecordTask, Work};
use crate::models::{self, Loaded, ModelSource};
use crate::{Problem, recording};

pub(super) fn run(task: RecordTask, channel: &Channel) -> Result<(), Problem> {
    let RecordTask { model, key, folder } = task;
    let (model, loaded) = load(&model, channel)?;
    channel.send(&Message::Model(loaded));
    channel.phase(None, Work::Record);
    let unwritten = |error: &dyn Display| Problem::new(format!("the prompt cannot be recorded in `{}`: {error}", folder.display()));
    let decoder = &model.decoder;
    let file = recording::rows_file(&folder).map_err(|error| unwritten(&error))?;
    // On a thread of the pool. From outside, every attention and product would first be handed to one.
    let header = rayon::scope(|_| recording::record(decoder, key, file, |done, all| channel.progress(done, all)));
    recording::finish(&folder, &header.map_err(|error| unwritten(&error))?).map_err(|error| unwritten(&error))
}

/// Loads a job's model.
pub(super) fn load(spec: &ModelSpec, channel: &Channel) -> Result<(Model, Loaded), Problem> {
    channel.phase(None, Work::Load);
    let source = ModelSource::of_spec(&spec.source)?;
    models::load(&source, spec.pages.pages())
}
