//! Order statistics, Student's distribution, and a straight line.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The `q`-quantile, `0 ≤ q ≤ 1`, interpolated linearly between order statistics (type 7 of Hyndman and Fan,
/// doi:10.2307/2684934, the default of R and NumPy). `None` without samples.
///
/// # Panics
/// If `q` is outside 0 to 1.
pub fn quantile(samples: &[f64], q: f64) -> Option<f64> {
    assert!((0.0..=1.0).contains(&q), "quantile {q}");
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = q * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (at.floor() as usize, at.ceil() as usize);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (at - at.floor()))
}

/// The `q`-quantile, `0 < q < 1`, of Student's distribution.
pub fn student_quantile(degrees_of_freedom: f64, q: f64) -> f64 {
    student(degrees_of_freedom).inverse_cdf(q)
}

/// Student's distribution. It has at least one degree of freedom.
pub(crate) fn student(degrees_of_freedom: f64) -> StudentsT {
    StudentsT::new(0.0, 1.0, degrees_of_freedom.max(1.0)).expect("at least one degree of freedom")
}

/// Slope and intercept of the straight line through points `(x, y)` with the least squared vertical distance. `None` if the
/// points do not have two different `x`.
pub fn straight_line(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let together: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    (spread > 0.0).then(|| (together / spread, y - together / spread * x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        let samples = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(quantile(&samples, 0.0), Some(1.0));
        assert_eq!(quantile(&samples, 0.5), Some(2.5));
        assert_eq!(quantile(&samples, 0.95), Some(3.8499999999999996));
        assert_eq!(quantile(&samples, 1.0), Some(4.0));
        assert_eq!(quantile(&[7.0], 0.3), Some(7.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn a_line_goes_through_its_points() {
        assert_eq!(straight_line(&[(1.0, 5.0), (2.0, 7.0), (4.0, 11.0)]), Some((2.0, 3.0)));
        assert_eq!(straight_line(&[(1.0, 0.0), (1.0, 1.0)]), None);
        assert_eq!(straight_line(&[]), None);
    }

    proptest! {
        #[test]
        fn grows_with_q(samples in proptest::collection::vec(-1e6f64..1e6, 1..50), a in 0.0f64..1.0, b in 0.0f64..1.0) {
            prop_assert!(quantile(&samples, a.min(b)) <= quantile(&samples, a.max(b)));
        }
    }
}
