//! What a cache takes by its strategy's formula, and the longest context that fits. No token is cached.

use kv_core::{Entry, Geometry, Guarantee, PredictedBytes};

/// Bytes from which a prediction is not told: the formulas saturate on the way, so numbers this large need not be exact.
const UNCOUNTABLE: usize = usize::MAX >> 8;

/// The formula of one configured strategy, for a number of sequences.
pub(crate) struct Footprint<'a> {
    strategy: Entry,
    config: &'a toml::Table,
    geometry: &'a Geometry,
    sequences: usize,
    /// The most tokens of each sequence, if the config limits them.
    most_tokens: Option<usize>,
}

/// What a formula says of a number of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The most bytes that the cache takes between steps.
    Bytes(PredictedBytes),
    /// Too many to count.
    Uncountable,
    /// The strategy has no formula.
    DoesNotSay,
    /// The config makes room for fewer tokens.
    NoRoom {
        /// The most tokens of each sequence.
        most: usize,
    },
}

/// The longest context that fits into some memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Longest {
    /// Not one token.
    Nothing,
    /// Tokens of each sequence.
    Tokens(usize),
    /// The cache stops growing before the memory is full.
    Any,
}

impl<'a> Footprint<'a> {
    /// The formula of `strategy` with `config`. An empty cache is built to ask whether it can be, and whether it keeps all tokens.
    ///
    /// # Errors
    /// Why no cache can be built.
    pub(crate) fn of(strategy: Entry, config: &'a toml::Table, geometry: &'a Geometry, sequences: usize) -> Result<Footprint<'a>, String> {
        let cache = strategy.build(config, geometry).map_err(|error| error.to_string())?;
        let keeps_all = !cache.recomputes() && !matches!(cache.guarantee(), Guarantee::Evicts(_));
        let footprint = Footprint { strategy, config, geometry, sequences, most_tokens: None };
        let most_tokens = if keeps_all { footprint.limit() } else { None };
        Ok(Footprint { most_tokens, ..footprint })
    }

    /// What sequences of `tokens` tokens take.
    pub(crate) fn answer(&self, tokens: usize) -> Answer {
        match (self.predicted(tokens), self.most_tokens) {
            (None, _) => Answer::DoesNotSay,
            (Some(_), Some(most)) if tokens > most => Answer::NoRoom { most },
            (Some(bytes), _) if bytes.total() >= UNCOUNTABLE => Answer::Uncountable,
            (Some(bytes), _) => Answer::Bytes(bytes),
        }
    }

    /// The longest context that fits into `room` bytes, found by bisection.
    pub(crate) fn longest(&self, room: usize) -> Longest {
        let fits = |tokens| matches!(self.answer(tokens), Answer::Bytes(bytes) if bytes.total() <= room);
        match () {
            () if !fits(1) => Longest::Nothing,
            () if fits(usize::MAX) => Longest::Any,
            () => Longest::Tokens(last(fits)),
        }
    }

    fn predicted(&self, tokens: usize) -> Option<PredictedBytes> {
        // A config that was built is one of the strategy's.
        self.strategy.predicted_bytes(self.config, self.geometry, tokens, self.sequences).ok().flatten()
    }

    /// The most tokens for which the config makes room. Tokens without room do not count in a formula, so the payload of a cache
    /// that keeps all tokens grows until then.
    fn limit(&self) -> Option<usize> {
        let payload = |tokens| self.predicted(tokens).map(|bytes| bytes.payload);
        let most = payload(usize::MAX).filter(|most| *most < UNCOUNTABLE)?;
        if most == 0 {
            return Some(0);
        }
        Some(last(|tokens| payload(tokens).is_some_and(|payload| payload < most)).saturating_add(1))
    }
}

/// The last number of which `holds` is true, if it is true up to some number and false from there.
fn last(holds: impl Fn(usize) -> bool) -> usize {
    let (mut yes, mut no) = (0, usize::MAX);
    while no - yes > 1 {
        let middle = yes + (no - yes) / 2;
        if holds(middle) { yes = middle } else { no = middle }
    }
    yes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;

    fn footprint<T>(id: &str, config: &str, then: impl Fn(Footprint<'_>) -> T) -> T {
        let geometry = kv_conformance::toy_geometry();
        then(Footprint::of(*builtin().get(id).unwrap(), &config.parse().unwrap(), &geometry, 2).unwrap())
    }

    #[test]
    fn the_longest_context_fits_and_one_token_more_does_not() {
        let total = |footprint: &Footprint<'_>, tokens| footprint.predicted(tokens).unwrap().total();
        for (id, config) in [("contiguous", ""), ("contiguous", "growth = 'concat'"), ("paged", "format = 'q8_0'"), ("quantized", "")] {
            for room in [100_000, 1 << 20, 1 << 40] {
                footprint(id, config, |footprint| {
                    let Longest::Tokens(tokens) = footprint.longest(room) else { panic!("{id}: {:?}", footprint.longest(room)) };
                    assert!(total(&footprint, tokens) <= room && total(&footprint, tokens + 1) > room, "{id}: {tokens} in {room}");
                });
            }
        }
        assert_eq!(footprint("contiguous", "", |footprint| footprint.longest(10)), Longest::Nothing);
        assert_eq!(footprint("sliding", "", |footprint| footprint.longest(1 << 30)), Longest::Any);
        assert_eq!(footprint("naive", "", |footprint| footprint.longest(1 << 30)), Longest::Any);
    }

    #[test]
    fn what_has_no_room_is_not_taken_for_small() {
        for (id, config, most) in [
            ("contiguous", "growth = { reserve = 64 }", 64),
            ("paged", "max_blocks = 6\nblock_size = 16", 48),
            ("paged", "max_blocks = 7", 48),
            ("paged", "max_blocks = 2", 16),
        ] {
            footprint(id, config, |footprint| {
                assert_eq!(footprint.answer(most + 1), Answer::NoRoom { most }, "{id}");
                assert!(matches!(footprint.answer(most), Answer::Bytes(_)), "{id}");
                assert_eq!(footprint.longest(1 << 40), Longest::Tokens(most), "{id}");
            });
        }
        assert_eq!(footprint("paged", "max_blocks = 1", |footprint| footprint.answer(1)), Answer::NoRoom { most: 0 });
        assert!(footprint("sliding", "", |footprint| matches!(footprint.answer(1 << 40), Answer::Bytes(_))));
    }

    #[test]
    fn numbers_without_sense_are_told_as_such() {
        for id in ["contiguous", "paged", "quantized"] {
            assert_eq!(footprint(id, "", |footprint| footprint.answer(usize::MAX)), Answer::Uncountable, "{id}");
        }
    }
}
