//! What a text is to who knows nothing of it but how often each token comes.

use std::collections::BTreeMap;

/// The perplexity of tokens given their frequencies alone: the exponential of their entropy, in nats. 1 for no tokens. A model
/// that predicts a text worse does not know it.
pub fn unigram_perplexity(tokens: impl Iterator<Item = u32>) -> f64 {
    let mut counts = BTreeMap::<u32, f64>::new();
    tokens.for_each(|token| *counts.entry(token).or_default() += 1.0);
    let all: f64 = counts.values().sum();
    (-counts.values().map(|count| count / all * (count / all).ln()).sum::<f64>()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_are_all_alike_or_all_different_have_known_perplexities() {
        assert!((unigram_perplexity([7; 9].into_iter()) - 1.0).abs() < 1e-12);
        assert!((unigram_perplexity(0..32) - 32.0).abs() < 1e-9);
        assert_eq!(unigram_perplexity(std::iter::empty()), 1.0);
    }
}
