//! When times have become steady.

use crate::quantile;

/// The first round from which times are steady: `times[round][instance]`, at most half of the rounds are left out.
///
/// A round counts as a transient as long as the median of its instances' times, each over the instance's own median of the
/// second half, exceeds the second half's by three times its median absolute deviation, and by 5 %.
pub fn first_steady_round(times: &[Vec<f64>]) -> usize {
    const LEAST: f64 = 0.05;
    const DEVIATIONS: f64 = 3.0;
    let instances = times.iter().map(Vec::len).min().unwrap_or(0);
    let later = &times[times.len() / 2..];
    if instances == 0 || later.len() < 2 {
        return 0;
    }
    let of_later = |instance: usize| quantile(&later.iter().map(|round| round[instance]).collect::<Vec<_>>(), 0.5);
    let usual: Vec<f64> = (0..instances).filter_map(of_later).collect();
    let excess = |round: &Vec<f64>| {
        let each: Vec<f64> = round.iter().zip(&usual).map(|(time, usual)| (time / usual).ln()).collect();
        quantile(&each, 0.5).unwrap_or(0.0)
    };
    let of_later: Vec<f64> = later.iter().map(excess).collect();
    let centre = quantile(&of_later, 0.5).unwrap_or(0.0);
    let deviations: Vec<f64> = of_later.iter().map(|excess| (excess - centre).abs()).collect();
    let deviation = quantile(&deviations, 0.5).unwrap_or(0.0);
    let limit = centre + LEAST.max(DEVIATIONS * deviation);
    times[..times.len() / 2].iter().take_while(|round| excess(round) > limit).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_before_the_times_are_steady_are_found() {
        let steady = [10.0, 20.0];
        let slow = |factor: f64| steady.map(|time| time * factor).to_vec();
        assert_eq!(first_steady_round(&[slow(1.6), slow(1.2), slow(1.0), slow(1.01), slow(0.99), slow(1.0)]), 2);
        assert_eq!(first_steady_round(&[slow(1.0), slow(1.5), slow(1.0), slow(1.0)]), 0, "a stall later on is none");
        assert_eq!(first_steady_round(&[slow(1.02), slow(1.0), slow(1.0), slow(1.0)]), 0, "within what times vary");
        assert_eq!(first_steady_round(&[slow(2.0), slow(2.0), slow(2.0), slow(1.0), slow(1.0), slow(1.0)]), 3, "at most half");
    }

    #[test]
    fn few_rounds_are_all_taken() {
        assert_eq!(first_steady_round(&[]), 0);
        assert_eq!(first_steady_round(&[vec![9.0], vec![1.0]]), 0);
        assert_eq!(first_steady_round(&[vec![], vec![], vec![], vec![]]), 0);
    }
}
