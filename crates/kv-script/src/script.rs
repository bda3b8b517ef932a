//! The scripts of the common workloads.

use crate::{Event, Input, Name};

/// A list of events.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// The events, in order.
    pub events: Vec<Event>,
}

/// The names of the sequences of a batch.
pub fn names(batch: usize) -> Vec<Name> {
    (0..batch).map(|index| Name::new(&index.to_string())).collect()
}

impl Script {
    /// Opens one sequence for each prompt, feeds the prompts together in steps of `chunk` tokens, and says that they are
    /// complete.
    ///
    /// # Panics
    /// If `chunk` is 0.
    pub fn prefill(prompts: &[&[u32]], chunk: usize) -> Script {
        let names = names(prompts.len());
        let mut events: Vec<Event> = names.iter().map(|name| Event::Open { sequence: name.clone() }).collect();
        let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
        for start in (0..longest).step_by(chunk) {
            let due = names.iter().zip(prompts).filter(|(_, prompt)| prompt.len() > start);
            let input = |prompt: &[u32]| Input::Tokens(prompt[start..(start + chunk).min(prompt.len())].to_vec());
            events.push(Event::Append { inputs: due.map(|(name, prompt)| (name.clone(), input(prompt))).collect() });
        }
        events.extend(names.iter().map(|name| Event::PromptEnd { sequence: name.clone() }));
        Script { events }
    }

    /// Decode steps of a batch.
    pub fn decode(batch: usize, steps: usize) -> Script {
        Script { events: vec![Event::Step { sequences: names(batch) }; steps] }
    }

    /// This script and then another.
    #[must_use]
    pub fn then(mut self, other: Script) -> Script {
        self.events.extend(other.events);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_of_a_batch_are_fed_together_in_chunks() {
        let script = Script::prefill(&[&[1, 2, 3], &[4]], 2).then(Script::decode(2, 1));
        let [a, b] = [Name::new("0"), Name::new("1")];
        let tokens = |tokens: &[u32]| Input::Tokens(tokens.to_vec());
        assert_eq!(
            script.events,
            [
                Event::Open { sequence: a.clone() },
                Event::Open { sequence: b.clone() },
                Event::Append { inputs: vec![(a.clone(), tokens(&[1, 2])), (b.clone(), tokens(&[4]))] },
                Event::Append { inputs: vec![(a.clone(), tokens(&[3]))] },
                Event::PromptEnd { sequence: a.clone() },
                Event::PromptEnd { sequence: b.clone() },
                Event::Step { sequences: vec![a, b] },
            ]
        );
    }
}
