//! Planted retrieval as bars: which needles an instance still finds.

use crate::quality_parts::{parts, same_length};
use crate::{Arrangement, Axis, Chart, Form, Part, Protocol, QualityPoint, Results, Scale, Series};

const RECENT: &str = "recent";
const START: &str = "start";

/// The needles that a bar stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Needles {
    /// At all depths, with a margin in logits.
    Margin(f64),
    /// Among the newest tokens.
    Recent,
    /// Among the first tokens.
    Start,
}

impl Needles {
    /// Those that a number is of; `None` if it is not of needles.
    fn of(point: &QualityPoint) -> Option<Needles> {
        let Part::Place { place, margin } = &point.part else { return None };
        Some(match place.as_str() {
            RECENT => Needles::Recent,
            START => Needles::Start,
            _ => Needles::Margin(*margin),
        })
    }

    fn name(self) -> String {
        match self {
            Needles::Margin(margin) => format!("needles, margin {margin}"),
            Needles::Recent => "newest tokens".into(),
            Needles::Start => "first tokens".into(),
        }
    }
}

/// The share found by margin, over all depths, with those among the newest and the first tokens beside.
pub(crate) fn bars(results: &Results) -> Chart {
    let all = parts(results, Protocol::Planted, |point| Needles::of(point).is_some() && point.metric.ends_with("_acc"));
    let mut margins: Vec<f64> = (all.iter().flat_map(|part| &part.points))
        .filter_map(|point| match Needles::of(point) {
            Some(Needles::Margin(margin)) => Some(margin),
            _ => None,
        })
        .collect();
    margins.sort_by(f64::total_cmp);
    margins.dedup();
    let needles = margins.into_iter().map(Needles::Margin).chain([Needles::Recent, Needles::Start]);
    let series = |(style, needles): (usize, Needles)| {
        let found = all.iter().enumerate().filter_map(|(bar, part)| Some((bar as f64, found(&part.points, needles)?)));
        Series { name: needles.name(), style, points: found.collect(), intervals: vec![] }
    };
    let length = same_length(&all);
    let name = |label: &str, seq_len: usize| if length.is_none() { format!("{label} at {seq_len}") } else { label.to_owned() };
    Chart {
        name: "retrieval",
        title: format!("Planted needles found{}", length.map_or(String::new(), |length| format!(", {length} tokens"))),
        caption: "Attention looks for known tokens. An exact cache finds all. A needle stands out by its margin, in logits: rounding hides those of small margins, and a cache that evicts loses them at any margin, save those among its newest or first tokens. Higher is better.".into(),
        x: Axis::new("", Scale::Linear),
        y: Axis::new("share found", Scale::Linear),
        form: Form::Bars { names: all.iter().map(|part| name(part.label, part.seq_len)).collect(), arrangement: Arrangement::Beside },
        series: needles.enumerate().map(series).filter(|series| !series.points.is_empty()).collect(),
    }
}

/// The mean over all trials of these needles.
fn found(points: &[&QualityPoint], needles: Needles) -> Option<f64> {
    let of_needles = || points.iter().filter(|point| Needles::of(point) == Some(needles));
    let trials: usize = of_needles().map(|point| point.count).sum();
    (trials > 0).then(|| of_needles().map(|point| point.value * point.count as f64).sum::<f64>() / trials as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example_quality;

    #[test]
    fn every_margin_is_a_bar_over_all_depths_and_the_ends_of_the_text_are_others() {
        let mut results = example_quality::results();
        let chart = bars(&results);
        let names: Vec<&str> = chart.series.iter().map(|series| series.name.as_str()).collect();
        let margins = ["needles, margin 2", "needles, margin 4", "needles, margin 8", "needles, margin 16"];
        assert_eq!(names, [margins.as_slice(), &["newest tokens", "first tokens"]].concat());
        let of = |chart: &Chart, bar: usize| chart.series.iter().map(|series| series.points[bar].1).collect::<Vec<_>>();
        assert_eq!(of(&chart, 5), [0.25, 0.25, 0.25, 0.25, 1.0, 0.0]);
        assert_eq!(of(&chart, 7), [0.62, 0.88, 0.97, 1.0, 0.9, 0.92]);
        assert_eq!(chart.title, "Planted needles found, 2048 tokens");
        // A place with more trials counts for more.
        let visit = results.visits.last_mut().unwrap();
        (visit.quality[1].value, visit.quality[1].count) = (0.02, 64);
        assert!((of(&bars(&results), 7)[0] - (0.62 + 2.0 * 0.02) / 3.0).abs() < 1e-12);
        results.visits.clear();
        assert!(bars(&results).series.is_empty());
    }
}
