//! Divergences of many positions, summarized.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::estimate::WindowSum;
use crate::{Divergence, Estimate, Top1};

/// The fewest tokens of which a 99 % quantile is told: two lie above it.
pub const TOKENS_FOR_P99: usize = 200;
/// The fewest tokens of which a 99.9 % quantile is told.
pub const TOKENS_FOR_P999: usize = 3000;

/// The divergences of a candidate over the windows of a text.
///
/// A *window* is a piece of the text that starts with an empty cache. The *depth* of a divergence is the number of tokens of the
/// window that came before the predicted one, so the last of a window of `n` tokens has depth `n − 1`.
#[derive(Debug, Clone, PartialEq)]
pub struct Divergences {
    window_tokens: usize,
    depths: Vec<usize>,
    /// By window and depth, so that sums do not depend on the order of the calls.
    measured: BTreeMap<(usize, usize), Divergence>,
}

/// What divergences amount to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Over all tokens.
    pub overall: Statistics,
    /// Over the tokens of each range of depths that has any, in order.
    pub depths: Vec<DepthStatistics>,
    /// Over the last quarter of the windows. `None` if nothing was measured there.
    pub tail: Option<Statistics>,
    /// For each window that was measured, in order, the least depth at which greedy decoding would have chosen another token.
    /// Ties do not count. Teacher-forced: what follows a difference is measured on the text's own tokens.
    pub first_differences: Vec<FirstDifference>,
}

/// Statistics of a range of depths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DepthStatistics {
    /// The depths, in tokens.
    pub depths: Range<usize>,
    /// Over their tokens.
    pub statistics: Statistics,
}

/// Where greedy decoding first departs from the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstDifference {
    /// The window.
    pub window: usize,
    /// The depth, or `None` if the most likely tokens were the same, or tied, everywhere.
    pub depth: Option<usize>,
}

/// Statistics over some tokens. Logarithms are natural.
///
/// A perplexity, or the upper end of its interval, is infinite where the mean exceeds 709 nats; JSON has no such number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Tokens predicted.
    pub tokens: usize,
    /// Windows that they are of.
    pub windows: usize,
    /// The reference's perplexity: `exp` of its mean negative log-probability of the true tokens. The interval is that of the
    /// mean, mapped.
    pub reference_perplexity: Estimate,
    /// The candidate's perplexity.
    pub perplexity: Estimate,
    /// The candidate's perplexity minus the reference's. Both saw the same tokens, so the error is paired: window `w` moves
    /// the difference by `P'·(s'_w − n_w·m')/N − P·(s_w − n_w·m)/N`, with both sides' perplexities `P', P`, mean `m', m` and
    /// sums `s'_w, s_w` of negative log-probabilities, and the standard error is that of these (the delta method).
    pub perplexity_delta: Estimate,
    /// The mean difference of the negative log-probabilities, candidate minus reference, paired token by token. It is the
    /// logarithm of the ratio of the perplexities.
    pub log_perplexity_delta: Estimate,
    /// The mean KL divergence, in nats.
    pub kl_mean: Estimate,
    /// Its median.
    pub kl_median: Estimate,
    /// Its 99 % quantile. `None` with fewer than [`TOKENS_FOR_P99`] tokens.
    pub kl_p99: Option<Estimate>,
    /// Its 99.9 % quantile. `None` with fewer than [`TOKENS_FOR_P999`] tokens.
    pub kl_p999: Option<Estimate>,
    /// Its maximum.
    pub kl_max: f64,
    /// The share of tokens at which both have the same most likely token, ties apart.
    pub same_top1: Estimate,
    /// The share of tokens at which the reference's most likely tokens are tied and the candidate chose another of them.
    pub tied_top1: Estimate,
    /// The root of the mean square of the change of the true token's probability.
    pub probability_rms: Estimate,
}

/// Divergences that make no sum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SummaryError {
    /// A window has no tokens.
    #[error("windows of {tokens} tokens predict nothing: 2 are the fewest")]
    Window {
        /// Tokens of a window.
        tokens: usize,
    },
    /// The bounds of the depths do not grow.
    #[error("depths {bounds:?} must grow")]
    Bounds {
        /// The bounds.
        bounds: Vec<usize>,
    },
    /// The depth lies outside of the window.
    #[error("depth {depth} is not in a window of {tokens} tokens")]
    Depth {
        /// The depth.
        depth: usize,
        /// Tokens of a window.
        tokens: usize,
    },
    /// The token was added before.
    #[error("depth {depth} of window {window} was added twice")]
    Twice {
        /// The window.
        window: usize,
        /// The depth.
        depth: usize,
    },
    /// Nothing was added.
    #[error("there are no divergences to summarize")]
    Empty,
}

impl Divergences {
    /// None yet, for windows of `window_tokens` tokens. `depths` are the bounds of the ranges of depths, growing: `[0, 512, 1024]`
    /// makes the ranges `0..512` and `512..1024`.
    ///
    /// # Errors
    /// [`SummaryError::Window`], [`SummaryError::Bounds`].
    pub fn new(window_tokens: usize, depths: &[usize]) -> Result<Divergences, SummaryError> {
        if window_tokens < 2 {
            return Err(SummaryError::Window { tokens: window_tokens });
        }
        if !depths.is_sorted_by(|a, b| a < b) {
            return Err(SummaryError::Bounds { bounds: depths.to_vec() });
        }
        Ok(Divergences { window_tokens, depths: depths.to_vec(), measured: BTreeMap::new() })
    }

    /// Adds the divergence at a depth of a window, in any order.
    ///
    /// # Errors
    /// [`SummaryError::Depth`], [`SummaryError::Twice`].
    pub fn add(&mut self, window: usize, depth: usize, divergence: Divergence) -> Result<(), SummaryError> {
        if depth >= self.window_tokens {
            return Err(SummaryError::Depth { depth, tokens: self.window_tokens });
        }
        if self.measured.insert((window, depth), divergence).is_some() {
            return Err(SummaryError::Twice { window, depth });
        }
        Ok(())
    }

    /// Every divergence with its window and depth, in order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize, &Divergence)> {
        self.measured.iter().map(|((window, depth), divergence)| (*window, *depth, divergence))
    }

    /// What they amount to.
    ///
    /// # Errors
    /// [`SummaryError::Empty`].
    pub fn summary(&self) -> Result<Summary, SummaryError> {
        let overall = self.statistics(0..self.window_tokens).ok_or(SummaryError::Empty)?;
        let ranges = self.depths.windows(2).map(|bounds| bounds[0]..bounds[1]);
        let depths = ranges.filter_map(|depths| Some(DepthStatistics { statistics: self.statistics(depths.clone())?, depths }));
        let tail = self.window_tokens - self.window_tokens.div_ceil(4);
        Ok(Summary {
            overall,
            depths: depths.collect(),
            tail: self.statistics(tail..self.window_tokens),
            first_differences: self.first_differences(),
        })
    }

    fn first_differences(&self) -> Vec<FirstDifference> {
        let mut firsts: BTreeMap<usize, Option<usize>> = BTreeMap::new();
        for (window, depth, divergence) in self.iter() {
            let first = firsts.entry(window).or_default();
            if divergence.top1 == Top1::Different {
                first.get_or_insert(depth);
            }
        }
        firsts.into_iter().map(|(window, depth)| FirstDifference { window, depth }).collect()
    }

    fn statistics(&self, depths: Range<usize>) -> Option<Statistics> {
        let mut windows: BTreeMap<usize, Vec<Divergence>> = BTreeMap::new();
        for (window, _, divergence) in self.iter().filter(|(_, depth, _)| depths.contains(depth)) {
            windows.entry(window).or_default().push(*divergence);
        }
        let windows: Vec<Vec<Divergence>> = windows.into_values().collect();
        (!windows.is_empty()).then(|| Statistics::of(&windows))
    }
}

impl Statistics {
    /// Of the divergences of each window. There is at least one.
    fn of(windows: &[Vec<Divergence>]) -> Statistics {
        let sums = |of: fn(&Divergence) -> f64| -> Vec<WindowSum> {
            windows.iter().map(|window| WindowSum { sum: window.iter().map(of).sum(), weight: window.len() as f64 }).collect()
        };
        let mean = |of: fn(&Divergence) -> f64| Estimate::of_ratio(&sums(of));
        let tokens = windows.iter().map(Vec::len).sum();
        let kl: Vec<Vec<f64>> = windows.iter().map(|window| window.iter().map(|divergence| divergence.kl).collect()).collect();
        let kl_quantile = |q| Estimate::of_quantile(&kl, q);
        let (before, after) = (sums(|of| -of.reference_log_probability), sums(|of| -of.candidate_log_probability));
        Statistics {
            tokens,
            windows: windows.len(),
            reference_perplexity: perplexity(&before),
            perplexity: perplexity(&after),
            perplexity_delta: perplexity_delta(&before, &after),
            log_perplexity_delta: mean(|of| of.reference_log_probability - of.candidate_log_probability),
            kl_mean: mean(|of| of.kl).within(0.0, f64::INFINITY),
            kl_median: kl_quantile(0.5),
            kl_p99: (tokens >= TOKENS_FOR_P99).then(|| kl_quantile(0.99)),
            kl_p999: (tokens >= TOKENS_FOR_P999).then(|| kl_quantile(0.999)),
            kl_max: kl.iter().flatten().copied().fold(0.0, f64::max),
            same_top1: mean(|of| f64::from(u8::from(of.top1 == Top1::Same))).within(0.0, 1.0),
            tied_top1: mean(|of| f64::from(u8::from(of.top1 == Top1::Tied))).within(0.0, 1.0),
            probability_rms: mean(|of| of.probability_change().powi(2)).root(),
        }
    }
}

fn perplexity(losses: &[WindowSum]) -> Estimate {
    let mean = Estimate::of_ratio(losses);
    mean.mapped(f64::exp, mean.value.exp())
}

fn perplexity_delta(before: &[WindowSum], after: &[WindowSum]) -> Estimate {
    let mean = |losses: &[WindowSum]| Estimate::of_ratio(losses).value;
    let (mean_before, mean_after) = (mean(before), mean(after));
    let moved = |window: &WindowSum, mean: f64| mean.exp() * (window.sum - window.weight * mean);
    let residuals = before.iter().zip(after).map(|(before, after)| moved(after, mean_after) - moved(before, mean_before));
    let tokens = before.iter().map(|window| window.weight).sum();
    Estimate::of_residuals(mean_after.exp() - mean_before.exp(), residuals, tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divergence(kl: f64, reference: f64, candidate: f64, top1: Top1) -> Divergence {
        Divergence { kl, reference_log_probability: reference, candidate_log_probability: candidate, top1 }
    }

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{actual} is not {expected}");
    }

    /// Windows of 8 tokens: two windows in which everything is known.
    fn two_windows() -> Divergences {
        let mut divergences = Divergences::new(8, &[0, 4, 6, 8]).unwrap();
        let (half, quarter) = (0.5f64.ln(), 0.25f64.ln());
        for depth in 1..8 {
            divergences.add(0, depth, divergence(0.1, half, half, Top1::Same)).unwrap();
            let top1 = [Top1::Tied, Top1::Same, Top1::Different][(depth % 3).min(2)];
            divergences.add(1, depth, divergence(0.3, half, quarter, top1)).unwrap();
        }
        divergences
    }

    #[test]
    fn two_known_windows() {
        let summary = two_windows().summary().unwrap();
        let all = &summary.overall;
        assert_eq!((all.tokens, all.windows), (14, 2));
        close(all.reference_perplexity.value, 2.0);
        close(all.perplexity.value, 8f64.sqrt());
        close(all.perplexity_delta.value, 8f64.sqrt() - 2.0);
        close(all.log_perplexity_delta.value, 0.5 * 2f64.ln());
        // Window means 0 and ln 2: the deviation is ln 2 / √2, and over two windows half of ln 2.
        close(all.log_perplexity_delta.standard_error.unwrap(), 0.5 * 2f64.ln());
        // The reference does not vary, so the delta's error is that of the candidate's perplexity.
        close(all.perplexity_delta.standard_error.unwrap(), 8f64.sqrt() * 0.5 * 2f64.ln());
        close(all.perplexity.standard_error.unwrap(), 8f64.sqrt() * 0.5 * 2f64.ln());
        assert_eq!(all.reference_perplexity.standard_error, Some(0.0));
        close(all.kl_mean.value, 0.2);
        close(all.kl_median.value, 0.2);
        close(all.kl_max, 0.3);
        assert_eq!((all.kl_p99, all.kl_p999), (None, None));
        close(all.same_top1.value, (7.0 + 3.0) / 14.0);
        close(all.tied_top1.value, 2.0 / 14.0);
        let (low, high) = all.same_top1.interval.unwrap();
        assert!((0.0..0.1).contains(&low) && high == 1.0, "t with one degree of freedom is wide: {low} to {high}");
        close(all.probability_rms.value, (0.25f64.powi(2) / 2.0).sqrt());
    }

    #[test]
    fn depths_the_tail_and_first_differences() {
        let summary = two_windows().summary().unwrap();
        let ranges: Vec<_> = summary.depths.iter().map(|part| (part.depths.clone(), part.statistics.tokens)).collect();
        assert_eq!(ranges, [(0..4, 6), (4..6, 4), (6..8, 4)]);
        assert_eq!(summary.tail.as_ref().unwrap().tokens, 4);
        assert_eq!(summary.tail.as_ref(), Some(&summary.depths[2].statistics));
        let firsts = [FirstDifference { window: 0, depth: None }, FirstDifference { window: 1, depth: Some(2) }];
        assert_eq!(summary.first_differences, firsts);
    }

    /// The candidate is worse by the same factor in every window, while the windows differ much.
    #[test]
    fn the_error_of_the_delta_is_paired() {
        let mut divergences = Divergences::new(3, &[]).unwrap();
        for window in 0..4 {
            let loss = 1.0 + window as f64;
            divergences.add(window, 1, divergence(0.0, -loss, -loss - 0.01, Top1::Same)).unwrap();
        }
        let all = divergences.summary().unwrap().overall;
        close(all.log_perplexity_delta.value, 0.01);
        assert!(all.log_perplexity_delta.standard_error.unwrap() < 1e-12);
        let (paired, unpaired) = (all.perplexity_delta.standard_error.unwrap(), all.perplexity.standard_error.unwrap());
        assert!(paired < 0.02 * unpaired, "{paired} against {unpaired}");
    }

    #[test]
    fn quantiles_need_tokens() {
        let mut divergences = Divergences::new(4000, &[]).unwrap();
        for depth in 0..3000 {
            assert_eq!(divergences.measured.len(), depth);
            divergences.add(0, depth, divergence(depth as f64, -1.0, -1.0, Top1::Same)).unwrap();
            let enough = |of: &Statistics| (of.kl_p99.is_some(), of.kl_p999.is_some());
            if [198, 199, 2998, 2999].contains(&depth) {
                let statistics = divergences.summary().unwrap().overall;
                assert_eq!(enough(&statistics), (depth >= 199, depth >= 2999), "{depth}");
            }
        }
        let all = divergences.summary().unwrap();
        close(all.overall.kl_p99.unwrap().value, 0.99 * 2999.0);
        close(all.overall.kl_p999.unwrap().value, 0.999 * 2999.0);
        assert_eq!(all.tail, None);
        assert_eq!((all.overall.kl_mean.interval, all.overall.same_top1.interval), (None, None), "one window");
    }

    #[test]
    fn exact_caches_differ_by_nothing() {
        let mut divergences = Divergences::new(4, &[0, 4]).unwrap();
        for (window, depth) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
            divergences.add(window, depth, divergence(0.0, -1.5, -1.5, Top1::Same)).unwrap();
        }
        let all = divergences.summary().unwrap().overall;
        let nothing = Estimate { value: 0.0, standard_error: Some(0.0), interval: Some((0.0, 0.0)) };
        assert_eq!([all.perplexity_delta, all.log_perplexity_delta, all.kl_mean, all.probability_rms], [nothing; 4]);
        assert_eq!(all.same_top1.interval, Some((1.0, 1.0)));
    }

    #[test]
    fn the_order_of_the_calls_does_not_matter() {
        let forward = two_windows();
        let mut backward = Divergences::new(8, &[0, 4, 6, 8]).unwrap();
        let mut all: Vec<_> = forward.iter().map(|(window, depth, divergence)| (window, depth, *divergence)).collect();
        all.reverse();
        all.into_iter().for_each(|(window, depth, divergence)| backward.add(window, depth, divergence).unwrap());
        assert_eq!(forward.summary().unwrap(), backward.summary().unwrap());
    }

    #[test]
    fn a_summary_survives_json() {
        let summary = two_windows().summary().unwrap();
        let text = serde_json::to_string(&summary).unwrap();
        let back: Summary = serde_json::from_str(&text).unwrap();
        // Up to the last digit of numbers, and every one is there.
        assert_eq!(back.first_differences, summary.first_differences);
        close(back.overall.perplexity_delta.value, summary.overall.perplexity_delta.value);
        assert_eq!(back.tail.map(|tail| (tail.tokens, tail.kl_p99)), Some((4, None)));
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Divergences::new(1, &[]), Err(SummaryError::Window { tokens: 1 }));
        assert_eq!(Divergences::new(9, &[0, 4, 4]), Err(SummaryError::Bounds { bounds: vec![0, 4, 4] }));
        let mut divergences = Divergences::new(4, &[]).unwrap();
        assert_eq!(divergences.summary(), Err(SummaryError::Empty));
        let one = divergence(0.0, -1.0, -1.0, Top1::Same);
        assert_eq!(divergences.add(0, 4, one), Err(SummaryError::Depth { depth: 4, tokens: 4 }));
        divergences.add(2, 3, one).unwrap();
        assert_eq!(divergences.add(2, 3, one), Err(SummaryError::Twice { window: 2, depth: 3 }));
    }
}
