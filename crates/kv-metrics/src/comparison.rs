//! How much faster one thing is than another, judged from paired times.
//!
//! A *launch* is a fresh process in which everything that is compared is timed in turns, round after round. It gives one
//! observation for each instance: the median over its rounds of the logarithm of its time over the baseline's in the same
//! round ([`launch_observation`]). Rounds of one launch share where their buffers lie and what else the machine does, so more
//! rounds do not make up for few launches: variance is taken between launches only (Kalibera and Jones, 2013,
//! doi:10.1145/2464157.2464160). Medians of paired ratios, because single stalls rule means.

use statrs::distribution::ContinuousCDF;

use crate::statistics::{quantile, student, student_quantile};

/// Below this number of launches there is no verdict.
pub const LEAST_LAUNCHES: usize = 3;

/// What one launch says of an instance: the median of the logarithms of the ratios of its rounds, each as (its time, the
/// baseline's). `None` without rounds.
pub fn launch_observation(rounds: &[(f64, f64)]) -> Option<f64> {
    let logarithms: Vec<f64> = rounds.iter().map(|(time, baseline)| (time / baseline).ln()).collect();
    quantile(&logarithms, 0.5)
}

/// The variance of an observation, shared by the instances that were timed together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pooled {
    /// The variance of one observation.
    pub variance: f64,
    /// The degrees of freedom of that variance; not a whole number.
    pub degrees_of_freedom: f64,
    /// Observations of each instance.
    pub launches: usize,
}

/// Pools the variance of `[instances][launches]` observations that share a baseline. `None` with fewer than two launches,
/// with no instance, or if instances have different numbers of launches.
///
/// Variance differs between lengths by more than an order of magnitude, so only instances of one length are pooled. They are
/// not independent: the baseline of a launch is in all of its observations, and what disturbs a launch makes all of them noisy.
/// The pooled variance is the sum of a part that all instances of a launch share and of a part of their own. Both are counted
/// with `launches − 1` degrees of freedom, however many the instances are, and those of the sum follow from Satterthwaite (1946,
/// doi:10.2307/3002019). Simulations with recorded times show that more would promise too much.
pub fn pool(observations: &[Vec<f64>]) -> Option<Pooled> {
    let launches = observations.first()?.len();
    if launches < 2 || observations.iter().any(|instance| instance.len() != launches) {
        return None;
    }
    let instances = observations.len() as f64;
    let of_launches = launches as f64 - 1.0;
    let centred: Vec<Vec<f64>> = observations
        .iter()
        .map(|instance| {
            let mean = mean(instance);
            instance.iter().map(|value| value - mean).collect()
        })
        .collect();
    let shared: Vec<f64> = (0..launches).map(|launch| centred.iter().map(|instance| instance[launch]).sum::<f64>() / instances).collect();
    let common = shared.iter().map(|value| value * value).sum::<f64>() / of_launches;
    let own: f64 = centred.iter().flat_map(|instance| instance.iter().zip(&shared)).map(|(value, shared)| (value - shared).powi(2)).sum();
    // The instances' own part of the variance of one observation.
    let own = own / (instances * of_launches);
    let variance = common + own;
    let spread = (common * common + own * own) / of_launches;
    // Observations that do not vary at all: the fewest degrees of freedom that they can have.
    let degrees_of_freedom = if spread > 0.0 { variance * variance / spread } else { of_launches };
    Some(Pooled { variance, degrees_of_freedom, launches })
}

/// The logarithm of a ratio with what is known of its spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The mean logarithm of the ratio.
    pub mean: f64,
    /// The standard error of that mean.
    pub standard_error: f64,
    /// The degrees of freedom of the standard error; not a whole number.
    pub degrees_of_freedom: f64,
    /// Launches behind it; of two runs those of the one that has fewer.
    pub launches: usize,
}

impl Estimate {
    /// The estimate of an instance whose observations are among the pooled ones.
    pub fn new(observations: &[f64], pooled: Pooled) -> Estimate {
        let Pooled { variance, degrees_of_freedom, launches } = pooled;
        Estimate { mean: mean(observations), standard_error: (variance / launches as f64).sqrt(), degrees_of_freedom, launches }
    }

    /// The difference of the means of two samples of logarithms that are not paired: the ratio of the geometric means of
    /// `after` and `before`. `None` if one of them has fewer than [`LEAST_LAUNCHES`].
    ///
    /// With `n` observations of variance `s²` in each, the standard error is `√(s₁²/n₁ + s₂²/n₂)`, and its degrees of freedom are
    /// those of Welch (1947, doi:10.1093/biomet/34.1-2.28): the two samples need not vary alike.
    pub fn unpaired(before: &[f64], after: &[f64]) -> Option<Estimate> {
        let launches = before.len().min(after.len());
        if launches < LEAST_LAUNCHES {
            return None;
        }
        let of_mean = |sample: &[f64]| variance(sample) / sample.len() as f64;
        let freedom = |sample: &[f64]| sample.len() as f64 - 1.0;
        let (first, second) = (of_mean(before), of_mean(after));
        let squared_error = first + second;
        let spread = first * first / freedom(before) + second * second / freedom(after);
        // Where neither varies at all, the fewest degrees of freedom that there can be.
        let degrees_of_freedom = if spread > 0.0 { squared_error * squared_error / spread } else { launches as f64 - 1.0 };
        Some(Estimate { mean: mean(after) - mean(before), standard_error: squared_error.sqrt(), degrees_of_freedom, launches })
    }

    /// The probability of a mean as far from 0, or farther, if the ratio is 1.
    fn p(&self) -> f64 {
        match (self.standard_error, self.mean) {
            (0.0, 0.0) => 1.0,
            (0.0, _) => 0.0,
            (error, mean) => 2.0 * student(self.degrees_of_freedom).sf((mean / error).abs()),
        }
    }

    /// Half of the interval of the logarithm in which the ratio lies but for a probability of `alpha`.
    fn half_width(&self, alpha: f64) -> f64 {
        student_quantile(self.degrees_of_freedom, 1.0 - alpha / 2.0) * self.standard_error
    }
}

/// Half of an interval of the logarithm of a ratio that misses with a probability of `alpha`.
pub fn half_width(pooled: Pooled, alpha: f64) -> f64 {
    student_quantile(pooled.degrees_of_freedom, 1.0 - alpha / 2.0) * (pooled.variance / pooled.launches as f64).sqrt()
}

/// The variance of a sample of two or more.
fn variance(sample: &[f64]) -> f64 {
    let mean = mean(sample);
    sample.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (sample.len() as f64 - 1.0)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The geometric mean of a time's (or another positive quantity's) launches, and where it lies with 95 %. `None` with fewer than
/// [`LEAST_LAUNCHES`], or if one is not positive.
pub fn geometric_mean(launches: &[f64]) -> Option<(f64, (f64, f64))> {
    if launches.len() < LEAST_LAUNCHES || launches.iter().any(|value| *value <= 0.0) {
        return None;
    }
    let logarithms: Vec<f64> = launches.iter().map(|value| value.ln()).collect();
    let estimate = Estimate::new(&logarithms, pool(std::slice::from_ref(&logarithms))?);
    let half = estimate.half_width(Judgement::default().alpha);
    Some((estimate.mean.exp(), ((estimate.mean - half).exp(), (estimate.mean + half).exp())))
}

/// How an instance compares with the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The interval lies within the margin.
    Same,
    /// It takes less time: the interval excludes 1.
    Faster,
    /// It takes more time: the interval excludes 1.
    Slower,
    /// The interval holds 1 and leaves the margin: more launches are needed to tell.
    Inconclusive,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Verdict::Same => "same",
            Verdict::Faster => "faster",
            Verdict::Slower => "slower",
            Verdict::Inconclusive => "inconclusive",
        })
    }
}

/// A ratio of times to the baseline's, with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// The geometric mean of the launches' ratios.
    pub ratio: f64,
    /// Where the ratio lies; corrected for the other comparisons of the family.
    pub interval: (f64, f64),
    /// What that says.
    pub verdict: Verdict,
    /// Degrees of freedom of the variance.
    pub degrees_of_freedom: f64,
    /// Launches behind it.
    pub launches: usize,
}

/// How comparisons are judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// The probability that any interval of a family excludes a ratio of 1 that is true.
    pub alpha: f64,
    /// The share by which times may differ and still be the same.
    pub margin: f64,
}

impl Default for Judgement {
    /// 5 % for any false `faster` or `slower` in a chart, and 3 % that are no difference.
    fn default() -> Judgement {
        Judgement { alpha: 0.05, margin: 0.03 }
    }
}

impl Judgement {
    /// Judges the comparisons that are shown together. Their intervals are corrected with Holm's step-down procedure (1979,
    /// jstor:4615733): the probability that any of them excludes a ratio of 1 that is true stays below `alpha`.
    pub fn judge(&self, family: &[Estimate]) -> Vec<Comparison> {
        let mut by_p: Vec<(usize, f64)> = family.iter().map(Estimate::p).enumerate().collect();
        by_p.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut alphas = vec![self.alpha; family.len()];
        let mut hypotheses = family.len();
        for (index, p) in by_p {
            alphas[index] = self.alpha / hypotheses as f64;
            // Once one hypothesis stands, those after it stand as well, at its level.
            if p <= alphas[index] {
                hypotheses -= 1;
            }
        }
        family.iter().zip(alphas).map(|(estimate, alpha)| self.compare(estimate, alpha)).collect()
    }

    fn compare(&self, estimate: &Estimate, alpha: f64) -> Comparison {
        let half = estimate.half_width(alpha);
        let (low, high) = (estimate.mean - half, estimate.mean + half);
        let margin = self.margin.ln_1p();
        let verdict = if -margin <= low && high <= margin {
            Verdict::Same
        } else if high < 0.0 {
            Verdict::Faster
        } else if low > 0.0 {
            Verdict::Slower
        } else {
            Verdict::Inconclusive
        };
        Comparison {
            ratio: estimate.mean.exp(),
            interval: (low.exp(), high.exp()),
            verdict,
            degrees_of_freedom: estimate.degrees_of_freedom,
            launches: estimate.launches,
        }
    }

    /// Whether the launches so far leave the widest interval of a family of so many comparisons wider than the margin. It
    /// depends on the spread alone and not on what the verdict would be, so that adding launches does not favour one.
    pub fn wants_more_launches(&self, pooled: Pooled, family: usize) -> bool {
        half_width(pooled, self.alpha / family.max(1) as f64) > self.margin.ln_1p()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pooled(variance: f64, degrees_of_freedom: f64, launches: usize) -> Pooled {
        Pooled { variance, degrees_of_freedom, launches }
    }

    fn at(mean: f64, pooled: Pooled) -> Estimate {
        Estimate::new(&[mean], pooled)
    }

    #[test]
    fn one_stall_does_not_rule_a_launch() {
        let rounds = [(1.1, 1.0), (1.1, 1.0), (50.0, 1.0)];
        assert!((launch_observation(&rounds).unwrap() - 1.1f64.ln()).abs() < 1e-12);
        assert_eq!(launch_observation(&[]), None);
    }

    #[test]
    fn the_variance_of_one_instance_is_the_usual_one() {
        let pooled = pool(&[vec![1.0, 2.0, 3.0, 6.0]]).unwrap();
        assert!((pooled.variance - 14.0 / 3.0).abs() < 1e-12 && (pooled.degrees_of_freedom - 3.0).abs() < 1e-12, "{pooled:?}");
        assert_eq!(pool(&[vec![1.0]]), None);
        assert_eq!(pool(&[]), None);
        assert_eq!(pool(&[vec![1.0, 2.0], vec![1.0]]), None);
    }

    #[test]
    fn a_noisy_baseline_leaves_few_degrees_of_freedom() {
        // Only the baseline varies: all instances say the same.
        let shared = vec![vec![0.1, -0.1, 0.05, -0.05]; 6];
        assert!((pool(&shared).unwrap().degrees_of_freedom - 3.0).abs() < 1e-9);
        // Each varies on its own, and the launches' means do not.
        let own = [vec![0.1, -0.1, 0.1, -0.1], vec![-0.1, 0.1, -0.1, 0.1]];
        assert!((pool(&own).unwrap().degrees_of_freedom - 3.0).abs() < 1e-9, "launches - 1");
        let mean_square = 0.04 * 2.0 / (2.0 * 3.0);
        assert!((pool(&own).unwrap().variance - mean_square).abs() < 1e-12, "the mean of the instances' variances");
    }

    #[test]
    fn a_mean_of_launches_has_the_usual_interval() {
        let (mean, (low, high)) = geometric_mean(&[1.0, 2.0, 4.0]).unwrap();
        // Student's quantile of two degrees of freedom, and a standard deviation of ln 2.
        let half = 4.3027 * 2f64.ln() / 3f64.sqrt();
        assert!((mean - 2.0).abs() < 1e-12 && (low - (2f64.ln() - half).exp()).abs() < 1e-4 && (high / mean - mean / low).abs() < 1e-6);
        assert_eq!(geometric_mean(&[1.0, 2.0]), None);
        assert_eq!(geometric_mean(&[1.0, 2.0, 0.0]), None);
    }

    /// The numbers of `scipy.stats.ttest_ind([1.1, 1.2, 1.6, 1.3], [1, 1.02, 0.97], equal_var=False)`.
    #[test]
    fn samples_that_are_not_paired_have_the_error_of_welch() {
        let (before, after) = ([1.0, 1.02, 0.97], [1.1, 1.2, 1.6, 1.3]);
        let estimate = Estimate::unpaired(&before, &after).unwrap();
        assert!((estimate.mean - (1.3 - 2.99 / 3.0)).abs() < 1e-12, "{estimate:?}");
        assert!((estimate.mean / estimate.standard_error - 2.7832520634).abs() < 1e-9, "{estimate:?}");
        assert!((estimate.degrees_of_freedom - 3.1080272138).abs() < 1e-9 && estimate.launches == 3, "{estimate:?}");
        assert!((estimate.p() - 0.0660908795).abs() < 1e-9, "{}", estimate.p());
        assert_eq!(Estimate::unpaired(&before[..2], &after), None);
        // Equal variances and sizes: the usual degrees of freedom.
        let even = Estimate::unpaired(&[1.0, 2.0, 3.0], &[2.0, 3.0, 4.0]).unwrap();
        assert!((even.degrees_of_freedom - 4.0).abs() < 1e-9, "{even:?}");
        let still = Estimate::unpaired(&[1.0; 3], &[1.0; 3]).unwrap();
        assert_eq!(Judgement::default().judge(&[still])[0].verdict, Verdict::Same);
    }

    /// Quantiles of Student's distribution from tables.
    #[test]
    fn intervals_are_students() {
        for (degrees, alpha, quantile) in [(7.0, 0.05, 2.3646), (7.0, 0.01, 3.4995), (35.0, 0.05, 2.0301)] {
            let half = half_width(pooled(4.0, degrees, 4), alpha);
            assert!((half - quantile).abs() < 1e-3, "{degrees} {alpha}: {half}");
        }
    }

    #[test]
    fn verdicts_follow_the_interval() {
        let verdict = |mean: f64, variance: f64| {
            let estimate = at(mean, pooled(variance, 20.0, 8));
            Judgement::default().judge(&[estimate])[0].verdict
        };
        assert_eq!(verdict(0.0, 1e-5), Verdict::Same);
        assert_eq!(verdict(0.01, 1e-5), Verdict::Same, "it excludes 1 and is within the margin");
        assert_eq!(verdict(0.1, 1e-5), Verdict::Slower);
        assert_eq!(verdict(-0.1, 1e-5), Verdict::Faster);
        assert_eq!(verdict(0.0, 0.1), Verdict::Inconclusive);
        assert_eq!(verdict(0.02, 2e-4), Verdict::Slower, "it excludes 1 and leaves the margin");
        assert_eq!(verdict(0.0, 0.0), Verdict::Same);
    }

    #[test]
    fn a_family_is_judged_more_strictly_than_one() {
        // One at p = 0.02: alone it is slower, among four it is not, unless the other three are clear.
        let at = |mean: f64| at(mean, pooled(8.0 * 0.02f64.powi(2), 1e6, 8));
        let weak = at(0.02 * 2.326);
        let last = |family: &[Estimate]| Judgement::default().judge(family).last().unwrap().verdict;
        assert_eq!(last(&[weak]), Verdict::Slower);
        assert_eq!(last(&[at(0.0), at(0.0), at(0.0), weak]), Verdict::Inconclusive);
        assert_eq!(last(&[at(0.5), at(-0.5), at(0.5), weak]), Verdict::Slower);
    }

    #[test]
    fn more_launches_are_wanted_as_long_as_the_spread_is_wide() {
        let judgement = Judgement::default();
        assert!(judgement.wants_more_launches(pooled(0.04f64.powi(2), 18.0, 8), 30));
        assert!(!judgement.wants_more_launches(pooled(0.01f64.powi(2), 18.0, 8), 30));
    }

    proptest! {
        #[test]
        fn pooling_agrees_with_the_mean_of_variances(observations in proptest::collection::vec(proptest::collection::vec(-1.0f64..1.0, 5), 1..6)) {
            let pooled = pool(&observations).unwrap();
            let variance = |values: &Vec<f64>| values.iter().map(|value| (value - mean(values)).powi(2)).sum::<f64>() / 4.0;
            let expected = observations.iter().map(variance).sum::<f64>() / observations.len() as f64;
            prop_assert!((pooled.variance - expected).abs() < 1e-9);
            let most = (observations.len() * 4) as f64;
            prop_assert!(pooled.degrees_of_freedom <= most + 1e-6 && pooled.degrees_of_freedom > 0.0);
        }

        #[test]
        fn an_interval_holds_its_ratio_and_holm_never_widens_beyond_bonferroni(
            means in proptest::collection::vec(-0.3f64..0.3, 1..12), variance in 1e-6f64..0.05
        ) {
            let family: Vec<Estimate> = means.iter().map(|mean| at(*mean, pooled(variance, 20.0, 8))).collect();
            let widest = half_width(pooled(variance, 20.0, 8), 0.05 / family.len() as f64);
            for comparison in Judgement::default().judge(&family) {
                let (low, high) = comparison.interval;
                prop_assert!(low <= comparison.ratio && comparison.ratio <= high);
                prop_assert!((high / low).ln() / 2.0 <= widest + 1e-9);
            }
        }
    }
}
