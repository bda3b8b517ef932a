//! Runs events on a cache.

use std::collections::BTreeMap;

use kv_core::KvCache;

use crate::{Driver, Event, Input, Name};

/// Runs events on one cache, one at a time. The caller keeps the cache, and hands over the same one each time.
///
/// An event that is refused changes nothing that the interpreter knows. Whether it changed the cache is the cache's
/// business: by contract it does not.
#[derive(Debug)]
pub struct Interpreter<D: Driver> {
    driver: D,
    open: BTreeMap<Name, Open<D::Sequence>>,
}

#[derive(Debug)]
struct Open<S> {
    sequence: S,
    /// The token that follows the last step.
    next: Option<u32>,
}

/// An event that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError<E> {
    /// No open sequence has this name, or an event names it twice.
    #[error("the script uses the sequence `{name}`, which is not open, or uses it twice in one event")]
    NotOpen {
        /// The name.
        name: Name,
    },
    /// The name is taken.
    #[error("the script opens the sequence `{name}`, which is open already")]
    Taken {
        /// The name.
        name: Name,
    },
    /// A decode step before anything was fed, or after tokens were taken back.
    #[error("the script steps the sequence `{name}`, of which nobody knows the next token: append to it first")]
    NoNextToken {
        /// The name.
        name: Name,
    },
    /// More tokens are taken back than the sequence has.
    #[error("the script takes {tokens} tokens of the sequence `{name}` back, which has {len}")]
    TakesBack {
        /// The name.
        name: Name,
        /// Tokens to take back.
        tokens: usize,
        /// Tokens of the sequence.
        len: usize,
    },
    /// The cache's error, or the driver's.
    #[error(transparent)]
    Driver(E),
}

type Outcome<T, D> = Result<T, ScriptError<<D as Driver>::Error>>;

impl<D: Driver> Interpreter<D> {
    /// An interpreter without open sequences.
    pub fn new(driver: D) -> Interpreter<D> {
        Interpreter { driver, open: BTreeMap::new() }
    }

    /// Runs an event.
    ///
    /// # Errors
    /// [`ScriptError`] names the sequence, or is the cache's or the driver's.
    pub fn run(&mut self, cache: &mut dyn KvCache, event: &Event) -> Outcome<(), D> {
        match event {
            Event::Open { sequence } => {
                self.check_free(sequence)?;
                let opened = self.driver.open(cache).map_err(ScriptError::Driver)?;
                self.open.insert(sequence.clone(), Open { sequence: opened, next: None });
            }
            Event::Fork { parent, sequence } => {
                self.check_free(sequence)?;
                let from = self.open.get(parent).ok_or_else(|| not_open(parent))?;
                let forked = self.driver.fork(cache, &from.sequence).map_err(ScriptError::Driver)?;
                let next = from.next;
                self.open.insert(sequence.clone(), Open { sequence: forked, next });
            }
            Event::Append { inputs } => self.feed(cache, inputs.iter().map(|(name, input)| (name, input)))?,
            Event::Step { sequences } => {
                let next = |name: &Name| {
                    let open = self.open.get(name).ok_or_else(|| not_open(name))?;
                    let next = open.next.ok_or_else(|| ScriptError::NoNextToken { name: name.clone() })?;
                    Ok(Input::Tokens(vec![next]))
                };
                let inputs = sequences.iter().map(next).collect::<Outcome<Vec<_>, D>>()?;
                self.feed(cache, sequences.iter().zip(&inputs))?;
            }
            Event::Truncate { sequence, tokens } => {
                let open = self.open.get_mut(sequence).ok_or_else(|| not_open(sequence))?;
                let len = self.driver.len(&open.sequence);
                if *tokens > len {
                    return Err(ScriptError::TakesBack { name: sequence.clone(), tokens: *tokens, len });
                }
                self.driver.take_back(cache, &mut open.sequence, *tokens).map_err(ScriptError::Driver)?;
                open.next = None;
            }
            Event::PromptEnd { sequence } => {
                let open = self.open.get_mut(sequence).ok_or_else(|| not_open(sequence))?;
                self.driver.prompt_end(cache, &mut open.sequence).map_err(ScriptError::Driver)?;
            }
            Event::Close { sequence } => {
                let open = self.open.get_mut(sequence).ok_or_else(|| not_open(sequence))?;
                self.driver.close(cache, &mut open.sequence).map_err(ScriptError::Driver)?;
                self.open.remove(sequence);
            }
        }
        Ok(())
    }

    /// The token that follows the last step of a sequence, if the driver said it.
    pub fn next_token(&self, name: &Name) -> Option<u32> {
        self.open.get(name)?.next
    }

    /// What the driver knows of a sequence.
    pub fn sequence(&self, name: &Name) -> Option<&D::Sequence> {
        Some(&self.open.get(name)?.sequence)
    }

    /// The driver.
    pub fn driver(&mut self) -> &mut D {
        &mut self.driver
    }

    fn check_free(&self, name: &Name) -> Outcome<(), D> {
        if self.open.contains_key(name) { Err(ScriptError::Taken { name: name.clone() }) } else { Ok(()) }
    }

    fn feed<'a>(&mut self, cache: &mut dyn KvCache, inputs: impl Iterator<Item = (&'a Name, &'a Input)>) -> Outcome<(), D> {
        let inputs: Vec<(&Name, &Input)> = inputs.collect();
        // Sequences leave the map for the step, so that all of them can be changed at once.
        let mut taken: Vec<(&Name, &Input, Open<D::Sequence>)> = Vec::with_capacity(inputs.len());
        let mut missing = None;
        for (name, input) in inputs {
            match self.open.remove(name) {
                Some(open) => taken.push((name, input, open)),
                None => {
                    missing = Some(not_open(name));
                    break;
                }
            }
        }
        let fed = match missing {
            Some(error) => Err(error),
            None => {
                let mut parts: Vec<_> = taken.iter_mut().map(|(_, input, open)| (&mut open.sequence, *input)).collect();
                self.driver.feed(cache, &mut parts).map_err(ScriptError::Driver)
            }
        };
        for (index, (name, _, mut open)) in taken.into_iter().enumerate() {
            if let Ok(next) = &fed {
                open.next = next.get(index).copied().flatten();
            }
            self.open.insert(name.clone(), open);
        }
        fed.map(|_| ())
    }
}

fn not_open<E>(name: &Name) -> ScriptError<E> {
    ScriptError::NotOpen { name: name.clone() }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use kv_contiguous::Contiguous;
    use kv_core::{CacheError, Geometry, Rope, Rows, Strategy};

    use super::*;
    use crate::{Attention, Fed, RowSource, RowsDriver, Script, cross_step, names};

    fn geometry() -> Geometry {
        Geometry { layers: 2, heads: 2, kv_heads: 1, key_dim: 4, value_dim: 4, rope: Rope::new(1e4, 4), context: 64 }
    }

    /// Rows that name their position.
    struct Positions(Geometry);

    impl Positions {
        fn rows(positions: Range<usize>, heads: usize) -> Result<Rows, CacheError> {
            let values = positions.clone().flat_map(|position| vec![position as f32; heads * 4]).collect();
            Ok(Rows::new([positions.len(), heads, 4], values))
        }
    }

    impl RowSource for Positions {
        type Error = CacheError;

        fn geometry(&self) -> &Geometry {
            &self.0
        }

        fn keys(&mut self, _: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
            Positions::rows(positions, 1)
        }

        fn values(&mut self, _: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
            Positions::rows(positions, 1)
        }

        fn queries(&mut self, _: usize, positions: Range<usize>) -> Result<Rows, CacheError> {
            Positions::rows(positions, 2)
        }
    }

    type OnRows = Interpreter<RowsDriver<Positions>>;

    fn start() -> (Contiguous, OnRows) {
        let driver = RowsDriver { source: Positions(geometry()), attention: Attention::Run };
        (Contiguous::new(Default::default(), &geometry()).unwrap(), Interpreter::new(driver))
    }

    fn name(name: &str) -> Name {
        Name::new(name)
    }

    fn append(sequence: &str, tokens: usize) -> Event {
        Event::Append { inputs: vec![(name(sequence), Input::Tokens(vec![0; tokens]))] }
    }

    fn positions(cache: &Contiguous, interpreter: &OnRows, sequence: &str) -> Vec<usize> {
        cache.view(interpreter.sequence(&name(sequence)).unwrap().id(), 1, 0).unwrap().positions
    }

    #[test]
    fn a_script_of_every_event_leaves_the_rows_that_it_describes() {
        let (mut cache, mut interpreter) = start();
        let [a, b] = [name("a"), name("b")];
        let script = [
            Event::Open { sequence: a.clone() },
            append("a", 5),
            Event::PromptEnd { sequence: a.clone() },
            Event::Fork { parent: a.clone(), sequence: b.clone() },
            Event::Step { sequences: vec![a.clone(), b.clone()] },
            Event::Truncate { sequence: b.clone(), tokens: 4 },
            append("b", 1),
        ];
        script.iter().for_each(|event| interpreter.run(&mut cache, event).unwrap());
        assert_eq!(positions(&cache, &interpreter, "a"), [0, 1, 2, 3, 4, 5]);
        assert_eq!(positions(&cache, &interpreter, "b"), [0, 1, 2]);
        assert_eq!(cache.usage().seen_tokens, 9);
        interpreter.run(&mut cache, &Event::Close { sequence: a.clone() }).unwrap();
        assert!(interpreter.sequence(&a).is_none());
        assert_eq!(cache.usage().seen_tokens, 3);
        // The name is free again.
        interpreter.run(&mut cache, &Event::Open { sequence: a }).unwrap();
    }

    #[test]
    fn a_batch_is_fed_together() {
        let (mut cache, mut interpreter) = start();
        let script = Script::prefill(&[&[1, 2, 3], &[4]], 2).then(Script::decode(2, 3));
        script.events.iter().for_each(|event| interpreter.run(&mut cache, event).unwrap());
        let lengths =
            names(2).iter().map(|name| interpreter.sequence(name).unwrap().id()).map(|id| cache.seen(id).unwrap()).collect::<Vec<_>>();
        assert_eq!(lengths, [6, 4]);
    }

    #[test]
    fn a_decoder_reads_all_of_the_encoders_rows_beside_its_own() {
        let mut cache = Contiguous::new(Default::default(), &geometry()).unwrap();
        let (mut encoder, mut decoder) = (Positions(geometry()), Positions(geometry()));
        let (of_encoder, of_decoder) = (cache.open().unwrap(), cache.open().unwrap());
        crate::step(&mut cache, &mut encoder, &[(of_encoder, 0..5)], Attention::Skipped).unwrap();
        let views = [cache.view(of_encoder, 1, 0).unwrap()];
        for position in 0..2 {
            let mut read = vec![];
            let own = Fed { sequence: of_decoder, source: &mut decoder };
            let other = Fed { sequence: of_encoder, source: &mut encoder };
            cross_step(&mut cache, own, position..position + 1, other, |layer, rows| read.push((layer, rows))).unwrap();
            assert_eq!(read.iter().map(|(layer, _)| *layer).collect::<Vec<_>>(), [0, 1]);
            // Behind the encoder's five rows.
            let queries = Positions::rows(5 + position..6 + position, 2).unwrap();
            let dense = kv_core::reference::attend_views(&geometry(), 0, &queries, &views, |_, _| true);
            assert!(dense.values().iter().zip(read[1].1.values()).all(|(dense, read)| (dense - read).abs() < 1e-5), "{read:?}");
        }
        assert_eq!([of_encoder, of_decoder].map(|seq| cache.seen(seq).unwrap()), [5, 2]);
    }

    #[test]
    fn events_that_make_no_sense_are_refused_and_change_nothing() {
        let (mut cache, mut interpreter) = start();
        let a = name("a");
        interpreter.run(&mut cache, &Event::Open { sequence: a.clone() }).unwrap();
        let no_token = ScriptError::NoNextToken { name: a.clone() };
        let step = Event::Step { sequences: vec![a.clone()] };
        assert_eq!(interpreter.run(&mut cache, &step), Err(no_token.clone()));
        interpreter.run(&mut cache, &append("a", 3)).unwrap();
        let not_open = |sequence: &str| ScriptError::NotOpen { name: name(sequence) };
        let taken = ScriptError::Taken { name: a.clone() };
        let both = vec![(a.clone(), Input::Tokens(vec![0])), (name("b"), Input::Tokens(vec![0]))];
        let twice = vec![(a.clone(), Input::Tokens(vec![0])); 2];
        for (event, error) in [
            (append("b", 1), not_open("b")),
            (Event::Append { inputs: both }, not_open("b")),
            (Event::Append { inputs: twice }, not_open("a")),
            (Event::Step { sequences: vec![a.clone(), name("b")] }, not_open("b")),
            (Event::Open { sequence: a.clone() }, taken.clone()),
            (Event::Fork { parent: a.clone(), sequence: a.clone() }, taken),
            (Event::Fork { parent: name("b"), sequence: name("c") }, not_open("b")),
            (Event::Truncate { sequence: a.clone(), tokens: 4 }, ScriptError::TakesBack { name: a.clone(), tokens: 4, len: 3 }),
            (Event::Close { sequence: name("b") }, not_open("b")),
        ] {
            assert_eq!(interpreter.run(&mut cache, &event), Err(error), "{event:?}");
            assert_eq!(positions(&cache, &interpreter, "a"), [0, 1, 2], "{event:?}");
        }
        interpreter.run(&mut cache, &step).unwrap();
        interpreter.run(&mut cache, &Event::Truncate { sequence: a.clone(), tokens: 1 }).unwrap();
        assert_eq!(interpreter.run(&mut cache, &step), Err(no_token), "nobody knows what follows");
    }

    #[test]
    fn a_cache_that_refuses_leaves_the_sequence_as_it_was() {
        let (mut cache, mut interpreter) = start();
        interpreter.run(&mut cache, &Event::Open { sequence: name("a") }).unwrap();
        interpreter.run(&mut cache, &append("a", 2)).unwrap();
        // Somebody else truncates the sequence, so the next step is misplaced.
        let id = interpreter.sequence(&name("a")).unwrap().id();
        cache.truncate(id, 1).unwrap();
        let refused = interpreter.run(&mut cache, &append("a", 1));
        assert!(matches!(refused, Err(ScriptError::Driver(CacheError::Misplaced { .. }))), "{refused:?}");
        cache.truncate(id, 0).unwrap();
        assert!(interpreter.sequence(&name("a")).is_some(), "it is still open");
    }
}
