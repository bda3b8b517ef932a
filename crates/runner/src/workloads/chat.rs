//! `chat`: a system prompt that several users share, then turns.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Load, at_least_one};

/// Conversations of several users that begin with the same system prompt. Each turn is a message and an answer, which is decoded
/// greedily; all users answer together. It is done with the system prompt computed once and forked, with it computed for each user,
/// and, for one user, with nothing kept between turns. Message tokens are drawn from the sweep's seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Chat {
    /// Users, each with a conversation.
    pub users: usize,
    /// Tokens of the system prompt.
    pub system: usize,
    /// Tokens of the message of each turn.
    pub turns: Vec<usize>,
    /// Tokens of each answer, at least 2.
    pub answer: usize,
    /// The turn that the first user edits in the end, from 1: its message and all that follows are taken back, and the message is
    /// written anew. 0 leaves it out; the default is the second turn, or the first if it is the only one.
    pub edited_turn: Option<usize>,
}

impl Default for Chat {
    fn default() -> Chat {
        Chat { users: 4, system: 512, turns: vec![64; 4], answer: 16, edited_turn: None }
    }
}

impl Chat {
    /// The turn that is edited, from 1, if one is.
    pub(crate) fn edited(&self) -> Option<usize> {
        let turn = self.edited_turn.unwrap_or(self.turns.len().min(2));
        (turn > 0).then_some(turn)
    }

    /// Tokens of a conversation before a turn, from 1: the last token of an answer is fed with the message that follows.
    pub(crate) fn before(&self, turn: usize) -> usize {
        let answers = (turn - 1).saturating_mul(self.answer);
        self.turns[..turn - 1].iter().fold(self.system.saturating_add(answers), |sum, tokens| sum.saturating_add(*tokens))
    }

    /// Tokens of a whole conversation.
    pub(crate) fn tokens(&self) -> usize {
        self.before(self.turns.len() + 1)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        at_least_one("users", self.users)?;
        at_least_one("system", self.system)?;
        if self.turns.is_empty() || self.turns.contains(&0) {
            return Err("`turns` must name the tokens of at least one message, and none of 0; for example [64, 64]".into());
        }
        if self.answer < 2 {
            return Err(format!("`answer` is {}: it must be at least 2, the first token and one that is decoded after it", self.answer));
        }
        match self.edited_turn {
            Some(turn) if turn > self.turns.len() => Err(format!("`edited_turn` is {turn}, and there are {} `turns`", self.turns.len())),
            _ => Ok(()),
        }
    }

    pub(super) fn load(&self) -> Load {
        let sum = |tokens: &mut dyn Iterator<Item = usize>| tokens.fold(0usize, usize::saturating_add);
        let messages = sum(&mut self.turns.iter().copied());
        let mut histories = (1..).zip(&self.turns).map(|(turn, tokens)| self.before(turn).saturating_add(*tokens));
        // With a shared prefix, with one for each user, and with nothing kept.
        let shared = self.system.saturating_add(messages.saturating_mul(self.users));
        let separate = self.system.saturating_add(messages).saturating_mul(self.users);
        let recomputed = sum(&mut histories);
        Load {
            prompt_tokens: shared.saturating_add(separate).saturating_add(recomputed),
            steps: self.turns.len().saturating_mul(3).saturating_mul(self.answer - 1),
            depth: self.tokens(),
            sequences: self.users.saturating_add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_the_prompt_the_messages_and_the_answers() {
        let chat = Chat { users: 2, system: 100, turns: vec![10, 20], answer: 5, edited_turn: None };
        assert_eq!((chat.before(1), chat.before(2), chat.tokens()), (100, 115, 140));
        // 100 + 2 · 30, 2 · 130, and 110 + 135.
        assert_eq!(chat.load(), Load { prompt_tokens: 665, steps: 24, depth: 140, sequences: 3 });
    }

    #[test]
    fn numbers_that_are_too_large_stay_numbers() {
        for chat in [
            Chat { answer: usize::MAX, ..Chat::default() },
            Chat { users: usize::MAX, system: usize::MAX, ..Chat::default() },
            Chat { turns: vec![usize::MAX; 3], ..Chat::default() },
        ] {
            assert_eq!(chat.check(), Ok(()));
            assert_eq!((chat.tokens(), chat.load().depth), (usize::MAX, usize::MAX), "{chat:?}");
        }
    }
}
