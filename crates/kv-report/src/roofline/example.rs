//! Measurements for tests.

use super::{Judged, Located, Roofline, RooflineReport, RooflineRow};

/// A value with an interval of 2 % to both sides.
pub(super) fn located(value: f64) -> Located {
    Located { value, interval: Some((0.98 * value, 1.02 * value)) }
}

/// A ratio with an interval of 2 % to both sides.
pub(super) fn judged(ratio: f64, verdict: &str) -> Judged {
    Judged { ratio, interval: Some((0.98 * ratio, 1.02 * ratio)), verdict: Some(verdict.into()) }
}

/// One model in f32 and f16, contiguous and in pages.
pub(super) fn roofline() -> Roofline {
    let row = |format: &str, layout: &str, share: f64, over_f32: Option<Judged>, over_contiguous: Option<Judged>| RooflineRow {
        model: "tiny".into(),
        format: format.into(),
        layout: layout.into(),
        layer_bytes: 1000,
        bytes_per_second: located(share * 2e10),
        of_bandwidth: located(share),
        layer_seconds: located(1000.0 / (share * 2e10)),
        time_over_f32: over_f32,
        time_over_contiguous: over_contiguous,
    };
    Roofline {
        threads: 2,
        kernel_path: "avx2".into(),
        huge_pages: "advise".into(),
        tokens: 256,
        rounds: 3,
        launches: 5,
        seed: 0,
        margin: 0.03,
        last_level_cache_bytes: Some(32 << 20),
        read_bandwidth: located(2e10),
        read_bandwidth_pages: "2 MiB".into(),
        controls: vec![("tiny".into(), judged(1.0, "same"))],
        rows: vec![
            row("f32", "contiguous", 0.9, None, None),
            row("f32", "paged 16", 0.8, Some(judged(1.12, "slower")), Some(judged(1.12, "slower"))),
            row("f16", "contiguous", 0.7, Some(judged(0.64, "faster")), None),
            row("f16", "paged 16", 0.69, Some(judged(0.65, "faster")), Some(judged(1.01, "same"))),
        ],
    }
}

/// The same from two launches, of which there are neither intervals nor verdicts.
pub(super) fn of_two_launches() -> Roofline {
    let mut roofline = roofline();
    roofline.launches = 2;
    let unjudged = |judged: &mut Judged| *judged = Judged { interval: None, verdict: None, ..judged.clone() };
    roofline.read_bandwidth.interval = None;
    roofline.controls.iter_mut().for_each(|(_, control)| unjudged(control));
    for row in &mut roofline.rows {
        [&mut row.bytes_per_second, &mut row.of_bandwidth, &mut row.layer_seconds].into_iter().for_each(|value| value.interval = None);
        [&mut row.time_over_f32, &mut row.time_over_contiguous].into_iter().flatten().for_each(unjudged);
    }
    roofline
}

/// The same beside another model, twice as far from the bandwidth.
pub(super) fn of_two_models() -> Roofline {
    let mut roofline = roofline();
    roofline.controls.push(("large".into(), judged(1.04, "slower")));
    let others = roofline.rows.iter().map(|row| RooflineRow {
        model: "large".into(),
        of_bandwidth: located(row.of_bandwidth.value / 2.0),
        ..row.clone()
    });
    roofline.rows = roofline.rows.iter().cloned().chain(others).collect();
    roofline
}

/// All of a report.
pub(super) fn report() -> RooflineReport {
    let run = crate::example::run();
    RooflineReport {
        command: "runner roofline tiny".into(),
        started: run.started,
        machine_id: run.machine_id,
        build: run.build,
        environment: run.environment,
        warnings: vec![],
        roofline: roofline(),
    }
}
