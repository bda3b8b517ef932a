//! A cache under watch: how long its sequences became, and whether it was really full when it said so.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kv_core::{CacheError, Entry, Geometry, KvCache, SeqId, Tensor};

use crate::room::Room;

/// What was seen of all caches that a check built.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Seen>>);

/// What was seen since a check began.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Tokens of the longest sequence.
    pub(crate) longest: usize,
    /// The first refusal for want of room that was not true.
    pub(crate) untrue_full: Option<String>,
    /// The last refusal for want of room.
    pub(crate) full: Option<NoRoom>,
}

/// A sequence that a cache has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom {
    /// Tokens that it would have.
    needed: usize,
    /// Tokens that it may have.
    most: usize,
    /// Sequences beside it.
    others: usize,
}

impl std::fmt::Display for NoRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let NoRoom { needed, most, others } = self;
        write!(f, "it needs a sequence of at least {needed} tokens, and this config has room for {most}")?;
        match others {
            0 => Ok(()),
            1 => f.write_str(" beside another sequence"),
            others => write!(f, " beside {others} other sequences"),
        }
    }
}

impl Log {
    /// What was seen since the last call.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forwards every call and notes what it sees.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: Box<dyn KvCache>,
    log: Log,
    /// Tokens of each open sequence: committed, and with the step in progress.
    sequences: BTreeMap<SeqId, (usize, usize)>,
    origin: (Entry, toml::Table, Geometry),
    /// The most tokens that a check feeds.
    most: usize,
    /// Determined when the cache first says that it is full.
    room: Option<Room>,
}

impl Watched {
    pub(crate) fn new(inner: Box<dyn KvCache>, log: Log, origin: (Entry, toml::Table, Geometry), most: usize) -> Watched {
        Watched { inner, log, sequences: BTreeMap::new(), origin, most, room: None }
    }

    /// Notes a refusal of a step of `asked` tokens, behind `held` ones of its sequence. Its numbers may contradict themselves or
    /// what an empty cache takes.
    fn judge_step(&mut self, held: usize, asked: usize, needed: usize, free: usize) {
        let others = self.sequences.len().saturating_sub(1);
        self.log.seen().full = Some(NoRoom { needed: held + asked, most: held + free, others });
        if needed != asked || free >= needed {
            self.note(format!("`begin` refuses {asked} tokens as {needed} needed and {free} free"));
        } else {
            self.judge("begin", asked, 0);
        }
    }

    /// Notes a refusal of `tokens` more tokens and `sequences` more sequences that surely fit.
    fn judge(&mut self, call: &str, tokens: usize, sequences: usize) {
        let held: usize = self.sequences.values().map(|(_, with_step)| with_step).sum();
        let open = self.sequences.len();
        let (entry, config, geometry) = &self.origin;
        let room = *self.room.get_or_insert_with(|| Room::of(entry, config, geometry, self.most));
        if room.surely_holds(held + tokens, open + sequences) {
            let all = room.tokens;
            self.note(format!(
                "`{call}` has no room for {tokens} more tokens next to {held} in {open} sequences, and an empty cache takes {all}"
            ));
        }
    }

    /// Passes an answer on that must not be `Full`.
    fn never_full<T>(&self, call: &str, answer: Result<T, CacheError>) -> Result<T, CacheError> {
        if let Err(CacheError::Full { .. }) = answer {
            self.note(format!("`{call}` returns `Full`, which only `open`, `begin` and `fork` may"));
        }
        answer
    }

    fn note(&self, untrue: String) {
        self.log.seen().untrue_full.get_or_insert(untrue);
    }
}

#[deny(clippy::missing_trait_methods)]
impl KvCache for Watched {
    kv_core::forward!(inner: seen view usage least_bytes guarantee reach recomputes);

    fn open(&mut self) -> Result<SeqId, CacheError> {
        let answer = self.inner.open();
        match answer {
            Ok(seq) => {
                self.sequences.insert(seq, (0, 0));
            }
            Err(CacheError::Full { .. }) if self.sequences.is_empty() => {
                self.note("`open` has no room for a sequence in a cache without any".into());
            }
            Err(CacheError::Full { .. }) => self.judge("open", 1, 1),
            Err(_) => {}
        }
        answer
    }

    fn close(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.inner.close(seq)?;
        self.sequences.remove(&seq);
        Ok(())
    }

    fn begin(&mut self, seq: SeqId, fresh: Range<usize>) -> Result<Range<usize>, CacheError> {
        let answer = self.inner.begin(seq, fresh.clone());
        match &answer {
            Ok(_) => {
                if let Some((_, with_step)) = self.sequences.get_mut(&seq) {
                    *with_step = fresh.end;
                }
            }
            Err(CacheError::Full { needed, free }) => self.judge_step(fresh.start, fresh.len(), *needed, *free),
            Err(_) => {}
        }
        answer
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        let answer = self.inner.commit(seq);
        self.never_full("commit", answer)?;
        if let Some((committed, with_step)) = self.sequences.get_mut(&seq) {
            *committed = *with_step;
            let mut seen = self.log.seen();
            seen.longest = seen.longest.max(*committed);
        }
        Ok(())
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId, CacheError> {
        let answer = self.inner.fork(seq);
        let committed = self.sequences.get(&seq).map_or(0, |(committed, _)| *committed);
        match answer {
            Ok(fork) => {
                self.sequences.insert(fork, (committed, committed));
            }
            Err(CacheError::Full { .. }) => self.judge("fork", committed, 1),
            Err(_) => {}
        }
        answer
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), CacheError> {
        let answer = self.inner.truncate(seq, len);
        self.never_full("truncate", answer)?;
        self.sequences.insert(seq, (len, len));
        Ok(())
    }

    fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
        let answer = self.inner.append(seq, layer, keys, values);
        self.never_full("append", answer)
    }

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let answer = self.inner.attend(seq, layer, queries);
        self.never_full("attend", answer)
    }

    fn read(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        let answer = self.inner.read(seq, layer, queries);
        self.never_full("read", answer)
    }

    fn prompt_end(&mut self, seq: SeqId) -> Result<(), CacheError> {
        let answer = self.inner.prompt_end(seq);
        self.never_full("prompt_end", answer)
    }
}
