//! The report as a single page that works offline.

use askama::Template;

use crate::figure::figure;
use crate::plotly;
use crate::{COLUMNS, Chart, Column, ReportError, Results, Row, Status};

/// The page, with all scripts and figures embedded.
///
/// # Errors
/// [`ReportError::Page`].
pub fn html(results: &Results, charts: &[Chart]) -> Result<String, ReportError> {
    let failed = results.rows.iter().filter(|row| row.status == Status::Failed).count();
    let page = Page {
        results,
        measured: results.rows.len() - failed,
        failed,
        figures: charts.iter().map(|chart| Figure { chart, json: inside_script(&figure(chart)) }).collect(),
        columns: &COLUMNS,
        rows: results.rows.iter().map(|row| TableRow { failed: row.status == Status::Failed, cells: cells(row) }).collect(),
        config: serde_json::to_string_pretty(&results.config).unwrap_or_default(),
        plotly_script: plotly::SCRIPT,
        plotly_license: plotly::LICENSE,
    };
    Ok(page.render()?)
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    results: &'a Results,
    measured: usize,
    failed: usize,
    figures: Vec<Figure<'a>>,
    columns: &'a [Column],
    rows: Vec<TableRow>,
    config: String,
    plotly_script: &'static str,
    plotly_license: &'static str,
}

struct Figure<'a> {
    chart: &'a Chart,
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

/// JSON that can stand in a script element. Text such as `</script>` or `<!--` would change where the element ends, and
/// in JSON a `<` stands only in strings, where it can be escaped.
fn inside_script(json: &serde_json::Value) -> String {
    json.to_string().replace('<', "\\u003c")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Axis, Environment, Scale, Series};

    fn page(series: &str) -> String {
        let results = Results {
            schema: 1,
            title: "Title".into(),
            started: "now".into(),
            command: "run".into(),
            complete: true,
            warnings: vec![],
            environment: Environment::default(),
            model: None,
            config: serde_json::Value::Null,
            rows: vec![Row { label: series.into(), ..Row::default() }],
        };
        html(&results, &[chart(series)]).unwrap()
    }

    fn chart(series: &str) -> Chart {
        let axis = || Axis { label: series.into(), scale: Scale::Log };
        let series = vec![Series { name: series.into(), style: 0, points: vec![(128.0, 1.0)] }];
        Chart { name: "test", title: "Title".into(), caption: "Caption.".into(), x: axis(), y: axis(), series }
    }

    #[test]
    fn a_page_embeds_the_script_once_with_its_license_and_uploads_nothing() {
        let page = page("a");
        assert_eq!(page.matches(plotly::SCRIPT).count(), 1);
        assert_eq!(page.matches(plotly::LICENSE).count(), 1);
        assert!(page.contains("showSendToCloud: false"));
    }

    #[test]
    fn no_label_ends_the_script() {
        let count = |page: &str| ["<script", "</script", "<!--"].map(|tag| page.matches(tag).count());
        for label in ["</script><script>alert(1)</script>", "<!--<script>", "a \"quoted\" \\ name", "×2 \u{2028} & <b>"] {
            let page = page(label);
            assert_eq!(count(&page), count(&self::page("a")), "{label}");
            let json = page.lines().find_map(|line| line.strip_prefix("  \"chart-test\": ")).unwrap().trim_end_matches(',');
            assert_eq!(serde_json::from_str::<serde_json::Value>(json).unwrap(), figure(&chart(label)), "{label}");
        }
    }
}
