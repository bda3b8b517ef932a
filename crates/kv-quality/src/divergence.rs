//! How far a candidate's next-token distribution is from the reference's, at one position.
//!
//! The definitions are those of llama.cpp's `llama-perplexity --kl-divergence`: the divergence is D(reference ‖ candidate) in
//! nats, "same top" compares the most likely tokens, and Δp is the change of the true token's probability. Unlike there,
//! everything is computed in `f64` from the `f32` logits of both sides, so that nothing is rounded on the way.

use serde::{Deserialize, Serialize};

/// Two logits of the reference closer than this, relative to the larger magnitude, are a tie.
pub const TIE: f64 = 1e-6;

/// What one pair of logit rows says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// The Kullback–Leibler divergence `Σ p·(ln p − ln q)` of the candidate's distribution `q` from the reference's `p`, in
    /// nats. Never negative, and exactly 0 for equal logits.
    pub kl: f64,
    /// The reference's log-probability of the true next token, in nats.
    pub reference_log_probability: f64,
    /// The candidate's log-probability of the true next token, in nats.
    pub candidate_log_probability: f64,
    /// Whether both have the same most likely token.
    pub top1: Top1,
}

/// How the most likely tokens of two distributions compare. Among equal logits of one row, the first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Top1 {
    /// They are the same.
    Same,
    /// They differ, but the reference's logits of the two are within [`TIE`] of each other: rounding decides.
    Tied,
    /// They differ.
    Different,
}

/// Whose logits are at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// The reference's.
    Reference,
    /// The candidate's.
    Candidate,
}

/// A pair of logit rows that cannot be compared.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DivergenceError {
    /// The rows have different lengths.
    #[error("the reference has {reference} logits and the candidate {candidate}: both must have one for each token of the vocabulary")]
    Lengths {
        /// Logits of the reference.
        reference: usize,
        /// Logits of the candidate.
        candidate: usize,
    },
    /// The true token is not in the vocabulary.
    #[error("the next token is {token}, and there are {vocabulary} logits")]
    Token {
        /// The token.
        token: u32,
        /// Logits.
        vocabulary: usize,
    },
    /// A logit is infinite or not a number.
    #[error("the {of}'s logit of token {token} is {logit}: logits must be finite")]
    NotFinite {
        /// Whose.
        of: Of,
        /// The first such token.
        token: usize,
        /// Its logit.
        logit: f32,
    },
}

impl std::fmt::Display for Of {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Of::Reference => "reference",
            Of::Candidate => "candidate",
        })
    }
}

impl Divergence {
    /// Compares the logits of both sides, `vocabulary` values each, at a position that the token `next` follows in the text.
    ///
    /// # Errors
    /// [`DivergenceError`].
    pub fn between(reference: &[f32], candidate: &[f32], next: u32) -> Result<Divergence, DivergenceError> {
        if reference.len() != candidate.len() {
            return Err(DivergenceError::Lengths { reference: reference.len(), candidate: candidate.len() });
        }
        let next_index = next as usize;
        if next_index >= reference.len() {
            return Err(DivergenceError::Token { token: next, vocabulary: reference.len() });
        }
        let (p, q) = (LogSoftmax::new(Of::Reference, reference)?, LogSoftmax::new(Of::Candidate, candidate)?);
        let kl = (0..reference.len()).map(|token| kl_term(p.of(token), q.of(token))).sum();
        let top1 = match (reference[p.top], reference[q.top]) {
            _ if p.top == q.top => Top1::Same,
            (first, other) if is_tie(first, other) => Top1::Tied,
            _ => Top1::Different,
        };
        Ok(Divergence { kl, reference_log_probability: p.of(next_index), candidate_log_probability: q.of(next_index), top1 })
    }

    /// The candidate's probability of the true token minus the reference's.
    pub fn probability_change(&self) -> f64 {
        self.candidate_log_probability.exp() - self.reference_log_probability.exp()
    }
}

/// The log-probability of the token `next`, in nats, by the logits of the position before it: `vocabulary` values.
///
/// # Errors
/// [`DivergenceError::Token`], and [`DivergenceError::NotFinite`] of the candidate.
pub fn log_probability(logits: &[f32], next: u32) -> Result<f64, DivergenceError> {
    let index = next as usize;
    if index >= logits.len() {
        return Err(DivergenceError::Token { token: next, vocabulary: logits.len() });
    }
    Ok(LogSoftmax::new(Of::Candidate, logits)?.of(index))
}

fn is_tie(a: f32, b: f32) -> bool {
    let (a, b) = (f64::from(a), f64::from(b));
    (a - b).abs() <= TIE * a.abs().max(b.abs())
}

/// A token's part of the divergence, from the logarithms of its probabilities `p` and `q`: `p·ln(p/q) − p + q`. Both
/// distributions sum to 1, so the added `q − p` sums to 0. With it no term is negative, and small divergences do not drown in
/// the cancellation of large terms.
fn kl_term(log_p: f64, log_q: f64) -> f64 {
    let difference = log_p - log_q;
    let p = log_p.exp();
    let term = if difference.abs() < 1.0 { p * (difference + (-difference).exp_m1()) } else { p * (difference - 1.0) + log_q.exp() };
    term.max(0.0)
}

/// A row of logits with what turns them into log-probabilities.
struct LogSoftmax<'a> {
    logits: &'a [f32],
    top: usize,
    largest: f64,
    /// The logarithm of `Σ exp(logit − largest)`.
    log_sum: f64,
}

impl LogSoftmax<'_> {
    fn new(of: Of, logits: &[f32]) -> Result<LogSoftmax<'_>, DivergenceError> {
        if let Some(token) = logits.iter().position(|logit| !logit.is_finite()) {
            return Err(DivergenceError::NotFinite { of, token, logit: logits[token] });
        }
        let top = (1..logits.len()).fold(0, |top, token| if logits[token] > logits[top] { token } else { top });
        let largest = f64::from(logits[top]);
        let log_sum = logits.iter().map(|logit| (f64::from(*logit) - largest).exp()).sum::<f64>().ln();
        Ok(LogSoftmax { logits, top, largest, log_sum })
    }

    fn of(&self, token: usize) -> f64 {
        f64::from(self.logits[token]) - self.largest - self.log_sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn logits(probabilities: &[f64]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln() as f32).collect()
    }

    #[test]
    fn two_known_distributions() {
        let (p, q) = ([0.5, 0.25, 0.25], [0.25, 0.25, 0.5]);
        let divergence = Divergence::between(&logits(&p), &logits(&q), 0).unwrap();
        // 0.5·ln 2 + 0 + 0.25·ln ½
        assert!((divergence.kl - 0.25 * 2f64.ln()).abs() < 1e-7, "{divergence:?}");
        assert!((divergence.reference_log_probability - 0.5f64.ln()).abs() < 1e-7);
        assert!((divergence.candidate_log_probability - 0.25f64.ln()).abs() < 1e-7);
        assert_eq!(log_probability(&logits(&q), 0), Ok(divergence.candidate_log_probability));
        assert!((divergence.probability_change() + 0.25).abs() < 1e-7);
        assert_eq!(divergence.top1, Top1::Different);
        // It is not symmetric.
        let p = [0.9, 0.1];
        let q = [0.5, 0.5];
        let forward = Divergence::between(&logits(&p), &logits(&q), 1).unwrap().kl;
        let backward = Divergence::between(&logits(&q), &logits(&p), 1).unwrap().kl;
        assert!((forward - (0.9 * 1.8f64.ln() + 0.1 * 0.2f64.ln())).abs() < 1e-7);
        assert!((backward - (0.5 * (5.0f64 / 9.0).ln() + 0.5 * 5f64.ln())).abs() < 1e-7);
    }

    #[test]
    fn equal_and_shifted_logits_do_not_diverge() {
        let row = [1.0f32, -3.5, 7.25, 0.0];
        let same = Divergence::between(&row, &row, 1).unwrap();
        assert_eq!((same.kl, same.top1, same.probability_change()), (0.0, Top1::Same, 0.0));
        let shifted = row.map(|logit| logit + 64.0);
        assert!(Divergence::between(&row, &shifted, 1).unwrap().kl < 1e-30);
    }

    #[test]
    fn a_tiny_divergence_is_not_lost_in_rounding() {
        // Two tokens, ½ each; one logit moves by d: KL = d²/8 up to d⁴.
        let d = 2f32.powi(-20);
        let kl = Divergence::between(&[0.0, 0.0], &[0.0, d], 0).unwrap().kl;
        let expected = f64::from(d).powi(2) / 8.0;
        assert!((kl / expected - 1.0).abs() < 1e-6, "{kl} is not {expected}");
    }

    #[test]
    fn extreme_logits_stay_finite() {
        let divergence = Divergence::between(&[f32::MAX, f32::MIN, 0.0], &[f32::MIN, f32::MAX, 0.0], 0).unwrap();
        assert!(divergence.kl.is_finite() && divergence.kl > 1e38, "{divergence:?}");
        let apart = Divergence::between(&[0.0, -2000.0], &[-2000.0, 0.0], 0).unwrap();
        assert!((apart.kl - 2000.0).abs() < 1e-9, "{apart:?}");
    }

    #[test]
    fn a_near_tie_of_the_reference_counts_apart() {
        let reference = [10.0f32, 10.000_001, -1.0];
        let other = [10.1f32, 10.0, -1.0];
        assert_eq!(Divergence::between(&reference, &other, 2).unwrap().top1, Top1::Tied);
        assert_eq!(Divergence::between(&[10.0, 10.1, -1.0], &other, 2).unwrap().top1, Top1::Different);
        // Of equal logits the first counts on both sides.
        assert_eq!(Divergence::between(&[3.0, 3.0], &[1.0, 1.0], 0).unwrap().top1, Top1::Same);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let row = [0.0f32, 1.0];
        let error = |reference: &[f32], candidate: &[f32], next| Divergence::between(reference, candidate, next).unwrap_err();
        assert_eq!(error(&row, &row[..1], 0), DivergenceError::Lengths { reference: 2, candidate: 1 });
        assert_eq!(error(&row, &row, 2), DivergenceError::Token { token: 2, vocabulary: 2 });
        assert_eq!(error(&[], &[], 0), DivergenceError::Token { token: 0, vocabulary: 0 });
        assert_eq!(log_probability(&row, 2), Err(DivergenceError::Token { token: 2, vocabulary: 2 }));
        let nan = error(&row, &[0.0, f32::NAN], 0);
        assert_eq!(nan.to_string(), "the candidate's logit of token 1 is NaN: logits must be finite");
        let infinite = DivergenceError::NotFinite { of: Of::Reference, token: 0, logit: f32::INFINITY };
        assert_eq!(error(&[f32::INFINITY, 0.0], &row, 0), infinite);
    }

    proptest! {
        #[test]
        fn agrees_with_the_plain_sum(rows in proptest::collection::vec((-20f32..20.0, -20f32..20.0), 1..64)) {
            let (reference, candidate): (Vec<f32>, Vec<f32>) = rows.into_iter().unzip();
            let softmax = |row: &[f32]| {
                let weights: Vec<f64> = row.iter().map(|logit| f64::from(*logit).exp()).collect();
                let total: f64 = weights.iter().sum();
                weights.into_iter().map(|weight| weight / total).collect::<Vec<_>>()
            };
            let (p, q) = (softmax(&reference), softmax(&candidate));
            let plain: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
            let divergence = Divergence::between(&reference, &candidate, 0).unwrap();
            prop_assert!((divergence.kl - plain).abs() < 1e-9 * (1.0 + plain), "{} is not {plain}", divergence.kl);
        }
    }
}
