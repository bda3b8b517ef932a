//! `stream`: a text far beyond a window and the model's context.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Load, at_least_one};

/// A text that goes on far beyond a window and the model's context. It is fed in chunks, and at several depths a burst of single
/// tokens is timed; its bytes are counted there. If `[quality]` names a `text`, its tokens are fed and its perplexity is measured
/// along it; otherwise tokens are drawn from the sweep's seed. A cache that keeps every row ends at the model's context, and one
/// that is full ends there: the row says where, and what all tokens would have needed. Instances are compared by the single steps
/// within the context, which all have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Stream {
    /// Tokens of the stream. The default is four times the model's context.
    pub tokens: Option<usize>,
    /// How the tokens are fed.
    pub steps: Steps,
    /// Depths at which it is measured, spread evenly, the last at the end.
    pub bursts: usize,
    /// Tokens before each depth that are fed and timed one by one, the first of which does not count. The default is 8.
    pub burst: Option<usize>,
    /// Tokens of a step between the bursts. The default is `prefill_chunk` of the sweep.
    pub chunk: Option<usize>,
}

/// How a stream is fed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Steps {
    /// In chunks, with a burst of single tokens before each depth.
    #[default]
    Bursts,
    /// Token by token.
    Each,
}

/// A stream with all of its numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamScript {
    pub(crate) tokens: usize,
    pub(crate) steps: Steps,
    pub(crate) bursts: usize,
    pub(crate) burst: usize,
    pub(crate) chunk: usize,
    /// Positions of the model.
    context: usize,
}

impl Default for Stream {
    fn default() -> Stream {
        Stream { tokens: None, steps: Steps::Bursts, bursts: 16, burst: None, chunk: None }
    }
}

impl Stream {
    /// What a model with so many positions is fed.
    ///
    /// # Errors
    /// What is wrong with a key.
    pub(crate) fn of_model(&self, context: usize, prefill_chunk: usize) -> Result<StreamScript, String> {
        const TIMES: usize = 4;
        const BURST: usize = 8;
        if self.steps == Steps::Each {
            for (key, value) in [("burst", self.burst), ("chunk", self.chunk)] {
                if let Some(value) = value {
                    return Err(format!("`{key}` is {value}, and `steps = \"each\"` feeds every token alone: leave `{key}` out"));
                }
            }
        }
        let script = StreamScript {
            tokens: self.tokens.unwrap_or(context.saturating_mul(TIMES)),
            steps: self.steps,
            bursts: self.bursts,
            burst: self.burst.unwrap_or(BURST),
            chunk: self.chunk.unwrap_or(prefill_chunk),
            context,
        };
        for (key, value) in [("tokens", script.tokens), ("bursts", script.bursts), ("chunk", script.chunk)] {
            at_least_one(key, value)?;
        }
        let StreamScript { tokens, bursts, burst, .. } = script;
        if burst < 2 {
            return Err(format!("`burst` is {burst}: it must be at least 2, because the first step after a chunk does not count"));
        }
        if tokens / bursts < burst {
            let least = bursts.saturating_mul(burst);
            return Err(format!("{bursts} bursts of {burst} single tokens need {least} `tokens`, and there are {tokens}"));
        }
        Ok(script)
    }
}

impl StreamScript {
    /// The depths at which it is measured.
    pub(crate) fn depths(&self) -> impl Iterator<Item = usize> {
        let StreamScript { tokens, bursts, .. } = *self;
        // In parts, so that no product is too large.
        (1..=bursts).map(move |burst| tokens / bursts * burst + tokens % bursts * burst / bursts)
    }

    /// Tokens between two depths, at most.
    pub(crate) fn segment(&self) -> usize {
        self.tokens.div_ceil(self.bursts)
    }

    pub(super) fn load(&self) -> Load {
        let steps = match self.steps {
            Steps::Bursts => self.bursts * self.burst,
            Steps::Each => self.tokens,
        };
        // No query looks further back than the context.
        Load { prompt_tokens: self.tokens - steps, steps, depth: self.tokens.min(self.context), sequences: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(keys: &str) -> Stream {
        toml::from_str(keys).unwrap()
    }

    #[test]
    fn what_is_left_out_follows_from_the_model_and_the_sweep() {
        let script = stream("").of_model(4096, 512).unwrap();
        assert_eq!((script.tokens, script.bursts, script.burst, script.chunk), (16384, 16, 8, 512));
        assert_eq!(script.depths().collect::<Vec<_>>(), (1..=16).map(|burst| burst * 1024).collect::<Vec<_>>());
        let script = stream("tokens = 10\nbursts = 3\nburst = 2\nchunk = 4").of_model(4096, 512).unwrap();
        assert_eq!((script.depths().collect::<Vec<_>>(), script.segment()), (vec![3, 6, 10], 4));
        let script = stream("steps = 'each'\ntokens = 1000").of_model(64, 512).unwrap();
        assert_eq!((script.load().prompt_tokens, script.load().steps, script.load().depth), (0, 1000, 64));
        let huge = stream(&format!("tokens = {}", i64::MAX)).of_model(64, 512).unwrap();
        assert_eq!(huge.depths().last(), Some(i64::MAX as usize));
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused_with_what_would_be_right() {
        for (keys, expected) in [
            ("tokens = 0", "`tokens` is 0: it must be at least 1"),
            ("bursts = 0", "`bursts` is 0: it must be at least 1"),
            ("chunk = 0", "`chunk` is 0: it must be at least 1"),
            ("burst = 1", "`burst` is 1: it must be at least 2, because the first step after a chunk does not count"),
            ("tokens = 127", "16 bursts of 8 single tokens need 128 `tokens`, and there are 127"),
            ("steps = 'each'\nchunk = 4", "`chunk` is 4, and `steps = \"each\"` feeds every token alone: leave `chunk` out"),
            ("steps = 'each'\nburst = 4", "`burst` is 4, and `steps = \"each\"` feeds every token alone: leave `burst` out"),
        ] {
            assert_eq!(stream(keys).of_model(4096, 512).unwrap_err(), expected);
        }
        assert!(toml::from_str::<Stream>("steps = 'all'").unwrap_err().to_string().contains("bursts"));
    }
}
