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
        self.system + self.turns[..turn - 1].iter().sum::<usize>() + (turn - 1) * self.answer
    }

    /// Tokens of a whole conversation.
    pub(crate) fn tokens(&self) -> usize {
        self.system + self.turns.iter().sum::<usize>() + self.turns.len() * self.answer
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
        let turns = self.turns.len();
        let (users, tokens) = (self.users, self.tokens());
        let messages: usize = self.turns.iter().sum::<usize>() * users;
        let histories: usize = (1..=turns).map(|turn| self.before(turn) + self.turns[turn - 1]).sum();
        Load {
            prompt_tokens: self.system + messages + self.system * users + messages + histories,
            steps: 2 * turns * (self.answer - 1),
            depth: tokens,
            sequences: users + 1,
        }
    }
}
