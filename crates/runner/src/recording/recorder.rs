//! Computing a recording.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use kv_metrics::quantile;
use kv_model::{Decoder, ModelError};
use kv_script::{Event, Input, Interpreter, Name, Script, ScriptError};

use super::row_writer::RowWriter;
use super::segments::Role;
use super::{Header, RecordedSegment, RecordingKey, Segment, Times, exact_cache, segments};
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

/// A short prompt is timed several times, for a median: single times of a busy machine differ much.
const TIMED_FOR: Duration = Duration::from_secs(2);
const MOST_TIMINGS: usize = 5;

/// Computes the prompt of `key` with an exact cache, and writes its rows to `file`. If times are wanted, the prompt is computed
/// once more, with another cache and nothing written, and the model's part of each step is timed. Calls `progress` with the tokens computed and all that are to be computed.
///
/// # Errors
/// [`RecordError`]; the file is incomplete then.
pub(crate) fn record(
    decoder: &Decoder,
    key: RecordingKey,
    file: File,
    mut progress: impl FnMut(usize, usize),
) -> Result<Header, RecordError> {
    let prompt = key.tokens.len();
    let passes = if key.times == Times::Taken { 2 } else { 1 };
    let exact = || exact_cache(&decoder.config().geometry, prompt).map_err(|problem| io::Error::other(problem.line()));

    let mut recorded = vec![];
    let mut offset = 0;
    let mut cache = Timed::recording(exact()?, RowWriter::new(file, key.queries));
    run(decoder, &mut cache, &key, |step| {
        recorded.push(RecordedSegment { segment: step.segment, offset, model_ms: None, next_token: step.next_token });
        offset = step.rows_position;
        progress(step.segment.end, passes * prompt);
    })?;
    cache.rows().map_or(Ok(()), RowWriter::sync)?;
    drop(cache);

    if passes == 2 {
        let mut times = vec![vec![]; recorded.len()];
        let began = Instant::now();
        for pass in 0..MOST_TIMINGS {
            let mut segment = 0;
            run(decoder, &mut Timed::new(exact()?), &key, |step| {
                times[segment].push(step.model_ms);
                segment += 1;
                let done = if pass == 0 { step.segment.end } else { prompt };
                progress(prompt + done, passes * prompt);
            })?;
            if began.elapsed() > TIMED_FOR {
                break;
            }
        }
        for (recorded, times) in recorded.iter_mut().zip(&times) {
            recorded.model_ms = quantile(times, 0.5);
        }
    }
    Ok(Header { key, segments: recorded })
}

/// A step of a prompt that was computed.
struct Computed {
    segment: Segment,
    next_token: u32,
    /// The step's time without the cache's.
    model_ms: f64,
    /// Bytes of rows written so far.
    rows_position: u64,
}

/// Computes a prompt segment by segment.
fn run(decoder: &Decoder, cache: &mut Timed, key: &RecordingKey, mut hear: impl FnMut(Computed)) -> Result<(), ScriptError<ModelError>> {
    let mut interpreter = Interpreter::new(ModelDriver::new(decoder));
    let name = Name::new("prompt");
    interpreter.run(cache, &Event::Open { sequence: name.clone() })?;
    for segment in segments(&key.lengths, key.chunk) {
        let Segment { start, end, role } = segment;
        let input = Input::Tokens(key.tokens[start..end].to_vec());
        cache.take_spent();
        let began = Instant::now();
        interpreter.run(cache, &Event::Append { inputs: vec![(name.clone(), input)] })?;
        let model_ms = began.elapsed().saturating_sub(cache.take_spent().cache).as_secs_f64() * 1e3;
        let next_token = interpreter.next_token(&name).unwrap_or_default();
        let rows_position = cache.rows().map_or(0, |rows| rows.position());
        hear(Computed { segment, next_token, model_ms, rows_position });
        if role == Role::Tail {
            interpreter.run(cache, &Event::Truncate { sequence: name.clone(), tokens: segment.len() })?;
        }
    }
    Ok(())
}

/// Lets the model take a few single steps for nothing.
pub(crate) fn warm_up_decoding(decoder: &Decoder) {
    const STEPS: usize = 4;
    let Ok(mut cache) = exact_cache(&decoder.config().geometry, STEPS) else { return };
    let mut interpreter = Interpreter::new(ModelDriver::new(decoder));
    let script = Script::prefill(&[&[0]], 1).then(Script::decode(1, STEPS - 1));
    // What fails here fails again where it is measured.
    let _ = script.events.iter().try_for_each(|event| interpreter.run(cache.as_mut(), event));
}

/// Lets the model compute `tokens` tokens for nothing: the first large step of a process pays for memory that later ones
/// reuse. What goes wrong here goes wrong again where it is told.
pub(crate) fn warm_up(decoder: &Decoder, tokens: usize) {
    let Ok(mut cache) = exact_cache(&decoder.config().geometry, tokens) else { return };
    let mut interpreter = Interpreter::new(ModelDriver::new(decoder));
    let script = Script::prefill(&[&vec![0; tokens]], tokens.max(1));
    let _ = script.events.iter().try_for_each(|event| interpreter.run(cache.as_mut(), event));
}
