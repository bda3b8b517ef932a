//! The share of the read bandwidth as bars.

use super::{Roofline, RooflineRow};
use crate::{Arrangement, Axis, Chart, Form, Interval, Scale, Series, counted};

/// The share of the read bandwidth that each format reaches, a series for each layout. One chart for each model, with the name of its
/// files; of several models, that ends with the model's.
pub fn roofline_charts(roofline: &Roofline) -> Vec<(String, Chart)> {
    let models = roofline.models();
    let name = |model: &str| if models.len() > 1 { format!("roofline-{model}") } else { "roofline".to_owned() };
    models.iter().map(|model| (name(model), chart(roofline, model))).collect()
}

fn chart(roofline: &Roofline, model: &str) -> Chart {
    let rows = roofline.rows_of(model);
    let formats = in_order(&rows, |row| &row.format);
    let series = |(style, layout): (usize, &str)| {
        let of_layout = || rows.iter().filter(|row| row.layout == layout);
        let bar = |row: &RooflineRow| formats.iter().position(|format| *format == row.format).unwrap_or_default() as f64;
        let interval = |row: &&RooflineRow| row.of_bandwidth.interval.map(|(low, high)| Interval { x: bar(row), low, high });
        Series {
            name: layout.to_owned(),
            style,
            points: of_layout().map(|row| (bar(row), row.of_bandwidth.value)).collect(),
            intervals: of_layout().filter_map(interval).collect(),
        }
    };
    let cached = if rows.iter().any(|row| row.of_bandwidth.value > 1.0) { " Above 1, the processor's caches help." } else { "" };
    let intervals = match roofline.read_bandwidth.interval {
        Some(_) => "Lines show where a share lies with 95 %.",
        None => "There are no intervals: they take 3 launches.",
    };
    Chart {
        name: "roofline",
        title: format!("Share of the read bandwidth that attention reaches: {model}, {}", counted(roofline.tokens, "token")),
        caption: format!(
            "Encoded keys and values read per second, over the {} GB/s at which the same threads read a large buffer. At 1, memory is the limit; below, time is spent on more than reading. A smaller format reads fewer bytes: it can take less time at a lower share.{cached} {intervals}",
            roofline.read_bandwidth.shown(1e-9, 1)
        ),
        x: Axis::new("", Scale::Linear),
        y: Axis::new("share of the read bandwidth", Scale::Linear),
        form: Form::Bars { names: formats.iter().map(|format| (*format).to_owned()).collect(), arrangement: Arrangement::Beside },
        series: in_order(&rows, |row| &row.layout).into_iter().enumerate().map(series).collect(),
    }
}

/// Each name once, in the order of the rows.
pub(super) fn in_order<'a>(rows: &[&'a RooflineRow], name: fn(&RooflineRow) -> &String) -> Vec<&'a str> {
    let mut names: Vec<&str> = vec![];
    for row in rows {
        if !names.contains(&name(row).as_str()) {
            names.push(name(row));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn formats_are_bars_and_layouts_are_series() {
        let mut roofline = example::roofline();
        // As the formats that a layout cannot hold.
        roofline.rows.retain(|row| (row.format.as_str(), row.layout.as_str()) != ("f32", "paged 16"));
        let [(name, chart)] = roofline_charts(&roofline).try_into().unwrap();
        assert_eq!(name, "roofline");
        assert!(matches!(&chart.form, Form::Bars { names, .. } if names == &["f32", "f16"]));
        let series: Vec<_> = chart.series.iter().map(|series| (series.name.as_str(), series.points.as_slice())).collect();
        assert_eq!(series, [("contiguous", [(0.0, 0.9), (1.0, 0.7)].as_slice()), ("paged 16", &[(1.0, 0.69)])]);
        assert_eq!(chart.series[1].intervals, [Interval { x: 1.0, low: 0.98 * 0.69, high: 1.02 * 0.69 }]);
        assert!(chart.caption.contains("the 20.0 [19.6, 20.4] GB/s"), "{}", chart.caption);
    }

    #[test]
    fn several_models_have_a_chart_each() {
        let charts = roofline_charts(&example::of_two_models());
        assert_eq!(charts.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["roofline-tiny", "roofline-large"]);
        assert_eq!([&charts[0].1, &charts[1].1].map(|chart| chart.series[0].points[0].1), [0.9, 0.45]);
        let without = roofline_charts(&example::of_two_launches());
        assert!(without[0].1.series.iter().all(|series| series.intervals.is_empty()));
        assert!(without[0].1.caption.ends_with("they take 3 launches."));
    }
}
