//! A chart of points as a figure of plotly.js.

use serde_json::{Value, json};

use crate::chart::{Chart, Mark};
use crate::figure::{errors, escaped, layout, symbol};
use crate::placing::{Label, Side, place};
use crate::style::{FRONT, colour};

/// One trace for each point, with its label, over that of the front.
pub(crate) fn points(chart: &Chart, marks: &[Mark], front: &[(f64, f64)]) -> Value {
    let labels = place(chart, marks, front);
    let (x, y): (Vec<f64>, Vec<f64>) = front.iter().copied().unzip();
    let (red, green, blue) = FRONT;
    let line = json!({
        "type": "scatter",
        "name": "Pareto front",
        "mode": "lines",
        "x": x,
        "y": y,
        "hoverinfo": "skip",
        "line": { "color": format!("rgb({red},{green},{blue})"), "width": 2, "dash": "dot" },
    });
    let traces = chart.series.iter().zip(marks).zip(labels).map(|((series, mark), label)| {
        let (red, green, blue) = colour(series.style);
        let (x, y): (Vec<f64>, Vec<f64>) = series.points.iter().copied().unzip();
        let mut trace = json!({
            "type": "scatter",
            "name": escaped(&format!("{}  {}{}", mark.label, series.name, mark.beside)),
            "mode": "markers+text",
            "x": x,
            "y": y,
            "text": [label.as_ref().map_or("", |label| &label.text)],
            "textposition": position(label.as_ref()),
            "textfont": { "size": 14 },
            "marker": { "color": format!("rgb({red},{green},{blue})"), "size": 11, "symbol": symbol(series.style) },
        });
        if !series.intervals.is_empty() {
            trace["error_y"] = errors(series);
        }
        if let (Some((low, high)), Some((x, _))) = (mark.along_x, series.points.first()) {
            trace["error_x"] =
                json!({ "type": "data", "symmetric": false, "array": [high - x], "arrayminus": [x - low], "thickness": 1.5, "width": 4 });
        }
        trace
    });
    let data: Vec<Value> = std::iter::once(line).chain(traces).collect();
    json!({ "data": data, "layout": layout(chart) })
}

/// A label's place, in plotly.js's words.
fn position(label: Option<&Label>) -> &'static str {
    match label.map_or(Side::Right, |label| label.side) {
        Side::Right => "middle right",
        Side::Above => "top center",
        Side::Below => "bottom center",
        Side::Left => "middle left",
        Side::AboveRight => "top right",
        Side::BelowRight => "bottom right",
        Side::AboveLeft => "top left",
        Side::BelowLeft => "bottom left",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Axis, Form, Interval, Scale, Series};

    #[test]
    fn a_point_has_its_label_and_both_intervals_and_the_front_is_a_line() {
        let axis = |label: &str| Axis::new(label, Scale::Log);
        let point = |name: &str, x: f64, y: f64| Series { name: name.into(), style: 0, points: vec![(x, y)], intervals: vec![] };
        let mut series = vec![point("a <b>", 1.0, 1e-9), point("c", 8.0, 0.5)];
        series[1].intervals.push(Interval { x: 8.0, low: 0.25, high: 1.0 });
        let mark = |label: &str, along_x| Mark { label: label.into(), beside: String::new(), along_x };
        let marks = vec![mark("1", None), mark("2*", Some((7.0, 9.0)))];
        let front = vec![(1.0, 1e-9), (8.0, 0.5)];
        let form = Form::Points { marks: marks.clone(), front: front.clone() };
        let chart = Chart { name: "test", title: "T".into(), caption: "C".into(), x: axis("x"), y: axis("y"), form, series };
        let figure = points(&chart, &marks, &front);
        assert_eq!(figure["data"][0]["x"], json!([1.0, 8.0]));
        assert_eq!(figure["data"][0]["mode"], "lines");
        assert_eq!([&figure["data"][1]["name"], &figure["data"][1]["text"][0]], ["1  a &lt;b>", "1"]);
        assert_eq!(figure["data"][2]["text"], json!(["2*"]));
        assert_eq!(figure["data"][2]["error_y"]["array"], json!([0.5]));
        assert_eq!(figure["data"][2]["error_x"]["array"], json!([1.0]));
        assert_eq!(figure["data"][2]["error_x"]["arrayminus"], json!([1.0]));
        assert_eq!(figure["layout"]["yaxis"]["ticktext"][0], "1e-9", "no prefixes of units");
        assert_eq!(figure["layout"]["xaxis"]["ticktext"], json!(["2", "4", "6", "8"]));
    }
}
