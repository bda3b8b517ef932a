//! Quality along a text, as lines.

use crate::quality_axis::{KLD, QualityAxis};
use crate::quality_parts::{parts, same_length};
use crate::spread::Spread;
use crate::{Axis, Chart, Form, Interval, Part, Protocol, QualityPoint, Results, Row, Scale, Series, Value};

/// What a chart of quality by length draws of a row. What is below the floor lies on it.
pub(crate) fn by_length(row: &Row, axis: &QualityAxis) -> Option<Value> {
    let spread = axis.spread(row).filter(|_| row.cell.workload == "decode")?;
    Some(Value { interval: spread.interval(), ..Value::from(spread.value) })
}

/// The chart of quality by length, of lines that its caller made of [`by_length`].
pub(crate) fn length_chart(axis: &QualityAxis, depth: Axis, series: Vec<Series>) -> Chart {
    let is_kld = axis.metric == KLD;
    let what = if is_kld {
        "How far the next token's distribution lies from that with an exact cache, when this many exactly computed tokens were put into the cache."
    } else {
        "How far attention's outputs lie from those over all tokens, without a model's judgment of what that does."
    };
    Chart {
        name: "quality",
        title: if is_kld { "KL divergence by length, prompt exact".into() } else { "Error of attention by length, rows alone".into() },
        caption: format!("{what} Lower is better.{}", on_floor(axis, &series)),
        x: depth,
        y: axis.axis(),
        form: Form::Lines,
        series,
    }
}

/// The divergence along a text, of one protocol. `style` gives an instance's name and style by its label and batch.
pub(crate) fn by_depth(results: &Results, axis: &QualityAxis, protocol: Protocol, style: impl Fn(&str, usize) -> (String, usize)) -> Chart {
    let is_depth = |point: &QualityPoint| matches!(point.part, Part::Depth { .. }) && point.metric == KLD.id;
    let all = parts(results, protocol, |point| axis.metric == KLD && is_depth(point));
    let length = same_length(&all);
    let series: Vec<Series> = (all.iter())
        .map(|part| {
            let (name, style) = style(part.label, 1);
            let name = if length.is_none() { format!("{name} at {}", part.seq_len) } else { name };
            let mut values: Vec<(f64, Spread)> = part.points.iter().filter_map(|point| place(point, axis)).collect();
            values.sort_by(|a, b| a.0.total_cmp(&b.0));
            let interval = |(x, y): &(f64, Spread)| y.interval().map(|(low, high)| Interval { x: *x, low, high });
            Series {
                name,
                style,
                points: values.iter().map(|(x, y)| (*x, y.value)).collect(),
                intervals: values.iter().filter_map(interval).collect(),
            }
        })
        .collect();
    let (name, along, how) = match protocol {
        Protocol::Streamed => (
            "quality-streamed",
            "position in the text (tokens)",
            "The cache holds the text from its first token, so that what is lost early is felt later.",
        ),
        _ => (
            "quality-depth",
            "tokens after the prompt",
            "The exactly computed tokens of the prompt were put into the cache; the steps after it are drawn.",
        ),
    };
    let at = length.map_or(String::new(), |length| format!(", {length} tokens"));
    Chart {
        name,
        title: format!("KL divergence along the text, {protocol}{at}"),
        caption: format!("{how} Each point is the mean over a range of tokens. Lower is better.{}", on_floor(axis, &series)),
        x: Axis::new(along, Scale::Linear),
        y: axis.axis(),
        form: Form::Lines,
        series,
    }
}

/// The middle of a range of tokens, and the value there.
fn place(point: &QualityPoint, axis: &QualityAxis) -> Option<(f64, Spread)> {
    let Part::Depth { from, to } = point.part else { return None };
    Some(((from + to) as f64 / 2.0, Spread::new(point.value, point.interval)?.at_least(axis.floor)))
}

fn on_floor(axis: &QualityAxis, series: &[Series]) -> String {
    let is_on_it = series.iter().flat_map(|series| &series.points).any(|point| point.1 <= axis.floor);
    if is_on_it { format!(" {}", axis.floor_caption()) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instances::instances;
    use crate::{Results, example_quality};

    fn drawn(results: &Results, protocol: Protocol) -> Chart {
        let axis = QualityAxis::of(&instances(results)).unwrap();
        by_depth(results, &axis, protocol, |label, batch| (label.to_owned(), batch))
    }

    #[test]
    fn each_protocol_has_its_own_chart_along_the_text() {
        let results = example_quality::results();
        let streamed = drawn(&results, Protocol::Streamed);
        assert_eq!((streamed.name, streamed.title.as_str()), ("quality-streamed", "KL divergence along the text, streamed, 2048 tokens"));
        assert_eq!(streamed.series[7].points[0], (128.0, 1.5 * 0.034 / 8.0));
        let exact = drawn(&results, Protocol::PromptExact);
        assert_eq!((exact.name, exact.title.as_str()), ("quality-depth", "KL divergence along the text, prompt exact, 2048 tokens"));
        assert_eq!(exact.series[7].points[0].0, 4.0, "counted from the prompt's end");
        assert_eq!(exact.series[0].points[0].1, 1e-9, "on the floor");
        assert!(exact.caption.ends_with("drawn there."), "{}", exact.caption);
    }

    #[test]
    fn lengths_are_named_where_they_differ() {
        let mut results = example_quality::results();
        results.visits.retain(|visit| visit.cell != "naive 2048");
        let chart = drawn(&results, Protocol::Streamed);
        assert_eq!(chart.title, "KL divergence along the text, streamed");
        assert_eq!([&chart.series[0].name, &chart.series[1].name], ["naive at 1024", "contiguous f16 at 2048"]);
    }

    #[test]
    fn a_row_of_another_workload_is_not_drawn_by_length() {
        let mut results = example_quality::results();
        let axis = QualityAxis::of(&instances(&results)).unwrap();
        let value = by_length(&results.rows[23], &axis).unwrap();
        assert_eq!((value.value, value.interval), (0.034, Some((0.034 * 0.7, 0.034 * 1.3))));
        assert_eq!(by_length(&results.rows[2], &axis).unwrap(), Value::from(1e-9));
        results.rows[23].cell.workload = "generate".into();
        assert_eq!(by_length(&results.rows[23], &axis), None);
    }
}
