//! How many tokens fit into a cache, by its own account of an empty one.

use std::ops::Range;

use kv_core::{CacheError, Entry, Geometry};

use crate::{Text, fill};

/// Sequences that are opened at once to find out how much room each takes.
const MOST_SEQUENCES: usize = 32;

/// What an empty cache says that it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Tokens of a single sequence; the most that was asked for if that is accepted.
    pub(crate) tokens: usize,
    /// At most so many tokens does a sequence take room for at a time: a page's.
    grain: usize,
}

impl Room {
    /// Asks a new cache for `most` tokens, more than any check feeds.
    pub(crate) fn of(entry: &Entry, config: &toml::Table, geometry: &Geometry, most: usize) -> Room {
        let tokens = Room::free(entry, config, geometry, 0..most).unwrap_or(most);
        let sequences = Room::sequences(entry, config, geometry, tokens).max(1);
        Room { tokens, grain: tokens.div_ceil(sequences) }
    }

    /// The tokens that a new cache says are free when these are too many, if they are.
    pub(crate) fn free(entry: &Entry, config: &toml::Table, geometry: &Geometry, fresh: Range<usize>) -> Option<usize> {
        let mut cache = entry.build(config, geometry).ok()?;
        let seq = cache.open().ok()?;
        match cache.begin(seq, fresh) {
            Err(CacheError::Full { free, .. }) => Some(free),
            _ => None,
        }
    }

    /// Sequences of a token each that fit.
    fn sequences(entry: &Entry, config: &toml::Table, geometry: &Geometry, tokens: usize) -> usize {
        let geometry = Geometry { layers: 1, ..geometry.clone() };
        let Ok(mut cache) = entry.build(config, &geometry) else { return 0 };
        let text = Text::new(&geometry, 0, 1);
        let mut one_more = || {
            let seq = cache.open()?;
            fill(cache.as_mut(), seq, &text, 0..1, 1)
        };
        (0..tokens.min(MOST_SEQUENCES)).take_while(|_| one_more().is_ok()).count()
    }

    /// Whether there is room for `held` tokens in so many sequences, each of which may waste a grain at its end and
    /// need another for the copy of one that it shares.
    pub(crate) fn surely_holds(&self, held: usize, sequences: usize) -> bool {
        held + 2 * sequences * self.grain.saturating_sub(1) <= self.tokens
    }
}
