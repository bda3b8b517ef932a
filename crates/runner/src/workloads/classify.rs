//! `classify`: labels that are scored after the same text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Load, at_least_one};

/// Labels that are scored after the same prefix; nothing is generated. The score of a label is the sum of the log-probabilities of
/// its tokens. The prefix is computed once, and each label is scored in a fork of it. Beside that, prefix and label are computed
/// again for each label, in one step, so that nothing is read back from the cache. Prefix and labels are drawn from the sweep's
/// seed. Instances are compared by the time of a label in its fork.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Classify {
    /// Tokens of the prefix.
    pub prefix: usize,
    /// Labels, at least 2. No two are the same.
    pub labels: usize,
    /// Tokens of each label. The end of the prefix alone scores labels of one token.
    pub label_tokens: usize,
}

impl Default for Classify {
    fn default() -> Classify {
        Classify { prefix: 512, labels: 8, label_tokens: 3 }
    }
}

impl Classify {
    /// Tokens of a sequence in the end: nobody asks what follows a label, so its last token is not fed.
    pub(crate) fn tokens(&self) -> usize {
        self.prefix.saturating_add(self.label_tokens - 1)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        at_least_one("prefix", self.prefix)?;
        if self.labels < 2 {
            return Err(format!("`labels` is {}: it must be at least 2, because a single label is the best one", self.labels));
        }
        at_least_one("label_tokens", self.label_tokens)
    }

    pub(super) fn load(&self) -> Load {
        let tokens = self.tokens();
        Load {
            prompt_tokens: tokens.saturating_mul(self.labels.saturating_add(1)),
            steps: 1,
            depth: tokens,
            sequences: self.labels.saturating_mul(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_make_no_sense_are_refused_with_what_would_be_right() {
        let check = |keys: &str| toml::from_str::<Classify>(keys).unwrap().check();
        assert_eq!(check("prefix = 1\nlabels = 2\nlabel_tokens = 1"), Ok(()));
        for (keys, expected) in [
            ("prefix = 0", "`prefix` is 0: it must be at least 1"),
            ("labels = 1", "`labels` is 1: it must be at least 2"),
            ("label_tokens = 0", "`label_tokens` is 0: it must be at least 1"),
        ] {
            let error = check(keys).unwrap_err();
            assert!(error.starts_with(expected), "{keys}: {error}");
        }
    }
}
