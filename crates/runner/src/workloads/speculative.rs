//! `speculative`: drafts that are checked in one step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Load, at_least_one};

/// Speculative decoding with a simulated draft. A text is written greedily, one token a step. Then it is written again: a draft
/// proposes its next k tokens, each right with probability p; one step checks them all; those before the first wrong one are
/// accepted with the model's own token behind them, and the rest is taken back (`truncate`). The time of the steps and of taking
/// back, per token written, is set beside plain decoding. What a draft model itself would cost is not included. The rows of a step
/// are not rounded or evicted before it ends, so a cache that is not exact may write another text with drafts: the row says after
/// how many tokens, and from there on the draft guesses nothing. Instances are compared by the steps of plain decoding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Speculative {
    /// Tokens of the prompt, drawn from the sweep's seed.
    pub prompt: usize,
    /// Tokens to be written; the last draft may add some.
    pub tokens: usize,
    /// Tokens of a draft (k): each number is measured.
    pub draft: Vec<usize>,
    /// The probability that a drafted token is right (p), 0 to 1: each is measured.
    pub acceptance: Vec<f64>,
}

impl Default for Speculative {
    fn default() -> Speculative {
        Speculative { prompt: 512, tokens: 64, draft: vec![1, 2, 4, 8], acceptance: vec![0.5, 0.8, 0.95] }
    }
}

impl Speculative {
    /// Tokens that are written plainly: a draft may look beyond the last one that is wanted.
    pub(crate) fn plain_tokens(&self) -> usize {
        self.tokens.saturating_add(self.longest_draft())
    }

    /// Tokens of a sequence in the end.
    pub(crate) fn positions(&self) -> usize {
        self.prompt.saturating_add(self.plain_tokens())
    }

    /// Positions of the largest step, the last token written included.
    pub(crate) fn step_tokens(&self) -> usize {
        self.longest_draft().saturating_add(1)
    }

    fn longest_draft(&self) -> usize {
        self.draft.iter().copied().max().unwrap_or(0)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        at_least_one("prompt", self.prompt)?;
        if self.tokens < 2 {
            return Err(format!("`tokens` is {}: it must be at least 2, because the first step does not count", self.tokens));
        }
        if self.draft.is_empty() || self.draft.contains(&0) {
            return Err(
                "`draft` must name at least one number of tokens, and none of 0, which is plain decoding; for example [2, 4]".into()
            );
        }
        if self.acceptance.is_empty() {
            return Err("`acceptance` must name at least one probability, for example [0.8]".into());
        }
        if let Some(wrong) = self.acceptance.iter().find(|acceptance| !(0.0..=1.0).contains(*acceptance)) {
            return Err(format!("`acceptance` has {wrong}: a probability is 0 to 1"));
        }
        if let Some(twice) = (1..self.draft.len()).find(|index| self.draft[..*index].contains(&self.draft[*index])) {
            return Err(format!("`draft` names {} twice", self.draft[twice]));
        }
        match (1..self.acceptance.len()).find(|index| self.acceptance[..*index].contains(&self.acceptance[*index])) {
            Some(twice) => Err(format!("`acceptance` names {} twice", self.acceptance[twice])),
            None => Ok(()),
        }
    }

    pub(super) fn load(&self) -> Load {
        // A step of a few tokens takes little longer than one of one.
        let steps = self.plain_tokens().saturating_mul(1 + self.draft.len() * self.acceptance.len());
        Load { prompt_tokens: self.prompt, steps, depth: self.positions(), sequences: 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_make_no_sense_are_refused_with_what_would_be_right() {
        let check = |keys: &str| toml::from_str::<Speculative>(keys).unwrap().check();
        assert_eq!(check("acceptance = [0, 0.5, 1.0]\ndraft = [64]"), Ok(()));
        for (keys, expected) in [
            ("prompt = 0", "`prompt` is 0: it must be at least 1"),
            ("tokens = 1", "`tokens` is 1: it must be at least 2"),
            ("draft = [4, 0]", "`draft` must name at least one number of tokens, and none of 0, which is plain decoding"),
            ("draft = []", "`draft` must name at least one number of tokens"),
            ("draft = [4, 2, 4]", "`draft` names 4 twice"),
            ("acceptance = []", "`acceptance` must name at least one probability"),
            ("acceptance = [0.5, 1.5]", "`acceptance` has 1.5: a probability is 0 to 1"),
            ("acceptance = [-0.1]", "`acceptance` has -0.1: a probability is 0 to 1"),
            ("acceptance = [nan]", "`acceptance` has NaN: a probability is 0 to 1"),
            ("acceptance = [0.5, 0.5]", "`acceptance` names 0.5 twice"),
        ] {
            let error = check(keys).unwrap_err();
            assert!(error.starts_with(expected), "{keys}: {error}");
        }
    }

    #[test]
    fn the_text_reaches_as_far_as_its_last_draft() {
        let speculative = Speculative::default();
        assert_eq!((speculative.plain_tokens(), speculative.positions(), speculative.step_tokens()), (72, 584, 9));
        let huge = Speculative { tokens: usize::MAX, draft: vec![usize::MAX], ..speculative };
        assert_eq!((huge.positions(), huge.step_tokens(), huge.load().steps), (usize::MAX, usize::MAX, usize::MAX));
    }
}
