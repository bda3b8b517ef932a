//! A chart as a figure of plotly.js: its traces and its layout. The keys are those of plotly.js's reference.

use serde_json::{Value, json};

use crate::chart::{Arrangement, Axis, Chart, Form, Interval, Scale, Series};
use crate::figure_points;
use crate::style::{Marker, colour, log_ticks, marker, tick_text};

/// A line with more points has no markers.
const MOST_MARKERS: usize = 64;

/// The figure: an object with `data`, one trace per series, and `layout`.
pub(crate) fn figure(chart: &Chart) -> Value {
    match &chart.form {
        Form::Lines => json!({ "data": chart.series.iter().map(trace).collect::<Vec<_>>(), "layout": layout(chart) }),
        Form::Points { marks, front } => figure_points::points(chart, marks, front),
        Form::Bars { names, arrangement } => bars(chart, names, *arrangement),
    }
}

/// The layout of lines and of points, as a page first shows them: the ticks along y are those of the lines that it starts with.
pub(crate) fn layout(chart: &Chart) -> Value {
    let bounds = chart.bounds();
    let of_first_view = without_outliers(chart).bounds();
    let x_ticks = match chart.form {
        Form::Points { .. } => value_ticks(&chart.x, bounds.map(|(x, _)| x)),
        _ => Some(chart.lengths()).filter(|lengths| !lengths.is_empty()).unwrap_or_else(|| value_ticks(&chart.x, bounds.map(|(x, _)| x))),
    };
    json!({
        "xaxis": with_ticks(axis(&chart.x), &x_ticks),
        "yaxis": with_ticks(axis(&chart.y), &value_ticks(&chart.y, of_first_view.map(|(_, y)| y))),
        "legend": { "x": 1.02, "y": 1.0 },
        "margin": { "l": 80, "r": 20, "t": 20, "b": 70 },
        "height": 480,
    })
}

/// The ticks along y of the view with the outliers.
pub(crate) fn ticks_of_all(chart: &Chart) -> Value {
    with_ticks(json!({}), &value_ticks(&chart.y, chart.bounds().map(|(_, y)| y)))
}

fn without_outliers(chart: &Chart) -> Chart {
    let outliers = chart.outliers();
    let mut others = chart.clone();
    others.series.retain(|series| !outliers.contains(&series.name.as_str()));
    others
}

fn bars(chart: &Chart, names: &[String], arrangement: Arrangement) -> Value {
    let names: Vec<String> = names.iter().map(|name| escaped(name)).collect();
    // A series may have no point at some of the names.
    let name = |(bar, _): &(f64, f64)| names.iter().enumerate().find(|(place, _)| *place as f64 == *bar).map(|(_, name)| name);
    let part = |series: &Series| {
        let (red, green, blue) = colour(series.style);
        let mut part = json!({
            "type": "bar",
            "name": escaped(&series.name),
            "x": series.points.iter().map(name).collect::<Vec<_>>(),
            "y": series.points.iter().map(|(_, y)| *y).collect::<Vec<_>>(),
            "marker": { "color": format!("rgb({red},{green},{blue})") },
        });
        if !series.intervals.is_empty() {
            part["error_y"] = errors(series);
        }
        part
    };
    json!({
        "data": chart.series.iter().map(part).collect::<Vec<_>>(),
        "layout": {
            "barmode": match arrangement {
                Arrangement::Stacked => "stack",
                Arrangement::Beside => "group",
            },
            "xaxis": { "automargin": true, "type": "category", "categoryorder": "array", "categoryarray": names },
            "yaxis": axis(&chart.y),
            "legend": { "x": 1.02, "y": 1.0, "traceorder": "normal" },
            "margin": { "l": 80, "r": 20, "t": 20, "b": 70 },
            "height": 480,
        },
    })
}

/// plotly.js reads tags and entities in names.
pub(crate) fn escaped(name: &str) -> String {
    name.replace('&', "&amp;").replace('<', "&lt;")
}

/// Ticks of a logarithmic axis. plotly.js would label too few of less than a decade, leave away the powers of the others ("1000, 5,
/// 2, 100"), and give small numbers the prefixes of units.
fn value_ticks(axis: &Axis, bounds: Option<(f64, f64)>) -> Vec<f64> {
    match bounds {
        Some((low, high)) if axis.scale == Scale::Log && low > 0.0 => log_ticks(low * 0.9, high * 1.1),
        _ => vec![],
    }
}

fn trace(series: &Series) -> Value {
    let (red, green, blue) = colour(series.style);
    let colour = format!("rgb({red},{green},{blue})");
    let (x, y): (Vec<f64>, Vec<f64>) = series.points.iter().copied().unzip();
    let mut trace = json!({
        "type": "scatter",
        "name": escaped(&series.name),
        "mode": if x.len() > MOST_MARKERS { "lines" } else { "lines+markers" },
        "x": x,
        "y": y,
        "line": { "color": colour, "width": 2.5, "dash": dash(series.style) },
        "marker": { "color": colour, "size": 9, "symbol": symbol(series.style) },
    });
    if !series.intervals.is_empty() {
        trace["error_y"] = errors(series);
    }
    trace
}

/// The intervals of a series along y.
pub(crate) fn errors(series: &Series) -> Value {
    let half = |x: f64, y: f64, end: fn(&Interval, f64) -> f64| {
        series.intervals.iter().find(|interval| interval.x == x).map(|interval| end(interval, y))
    };
    let halves = |end| series.points.iter().map(|(x, y)| half(*x, *y, end)).collect::<Vec<_>>();
    json!({
        "type": "data",
        "symmetric": false,
        "array": halves(|interval, y| interval.high - y),
        "arrayminus": halves(|interval, y| y - interval.low),
        "thickness": 1.5,
        "width": 4,
    })
}

/// Past the end of the palette, the dash distinguishes two lines of the same color.
fn dash(style: usize) -> &'static str {
    if style < 7 { "solid" } else { "dash" }
}

pub(crate) fn symbol(style: usize) -> &'static str {
    match marker(style) {
        Marker::Circle => "circle",
        Marker::Square => "square",
        Marker::TriangleUp => "triangle-up",
        Marker::Diamond => "diamond",
        Marker::Cross => "x",
    }
}

fn axis(axis: &Axis) -> Value {
    let scale = match axis.scale {
        Scale::Linear => "linear",
        Scale::Log => "log",
    };
    let mut drawn = json!({ "title": { "text": axis.label }, "type": scale, "gridcolor": "#ddd", "automargin": true });
    if axis.scale == Scale::Linear {
        drawn["rangemode"] = "tozero".into();
    }
    drawn
}

fn with_ticks(mut axis: Value, ticks: &[f64]) -> Value {
    if !ticks.is_empty() {
        axis["tickvals"] = json!(ticks);
        axis["ticktext"] = ticks.iter().copied().map(tick_text).collect();
    }
    axis
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale, series: Vec<Series>) -> Chart {
        Chart {
            name: "test",
            title: "Title".into(),
            caption: "Caption.".into(),
            x: Axis::new("x", scale),
            y: Axis::new("y (ms)", Scale::Log),
            form: Form::Lines,
            series,
        }
    }

    fn series(name: &str, style: usize, points: &[(f64, f64)]) -> Series {
        Series { name: name.into(), style, points: points.to_vec(), intervals: vec![] }
    }

    #[test]
    fn a_small_figure() {
        let lines = vec![series("a", 0, &[(128.0, 1.5), (16384.0, 2.0)]), series("\"b\" <i> & ×2", 8, &[(128.0, 3.0)])];
        let expected = json!({
            "data": [
                {
                    "type": "scatter", "name": "a", "mode": "lines+markers", "x": [128.0, 16384.0], "y": [1.5, 2.0],
                    "line": { "color": "rgb(0,114,178)", "width": 2.5, "dash": "solid" },
                    "marker": { "color": "rgb(0,114,178)", "size": 9, "symbol": "circle" },
                },
                {
                    "type": "scatter", "name": "\"b\" &lt;i> &amp; ×2", "mode": "lines+markers", "x": [128.0], "y": [3.0],
                    "line": { "color": "rgb(213,94,0)", "width": 2.5, "dash": "dash" },
                    "marker": { "color": "rgb(213,94,0)", "size": 9, "symbol": "diamond" },
                },
            ],
            "layout": {
                "xaxis": {
                    "title": { "text": "x" }, "type": "log", "gridcolor": "#ddd", "automargin": true,
                    "tickvals": [128.0, 16384.0], "ticktext": ["128", "16 384"],
                },
                "yaxis": {
                    "title": { "text": "y (ms)" }, "type": "log", "gridcolor": "#ddd", "automargin": true,
                    "tickvals": [1.5, 2.0, 2.5, 3.0], "ticktext": ["1.5", "2", "2.5", "3"],
                },
                "legend": { "x": 1.02, "y": 1.0 },
                "margin": { "l": 80, "r": 20, "t": 20, "b": 70 },
                "height": 480,
            },
        });
        assert_eq!(figure(&chart(Scale::Log, lines)), expected);
    }

    #[test]
    fn each_view_has_ticks_of_what_it_shows() {
        let line = |name: &str, top: f64| series(name, 0, &[(128.0, top / 2.0), (256.0, top)]);
        let mut chart = chart(Scale::Log, vec![line("a", 2.0), line("b", 3.0), line("naive", 2000.0)]);
        chart.y = chart.y.of(crate::Quantity::Time);
        assert_eq!(chart.outliers(), ["naive"]);
        let within = |axis: &Value, high: f64| {
            let ticks: Vec<f64> = axis["tickvals"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
            ticks.iter().filter(|tick| (1.0..=high).contains(*tick)).count()
        };
        assert!(within(&figure(&chart)["layout"]["yaxis"], 3.0) >= 2);
        let all = ticks_of_all(&chart);
        assert!(within(&all, 2000.0) >= 2 && all["ticktext"].as_array().unwrap().last().unwrap() == "2000", "{all}");
    }

    #[test]
    fn parts_are_stacked_under_the_bars_names() {
        let mut chart = chart(Scale::Linear, vec![series("part <1>", 0, &[(0.0, 1.0), (1.0, 2.0)])]);
        let names = vec!["a & b".into(), "c".into()];
        chart.form = Form::Bars { names: names.clone(), arrangement: Arrangement::Beside };
        assert_eq!(figure(&chart)["layout"]["barmode"], "group");
        chart.form = Form::Bars { names, arrangement: Arrangement::Stacked };
        let figure = figure(&chart);
        assert_eq!(figure["layout"]["barmode"], "stack");
        assert_eq!(figure["data"][0]["x"], json!(["a &amp; b", "c"]));
        assert_eq!(figure["data"][0]["y"], json!([1.0, 2.0]));
        assert_eq!(figure["data"][0]["name"], "part &lt;1>");
    }

    #[test]
    fn a_series_without_some_of_the_bars_has_its_values_under_the_right_names() {
        let mut holed = series("holed", 0, &[(1.0, 2.0), (2.0, 3.0)]);
        holed.intervals.push(Interval { x: 2.0, low: 2.5, high: 3.25 });
        let mut chart = chart(Scale::Linear, vec![holed, series("whole", 1, &[(0.0, 4.0), (1.0, 5.0), (2.0, 6.0)])]);
        chart.form = Form::Bars { names: ["a", "b", "c"].map(String::from).to_vec(), arrangement: Arrangement::Beside };
        let figure = figure(&chart);
        assert_eq!([&figure["data"][0]["x"], &figure["data"][0]["y"]], [&json!(["b", "c"]), &json!([2.0, 3.0])]);
        assert_eq!(figure["data"][0]["error_y"]["array"], json!([null, 0.25]));
        assert_eq!(figure["data"][1]["x"], json!(["a", "b", "c"]));
        // Otherwise the axis would begin with the first name of the first series.
        assert_eq!(figure["layout"]["xaxis"]["categoryarray"], json!(["a", "b", "c"]));
    }

    #[test]
    fn intervals_are_bars_of_their_points() {
        let mut line = series("a", 0, &[(8.0, 1.0), (16.0, 2.0)]);
        line.intervals.push(Interval { x: 16.0, low: 1.5, high: 2.25 });
        let interval = Interval { x: 0.0, low: 0.75, high: 1.5 };
        let mut of_bars = chart(Scale::Linear, vec![Series { intervals: vec![interval], ..series("a", 0, &[(0.0, 1.0)]) }]);
        of_bars.form = Form::Bars { names: vec!["x".into()], arrangement: Arrangement::Beside };
        let bars = figure(&of_bars)["data"][0].clone();
        let figure = figure(&chart(Scale::Log, vec![line]));
        assert_eq!(figure["data"][0]["error_y"]["array"], json!([null, 0.25]));
        assert_eq!(figure["data"][0]["error_y"]["arrayminus"], json!([null, 0.5]));
        assert_eq!(bars.get("error_y").map(|errors| &errors["array"]), Some(&json!([0.5])));
        assert_eq!(bars.get("error_y").map(|errors| &errors["arrayminus"]), Some(&json!([0.25])));
    }

    #[test]
    fn a_linear_axis_has_its_own_ticks_and_a_long_line_no_markers() {
        let points: Vec<(f64, f64)> = (0..=MOST_MARKERS).map(|step| (step as f64, step as f64)).collect();
        let lines = vec![series("long", 0, &points), series("short", 1, &points[1..])];
        let figure = figure(&chart(Scale::Linear, lines));
        assert_eq!([&figure["layout"]["xaxis"]["type"], &figure["layout"]["xaxis"]["rangemode"]], ["linear", "tozero"]);
        assert_eq!(figure["layout"]["xaxis"].get("tickvals"), None);
        assert_eq!([&figure["data"][0]["mode"], &figure["data"][1]["mode"]], ["lines", "lines+markers"]);
    }
}
