//! The report as a single page that works offline.

use askama::Template;
use plotly::common::{DashType, Line, Marker, MarkerSymbol, Mode, Title};
use plotly::layout::{Axis as PlotlyAxis, AxisType, Legend, Margin};
use plotly::{Layout, Plot, Scatter};

use crate::chart::{Axis, Scale};
use crate::style::{Marker as Mark, colour, marker, tick_text};
use crate::{COLUMNS, Chart, Column, ReportError, Results, Row, Status};

/// The page, with all scripts and figures embedded.
///
/// # Errors
/// [`ReportError::Page`].
pub fn html(results: &Results, charts: &[Chart]) -> Result<String, ReportError> {
    let (script, _) =
        Plot::offline_js_sources().split_once("</script>").map(|(script, rest)| (script.to_owned(), rest.len())).unwrap_or_default();
    let plotly_script = script.split_once('>').map(|(_, script)| script.to_owned()).unwrap_or_default();
    let failed = results.rows.iter().filter(|row| row.status == Status::Failed).count();
    let page = Page {
        results,
        measured: results.rows.len() - failed,
        failed,
        figures: charts.iter().map(Figure::of).collect(),
        columns: &COLUMNS,
        rows: results.rows.iter().map(|row| TableRow { failed: row.status == Status::Failed, cells: cells(row) }).collect(),
        config: serde_json::to_string_pretty(&results.config).unwrap_or_default(),
        plotly_script,
    };
    Ok(page.render()?)
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    results: &'a Results,
    measured: usize,
    failed: usize,
    figures: Vec<Figure>,
    columns: &'a [Column],
    rows: Vec<TableRow>,
    config: String,
    plotly_script: String,
}

struct Figure {
    name: &'static str,
    title: String,
    caption: String,
    /// The figure as JSON for the plotting library, safe inside a script.
    json: String,
}

struct TableRow {
    failed: bool,
    cells: Vec<Cell>,
}

/// A table cell: the text shown, and the number it sorts by.
struct Cell {
    shown: String,
    number: Option<f64>,
}

impl Figure {
    fn of(chart: &Chart) -> Figure {
        let mut plot = Plot::new();
        for series in &chart.series {
            let (red, green, blue) = colour(series.style);
            let colour = format!("rgb({red},{green},{blue})");
            let (x, y): (Vec<f64>, Vec<f64>) = series.points.iter().copied().unzip();
            // Past the end of the palette, the dash distinguishes two lines of the same color.
            let dash = if series.style < 7 { DashType::Solid } else { DashType::Dash };
            let mode = if x.len() > 64 { Mode::Lines } else { Mode::LinesMarkers };
            let trace = Scatter::new(x, y)
                .name(&series.name)
                .mode(mode)
                .line(Line::new().color(colour.clone()).width(2.5).dash(dash))
                .marker(Marker::new().color(colour).size(9).symbol(symbol(series.style)));
            plot.add_trace(trace);
        }
        let layout = Layout::new()
            .x_axis(with_ticks(axis(&chart.x), &chart.lengths()))
            .y_axis(axis(&chart.y))
            .legend(Legend::new().x(1.02).y(1.0))
            .margin(Margin::new().left(80).right(20).top(20).bottom(70))
            .height(480);
        plot.set_layout(layout);
        Figure { name: chart.name, title: chart.title.clone(), caption: chart.caption.clone(), json: plot.to_json().replace("</", "<\\/") }
    }
}

fn axis(axis: &Axis) -> PlotlyAxis {
    let kind = match axis.scale {
        Scale::Linear => AxisType::Linear,
        Scale::Log => AxisType::Log,
    };
    PlotlyAxis::new().title(Title::with_text(&axis.label)).type_(kind).grid_color("#ddd").auto_margin(true)
}

fn with_ticks(axis: PlotlyAxis, ticks: &[f64]) -> PlotlyAxis {
    if ticks.is_empty() {
        return axis;
    }
    axis.tick_values(ticks.to_vec()).tick_text(ticks.iter().copied().map(tick_text).collect())
}

fn symbol(style: usize) -> MarkerSymbol {
    match marker(style) {
        Mark::Circle => MarkerSymbol::Circle,
        Mark::Square => MarkerSymbol::Square,
        Mark::TriangleUp => MarkerSymbol::TriangleUp,
        Mark::Diamond => MarkerSymbol::Diamond,
        Mark::Cross => MarkerSymbol::X,
    }
}

/// A row's cells in the order of [`COLUMNS`].
fn cells(row: &Row) -> Vec<Cell> {
    let serde_json::Value::Object(fields) = serde_json::to_value(row).unwrap_or_default() else { return vec![] };
    COLUMNS.iter().map(|column| cell(column.name, fields.get(column.name))).collect()
}

fn cell(name: &str, value: Option<&serde_json::Value>) -> Cell {
    match value {
        Some(serde_json::Value::Number(number)) => {
            let number = number.as_f64();
            Cell { shown: number.map(|number| shown(name, number)).unwrap_or_default(), number }
        }
        Some(serde_json::Value::String(text)) => Cell { shown: text.clone(), number: None },
        _ => Cell { shown: String::new(), number: None },
    }
}

fn shown(name: &str, number: f64) -> String {
    const KIB: f64 = 1024.0;
    match () {
        () if name.ends_with("_bytes") && number.abs() >= KIB * KIB => format!("{:.2} MiB", number / KIB / KIB),
        () if name.ends_with("_bytes") && number.abs() >= KIB => format!("{:.2} KiB", number / KIB),
        () if name.ends_with("_bytes") => format!("{number} B"),
        () if number.fract() == 0.0 => format!("{number}"),
        () if number.abs() >= 100.0 => format!("{number:.0}"),
        () if number.abs() >= 1.0 => format!("{number:.2}"),
        () => format!("{number:.4}"),
    }
}
