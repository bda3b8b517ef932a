//! Means over windows of a text, and how sure they are.

use serde::{Deserialize, Serialize};

/// A number with its uncertainty. The windows of a text are its independent observations: tokens of one window are not.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The number, over all tokens.
    pub value: f64,
    /// Its standard error. `None` with fewer than two windows.
    pub standard_error: Option<f64>,
    /// Where it lies with 95 %: low and high. `None` with fewer than two windows.
    pub interval: Option<(f64, f64)>,
}

/// The sum of a quantity over the tokens of one window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct WindowSum {
    pub(crate) sum: f64,
    pub(crate) tokens: usize,
}

impl Estimate {
    /// The mean of a quantity over all tokens of some windows.
    ///
    /// `m = Σ s_w / Σ n_w` with the sum `s_w` over the `n_w` tokens of window `w`, and with `W` windows and `N = Σ n_w` tokens
    ///
    /// `SE² = W / (W − 1) · Σ (s_w − n_w·m)² / N²`,
    ///
    /// the linearized error of a ratio of sums over clusters (Cochran, Sampling Techniques, 3rd edition, section 6.4). For
    /// windows of equal length it is the standard error of the mean of their means. The interval is Student's, with `W − 1`
    /// degrees of freedom.
    pub(crate) fn of_mean(windows: &[WindowSum]) -> Estimate {
        let tokens: usize = windows.iter().map(|window| window.tokens).sum();
        let mean = windows.iter().map(|window| window.sum).sum::<f64>() / tokens as f64;
        let residuals = windows.iter().map(|window| window.sum - window.tokens as f64 * mean);
        Estimate::of_residuals(mean, residuals, tokens)
    }

    /// A number `value`, and for each window how far it moves the number, times the tokens of all.
    pub(crate) fn of_residuals(value: f64, residuals: impl Iterator<Item = f64>, tokens: usize) -> Estimate {
        let residuals: Vec<f64> = residuals.collect();
        let windows = residuals.len() as f64;
        if residuals.len() < 2 {
            return Estimate { value, standard_error: None, interval: None };
        }
        let squares: f64 = residuals.iter().map(|residual| residual.powi(2)).sum();
        let error = (windows / (windows - 1.0) * squares).sqrt() / tokens as f64;
        let half = kv_metrics::student_quantile(windows - 1.0, 0.975) * error;
        Estimate { value, standard_error: Some(error), interval: Some((value - half, value + half)) }
    }

    /// The number and its interval under an increasing function with this derivative at the number.
    pub(crate) fn mapped(self, function: impl Fn(f64) -> f64, derivative: f64) -> Estimate {
        Estimate {
            value: function(self.value),
            standard_error: self.standard_error.map(|error| error * derivative),
            interval: self.interval.map(|(low, high)| (function(low), function(high))),
        }
    }

    /// The interval without what is impossible.
    pub(crate) fn within(self, least: f64, most: f64) -> Estimate {
        Estimate { interval: self.interval.map(|(low, high)| (low.max(least), high.min(most))), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(sums: &[(f64, usize)]) -> Vec<WindowSum> {
        sums.iter().map(|(sum, tokens)| WindowSum { sum: *sum, tokens: *tokens }).collect()
    }

    #[test]
    fn windows_of_one_length_give_the_textbook_interval() {
        // Means 1, 2 and 6: mean 3, deviation √7, and t(2) = 4.302653.
        let estimate = Estimate::of_mean(&windows(&[(10.0, 10), (20.0, 10), (60.0, 10)]));
        let error = (7.0f64 / 3.0).sqrt();
        assert_eq!(estimate.value, 3.0);
        assert!((estimate.standard_error.unwrap() - error).abs() < 1e-12, "{estimate:?}");
        let (low, high) = estimate.interval.unwrap();
        assert!((low - (3.0 - 4.302_653 * error)).abs() < 1e-5 && (high - (3.0 + 4.302_653 * error)).abs() < 1e-5, "{estimate:?}");
    }

    #[test]
    fn longer_windows_weigh_more() {
        let estimate = Estimate::of_mean(&windows(&[(30.0, 30), (20.0, 10)]));
        assert_eq!(estimate.value, 1.25);
        // Residuals are ±7.5: √(2 · 2 · 7.5²) / 40.
        assert!((estimate.standard_error.unwrap() - 15.0 / 40.0).abs() < 1e-12, "{estimate:?}");
    }

    #[test]
    fn one_window_has_no_interval() {
        let estimate = Estimate::of_mean(&windows(&[(30.0, 30)]));
        assert_eq!(estimate, Estimate { value: 1.0, standard_error: None, interval: None });
    }
}
