//! Computing a recording.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use kv_core::{CacheError, Geometry, Guarantee, KvCache, SeqId, Tensor, Usage, View};
use kv_model::{Decoder, ModelError};
use kv_script::{Event, Input, Interpreter, Name, ScriptError};

use super::segments::Role;
use super::{Header, Queries, RecordedSegment, RecordingKey, Segment, segments};
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
    let written = Written::new(file);
    let recorder = Recorder { inner: exact, rows: written.clone(), queries: key.queries };
    let mut cache = Timed::new(Box::new(recorder));
    let mut interpreter = Interpreter::new(ModelDriver::new(decoder));
    let name = Name::new("prompt");
    interpreter.run(&mut cache, &Event::Open { sequence: name.clone() })?;
    warm_up(&mut cache, &mut interpreter, &name, &key)?;
    written.start()?;
    let mut recorded = vec![];
    for segment in segments(&key.lengths, key.chunk) {
        let Segment { start, end, role } = segment;
        let offset = written.position();
        let input = Input::Tokens(key.tokens[start..end].to_vec());
        cache.take_spent();
        let began = Instant::now();
        interpreter.run(&mut cache, &Event::Append { inputs: vec![(name.clone(), input)] })?;
        let elapsed = began.elapsed();
        // Otherwise the system would write while the next step is timed.
        written.finish()?;
        let model_ms = elapsed.saturating_sub(cache.take_spent().cache).as_secs_f64() * 1e3;
        let next_token = interpreter.next_token(&name).unwrap_or_default();
        recorded.push(RecordedSegment { segment, offset, model_ms, next_token });
        if role == Role::Tail {
            interpreter.run(&mut cache, &Event::Truncate { sequence: name.clone(), tokens: segment.len() })?;
        }
        progress(end);
    }
    Ok(Header { key, segments: recorded })
}

/// Takes the first step and takes it back: the first large step of a process pays for memory that later ones reuse.
fn warm_up(
    cache: &mut Timed,
    interpreter: &mut Interpreter<ModelDriver<'_>>,
    name: &Name,
    key: &RecordingKey,
) -> Result<(), ScriptError<ModelError>> {
    let tokens = key.tokens[..key.chunk.min(key.tokens.len())].to_vec();
    let len = tokens.len();
    interpreter.run(cache, &Event::Append { inputs: vec![(name.clone(), Input::Tokens(tokens))] })?;
    interpreter.run(cache, &Event::Truncate { sequence: name.clone(), tokens: len })
}

/// A cache that writes down what it is given: for each step and layer the keys, the values, and the queries if asked for.
#[derive(Debug)]
pub(crate) struct Recorder {
    inner: Box<dyn KvCache>,
    rows: Written,
    queries: Queries,
}

/// The file of the rows, and the first error of writing it: a cache has no error for that.
#[derive(Debug, Clone)]
struct Written(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    file: BufWriter<File>,
    position: u64,
    error: Option<io::Error>,
}

impl Written {
    fn new(file: File) -> Written {
        Written(Arc::new(Mutex::new(State { file: BufWriter::with_capacity(1 << 20, file), position: 0, error: None })))
    }

    fn add(&self, rows: &Tensor<3>) {
        let mut state = self.state();
        if state.error.is_some() {
            return;
        }
        let data = rows.clone().into_data();
        match data.as_slice::<f32>() {
            Ok(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                state.position += bytes.len() as u64;
                state.error = state.file.write_all(&bytes).err();
            }
            Err(_) => state.error = Some(io::Error::other("rows that are not `f32`")),
        }
    }

    fn position(&self) -> u64 {
        self.state().position
    }

    /// Forgets what was written so far.
    fn start(&self) -> io::Result<()> {
        let mut state = self.state();
        state.error.take().map_or(Ok(()), Err)?;
        state.position = 0;
        state.file.rewind()?;
        state.file.get_ref().set_len(0)
    }

    /// Brings everything to the disk, or answers the first error of writing it.
    fn finish(&self) -> io::Result<()> {
        let mut state = self.state();
        state.error.take().map_or(Ok(()), Err)?;
        state.file.flush()?;
        state.file.get_ref().sync_data()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[deny(clippy::missing_trait_methods)]
impl KvCache for Recorder {
    fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
        self.rows.add(&keys);
        self.rows.add(&values);
        self.inner.append(seq, layer, keys, values)
    }

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        if self.queries == Queries::Recorded {
            self.rows.add(&queries);
        }
        self.inner.attend(seq, layer, queries)
    }

    fn open(&mut self) -> Result<SeqId, CacheError> {
        self.inner.open()
    }

    fn close(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.inner.close(seq)
    }

    fn seen(&self, seq: SeqId) -> Result<usize, CacheError> {
        self.inner.seen(seq)
    }

    fn begin(&mut self, seq: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError> {
        self.inner.begin(seq, fresh)
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.inner.commit(seq)
    }

    fn prompt_end(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.inner.prompt_end(seq)
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId, CacheError> {
        self.inner.fork(seq)
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), CacheError> {
        self.inner.truncate(seq, len)
    }

    fn view(&self, seq: SeqId, layer: usize, kv_head: usize) -> Result<View, CacheError> {
        self.inner.view(seq, layer, kv_head)
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn least_bytes(&self, tokens: usize) -> usize {
        self.inner.least_bytes(tokens)
    }

    fn guarantee(&self) -> Guarantee {
        self.inner.guarantee()
    }

    fn recomputes(&self) -> bool {
        self.inner.recomputes()
    }
}

/// Bytes of one token's rows over all layers.
pub(super) fn token_bytes(geometry: &Geometry, queries: Queries) -> u64 {
    let Geometry { layers, heads, kv_heads, key_dim, value_dim, .. } = *geometry;
    let of_queries = if queries == Queries::Recorded { heads.saturating_mul(key_dim) } else { 0 };
    let values = kv_heads.saturating_mul(key_dim.saturating_add(value_dim)).saturating_add(of_queries);
    (layers.saturating_mul(values) as u64).saturating_mul(size_of::<f32>() as u64)
}
