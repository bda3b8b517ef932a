//! How close decode attention comes to the machine's memory: its read bandwidth, and what `attend` reaches of it in
//! each format and layout, measured in turns.
//!
//! The caches are those that users run, filled by their strategies with random keys and values; there is no model.
//! Everything that is timed reads more than the last-level cache holds before it comes round again.

mod bandwidth;
mod case;
mod folder;
mod launch;
mod table;

use kv_metrics::{Comparison, Estimate, Judgement, geometric_mean, launch_observation, pool, quantile};
use kv_report::{Judged, Located, Roofline, RooflineRow};

pub(crate) use bandwidth::{ReadBuffer, last_level_cache};
use case::Case;
pub(crate) use folder::RooflineFolder;
pub(crate) use launch::{CaseTimes, Launch, RooflineTask, run};
pub(crate) use table::as_table;

/// Bytes that the caches of one model take at once.
pub(crate) fn bytes_of_all(geometry: &kv_core::Geometry, tokens: usize) -> usize {
    Case::bytes_of_all(geometry, tokens)
}

/// Bytes that the buffers take in which the bandwidth is measured.
pub(crate) fn bytes_beside() -> usize {
    2 * ReadBuffer::bytes(last_level_cache())
}

/// Sums launches up. There is at least one, and all have the same cases.
pub(crate) fn summarise(launches: &[Launch], tokens: usize, rounds: usize, huge_pages: &str, seed: u32) -> Roofline {
    let of_pages = |index: usize| -> Vec<f64> { launches.iter().map(|launch| median(&launch.limits[index].bytes_per_second)).collect() };
    let (better, limits) = (0..launches[0].limits.len())
        .map(|index| (index, of_pages(index)))
        .max_by(|(_, a), (_, b)| median(a).total_cmp(&median(b)))
        .unwrap_or_default();
    let cases = &launches[0].cases;
    let contiguous = |case: &CaseTimes, format: &str| {
        let is_it = |other: &&CaseTimes| other.model == case.model && other.is_contiguous && other.format == format && !other.is_control;
        cases.iter().position(|other| is_it(&other))
    };
    let over = |reference: fn(&CaseTimes) -> String| {
        let pairs: Vec<(usize, usize)> = (0..cases.len())
            .filter_map(|index| Some((index, contiguous(&cases[index], &reference(&cases[index]))?)))
            .filter(|(index, other)| index != other)
            .collect();
        judged(launches, &pairs)
    };
    let over_f32 = over(|_| "f32".into());
    let over_contiguous = over(|case| case.format.clone());
    let of = |found: &[(usize, Judged)], index: usize| found.iter().find(|(other, _)| *other == index).map(|(_, judged)| judged.clone());
    let row = |(index, case): (usize, &CaseTimes)| {
        let seconds: Vec<f64> = launches.iter().map(|launch| median(&launch.cases[index].seconds)).collect();
        let rates: Vec<f64> = seconds.iter().map(|seconds| case.layer_bytes as f64 / seconds).collect();
        let shares: Vec<f64> = rates.iter().zip(&limits).map(|(rate, limit)| rate / limit).collect();
        RooflineRow {
            model: case.model.clone(),
            format: case.format.clone(),
            layout: case.layout.clone(),
            layer_bytes: case.layer_bytes,
            bytes_per_second: located(&rates),
            of_bandwidth: located(&shares),
            layer_seconds: located(&seconds),
            time_over_f32: of(&over_f32, index),
            time_over_contiguous: of(&over_contiguous, index),
        }
    };
    let controls = cases.iter().enumerate().filter(|(_, case)| case.is_control);
    let controls = controls.filter_map(|(index, case)| Some((case.model.clone(), of(&over_contiguous, index)?))).collect();
    Roofline {
        threads: launches[0].threads,
        kernel_path: launches[0].kernel_path.clone(),
        huge_pages: huge_pages.to_owned(),
        tokens,
        rounds,
        launches: launches.len(),
        seed,
        margin: Judgement::default().margin,
        last_level_cache_bytes: last_level_cache(),
        read_bandwidth: located(&limits),
        read_bandwidth_pages: launches[0].limits.get(better).map_or_else(String::new, |limit| limit.pages.clone()),
        controls,
        rows: cases.iter().enumerate().filter(|(_, case)| !case.is_control).map(row).collect(),
    }
}

/// A value by its launches.
fn located(launches: &[f64]) -> Located {
    match geometric_mean(launches) {
        Some((value, interval)) => Located { value, interval: Some(interval) },
        None => Located { value: median(launches), interval: None },
    }
}

/// The time of each first case over that of its second, judged together. Variance is pooled over the cases of one model: all of
/// them read tens of MiB before they come round again.
fn judged(launches: &[Launch], pairs: &[(usize, usize)]) -> Vec<(usize, Judged)> {
    let observation = |launch: &Launch, (index, other): (usize, usize)| {
        let rounds: Vec<(f64, f64)> =
            launch.cases[index].seconds.iter().copied().zip(launch.cases[other].seconds.iter().copied()).collect();
        launch_observation(&rounds).unwrap_or_default()
    };
    let observations: Vec<Vec<f64>> = pairs.iter().map(|pair| launches.iter().map(|launch| observation(launch, *pair)).collect()).collect();
    let ratio = |observations: &[f64]| (observations.iter().sum::<f64>() / observations.len().max(1) as f64).exp();
    if launches.len() < kv_metrics::LEAST_LAUNCHES {
        let plain = |(pair, observations): (&(usize, usize), &Vec<f64>)| {
            (pair.0, Judged { ratio: ratio(observations), interval: None, verdict: None })
        };
        return pairs.iter().zip(&observations).map(plain).collect();
    }
    let model = |index: usize| &launches[0].cases[index].model;
    let pool_of = |index: usize| {
        let together = pairs.iter().zip(&observations).filter(|((other, _), _)| model(*other) == model(index));
        pool(&together.map(|(_, observations)| observations.clone()).collect::<Vec<_>>())
    };
    let estimates: Vec<(usize, Estimate)> = pairs
        .iter()
        .zip(&observations)
        .filter_map(|((index, _), observations)| Some((*index, Estimate::new(observations, pool_of(*index)?))))
        .collect();
    let comparisons = Judgement::default().judge(&estimates.iter().map(|(_, estimate)| *estimate).collect::<Vec<_>>());
    let judged =
        |Comparison { ratio, interval, verdict, .. }| Judged { ratio, interval: Some(interval), verdict: Some(verdict.to_string()) };
    estimates.iter().zip(comparisons).map(|((index, _), comparison)| (*index, judged(comparison))).collect()
}

fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5).unwrap_or(f64::NAN)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::launch::Limit;
    use super::*;

    fn case(format: &str, layout: &str, is_control: bool, seconds: &[f64]) -> CaseTimes {
        CaseTimes {
            model: "m".into(),
            format: format.into(),
            layout: layout.into(),
            is_contiguous: layout == "contiguous",
            is_control,
            layer_bytes: 1000,
            seconds: seconds.to_vec(),
        }
    }

    fn launch(drift: f64) -> Launch {
        let limit = |pages: &str, rate: f64| Limit { pages: pages.into(), bytes_per_second: vec![rate; 3] };
        let times = |time: f64| [time * drift, 1.5 * time * drift, time];
        Launch {
            threads: 2,
            kernel_path: "avx2".into(),
            limits: vec![limit("4 KiB", 1e6), limit("2 MiB", 2e6)],
            cases: vec![
                case("f32", "contiguous", false, &times(1e-3)),
                case("f32", "contiguous", true, &times(1e-3)),
                case("f16", "contiguous", false, &times(5e-4)),
                case("f16", "paged 16", false, &times(6e-4)),
            ],
        }
    }

    /// Of some models whose caches are alike.
    pub(crate) fn roofline(models: &[&str]) -> Roofline {
        let of_all = |mut launch: Launch| {
            let of =
                |model: &&str| launch.cases.iter().map(|case| CaseTimes { model: (*model).into(), ..case.clone() }).collect::<Vec<_>>();
            launch.cases = models.iter().flat_map(of).collect();
            launch
        };
        summarise(&[1.0, 1.3, 0.9].map(|drift| of_all(launch(drift))), 8, 3, "advise", 0)
    }

    #[test]
    fn what_all_share_cancels_and_the_control_is_no_row() {
        let roofline = summarise(&[launch(1.0), launch(1.3), launch(0.9), launch(1.1)], 8, 3, "advise", 0);
        assert_eq!(roofline.rows.len(), 3);
        assert_eq!(roofline.read_bandwidth_pages, "2 MiB");
        assert!((roofline.read_bandwidth.value - 2e6).abs() < 1.0);
        let f16 = roofline.rows[1].time_over_f32.as_ref().unwrap();
        assert!((f16.ratio - 0.5).abs() < 1e-9 && f16.verdict.as_deref() == Some("faster"), "{f16:?}");
        assert!(roofline.rows[0].time_over_contiguous.is_none(), "it is its own reference");
        let paged = roofline.rows[2].time_over_contiguous.as_ref().unwrap();
        assert!((paged.ratio - 1.2).abs() < 1e-9 && paged.verdict.as_deref() == Some("slower"), "{paged:?}");
        assert_eq!(roofline.controls[0].1.verdict.as_deref(), Some("same"));
        let few = summarise(&[launch(1.0), launch(1.0)], 8, 3, "advise", 0);
        assert!(few.rows[2].time_over_contiguous.as_ref().unwrap().verdict.is_none(), "no verdict from two launches");
    }
}
