//! A cache under watch: how long its sequences became, and whether it was really full when it said so.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kv_core::{CacheError, Entry, Geometry, Guarantee, KvCache, SeqId, Tensor, Usage, View};

use crate::room::Room;

/// What was seen of all caches that a check built.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// Tokens of the longest sequence.
    longest: usize,
    /// The first refusal for want of room that was not true.
    untrue_full: Option<String>,
}

impl Log {
    /// Tokens of the longest sequence since the last call, and the first untrue `Full`.
    pub(crate) fn take(&self) -> (usize, Option<String>) {
        let Seen { longest, untrue_full } = std::mem::take(&mut *self.seen());
        (longest, untrue_full)
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
    /// Worked out when the cache first says that it is full.
    room: Option<Room>,
}

impl Watched {
    pub(crate) fn new(inner: Box<dyn KvCache>, log: Log, origin: (Entry, toml::Table, Geometry)) -> Watched {
        Watched { inner, log, sequences: BTreeMap::new(), origin, room: None }
    }

    fn judge(&mut self, fresh: &Range<usize>, needed: usize, free: usize) {
        let held: usize = self.sequences.values().map(|(_, with_step)| with_step).sum();
        let (entry, config, geometry) = &self.origin;
        let room = self.room.get_or_insert_with(|| Room::of(entry, config, geometry));
        let untrue = if needed != fresh.len() || free >= needed {
            Some(format!("{} tokens are refused with {needed} needed and {free} free", fresh.len()))
        } else if room.surely_holds(held + needed, self.sequences.len()) {
            let sequences = self.sequences.len();
            Some(format!(
                "{needed} more tokens beside {held} in {sequences} sequences are refused with {free} free, and a new cache takes {}",
                room.tokens
            ))
        } else {
            None
        };
        if let Some(untrue) = untrue {
            self.log.seen().untrue_full.get_or_insert(untrue);
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl KvCache for Watched {
    fn open(&mut self) -> Result<SeqId, CacheError> {
        let seq = self.inner.open()?;
        self.sequences.insert(seq, (0, 0));
        Ok(seq)
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
            Err(CacheError::Full { needed, free }) => self.judge(&fresh, *needed, *free),
            Err(_) => {}
        }
        answer
    }

    fn commit(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.inner.commit(seq)?;
        if let Some((committed, with_step)) = self.sequences.get_mut(&seq) {
            *committed = *with_step;
            let mut seen = self.log.seen();
            seen.longest = seen.longest.max(*committed);
        }
        Ok(())
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId, CacheError> {
        let fork = self.inner.fork(seq)?;
        if let Some((committed, _)) = self.sequences.get(&seq).copied() {
            self.sequences.insert(fork, (committed, committed));
        }
        Ok(fork)
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), CacheError> {
        self.inner.truncate(seq, len)?;
        self.sequences.insert(seq, (len, len));
        Ok(())
    }

    fn append(&mut self, seq: SeqId, layer: usize, keys: Tensor<3>, values: Tensor<3>) -> Result<(), CacheError> {
        self.inner.append(seq, layer, keys, values)
    }

    fn attend(&mut self, seq: SeqId, layer: usize, queries: Tensor<3>) -> Result<Tensor<3>, CacheError> {
        self.inner.attend(seq, layer, queries)
    }

    fn prompt_end(&mut self, seq: SeqId) -> Result<(), CacheError> {
        self.inner.prompt_end(seq)
    }

    fn seen(&self, seq: SeqId) -> Result<usize, CacheError> {
        self.inner.seen(seq)
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
