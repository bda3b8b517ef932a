//! The table behind a chart.

use crate::shown::short;
use crate::{Chart, Form};

/// A point of a chart, in words.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ChartNumber {
    pub(crate) name: String,
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) interval: String,
}

/// Points of a line that a table shows at most.
const MOST_POINTS: usize = 24;

/// The points of a chart, line by line, and whether some of a long line are left out.
pub(crate) fn chart_numbers(chart: &Chart) -> (Vec<ChartNumber>, bool) {
    let mut is_thinned = false;
    let mut numbers = vec![];
    for series in &chart.series {
        let step = series.points.len().div_ceil(MOST_POINTS).max(1);
        is_thinned |= step > 1;
        let last = series.points.len().saturating_sub(1);
        for (_, (x, y)) in series.points.iter().enumerate().filter(|(index, _)| index % step == 0 || *index == last) {
            let interval = series.intervals.iter().find(|interval| interval.x == *x);
            let name_of_bar = |names: &Vec<String>| names.get(*x as usize).cloned();
            let x = match &chart.form {
                Form::Bars { names, .. } => name_of_bar(names).unwrap_or_default(),
                _ => short_or_whole(*x),
            };
            let interval = interval.map(|interval| format!("[{}, {}]", short(interval.low), short(interval.high))).unwrap_or_default();
            numbers.push(ChartNumber { name: series.name.clone(), x, y: short(*y), interval });
        }
    }
    (numbers, is_thinned)
}

fn short_or_whole(number: f64) -> String {
    if number.fract() == 0.0 { format!("{number}") } else { short(number) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Axis, Interval, Scale, Series};

    #[test]
    fn every_point_has_its_interval_and_a_long_line_keeps_its_ends() {
        let axis = || Axis::new("x", Scale::Linear);
        let points: Vec<(f64, f64)> = (0..1000).map(|x| (f64::from(x), 0.5)).collect();
        let line = |name: &str, points: &[(f64, f64)]| Series { name: name.into(), style: 0, points: points.to_vec(), intervals: vec![] };
        let mut series = vec![line("long", &points), line("short", &points[..2])];
        series[1].intervals.push(Interval { x: 1.0, low: 0.25, high: 0.75 });
        let chart = Chart { name: "test", title: "T".into(), caption: "C".into(), x: axis(), y: axis(), form: Form::Lines, series };
        let (numbers, is_thinned) = chart_numbers(&chart);
        assert!(is_thinned);
        let long: Vec<&ChartNumber> = numbers.iter().filter(|number| number.name == "long").collect();
        assert!(long.len() <= MOST_POINTS + 1 && long[0].x == "0" && long.last().unwrap().x == "999");
        assert_eq!(numbers.last().unwrap().interval, "[0.2500, 0.7500]");
    }
}
