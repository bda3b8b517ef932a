//! Computing a recording.

use std::fs::File;
use std::io;
use std::time::Instant;

use kv_core::KvCache;
use kv_model::{Decoder, ModelError};
use kv_script::{Event, Input, Interpreter, Name, Script, ScriptError};

use super::row_writer::RowWriter;
use super::segments::Role;
use super::{Header, RecordedSegment, RecordingKey, Segment, exact_cache, segments};
use crate::drivers::ModelDriver;
use crate::timed::Timed;

/// Why a recording could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("cannot write the recording: {0}")]
    Write(#[from] io::Error),
    #[error(transparent)]
    Script(#[from] ScriptError<ModelError>),
}

/// Computes the prompt of `key` with an exact cache, and writes its rows to `file`. Calls `progress` with the tokens done.
///
/// # Errors
/// [`RecordError`]; the file is incomplete then.
pub(crate) fn record(
    decoder: &Decoder,
    exact: Box<dyn KvCache>,
    key: RecordingKey,
    file: File,
    mut progress: impl FnMut(usize),
) -> Result<Header, RecordError> {
    warm_up(decoder, key.chunk.min(key.tokens.len()));
    let mut cache = Timed::recording(exact, RowWriter::new(file, key.queries));
    let mut interpreter = Interpreter::new(ModelDriver::new(decoder));
    let name = Name::new("prompt");
    interpreter.run(&mut cache, &Event::Open { sequence: name.clone() })?;
    let mut recorded = vec![];
    for segment in segments(&key.lengths, key.chunk) {
        let Segment { start, end, role } = segment;
        let offset = cache.rows().map_or(0, |rows| rows.position());
        let input = Input::Tokens(key.tokens[start..end].to_vec());
        cache.take_spent();
        let began = Instant::now();
        interpreter.run(&mut cache, &Event::Append { inputs: vec![(name.clone(), input)] })?;
        let elapsed = began.elapsed();
        let spent = cache.take_spent();
        // Otherwise the system would write while the next step is timed.
        cache.rows().map_or(Ok(()), RowWriter::sync)?;
        let model_ms = elapsed.saturating_sub(spent.cache + spent.writing).as_secs_f64() * 1e3;
        let next_token = interpreter.next_token(&name).unwrap_or_default();
        recorded.push(RecordedSegment { segment, offset, model_ms, next_token });
        if role == Role::Tail {
            interpreter.run(&mut cache, &Event::Truncate { sequence: name.clone(), tokens: segment.len() })?;
        }
        progress(end);
    }
    Ok(Header { key, segments: recorded })
}

/// Lets the model compute `tokens` tokens for nothing: the first large step of a process pays for memory that later ones
/// reuse. What goes wrong here goes wrong again where it is told.
pub(crate) fn warm_up(decoder: &Decoder, tokens: usize) {
    let Ok(mut cache) = exact_cache(&decoder.config().geometry, tokens) else { return };
    let mut interpreter = Interpreter::new(ModelDriver::new(decoder));
    let script = Script::prefill(&[&vec![0; tokens]], tokens.max(1));
    let _ = script.events.iter().try_for_each(|event| interpreter.run(cache.as_mut(), event));
}
