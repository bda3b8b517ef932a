//! Files that are views of a run: tables, charts and the page.

use kv_report::{Chart, Edition, Peer, ReportError, Results, Theme, charts};

use super::pairs::pairs;
use crate::Problem;
use crate::run_folder::RunFolder;
use crate::summary::against_text;
use crate::table::Format;

/// The page without the charts' library.
pub(crate) const LIGHT_PAGE: &str = "light.html";

/// Writes the tables.
///
/// # Errors
/// A [`Problem`] that names the file.
pub(crate) fn write_tables(results: &Results, folder: &RunFolder) -> Result<(), Problem> {
    tables(results).into_iter().try_for_each(|(name, bytes)| folder.write(name, &bytes))
}

/// The tables, with their names. Of a run of two builds, how they compare is one more, in Markdown.
pub(crate) fn tables(results: &Results) -> Vec<(&'static str, Vec<u8>)> {
    let against = results.against.as_ref().map(|comparison| ("against.md", against_text(comparison, Format::Markdown).into_bytes()));
    let tables = [
        ("results.csv", kv_report::results_csv(results)),
        ("metrics.csv", kv_report::metrics_csv(results)),
        ("samples.csv", kv_report::samples_csv(results)),
        ("text.csv", kv_report::text_csv(results)),
        ("quality.csv", kv_report::quality_csv(results)),
        ("workload.csv", kv_report::workload_csv(results)),
    ];
    tables.into_iter().chain(against).collect()
}

/// The interactive page alone.
pub(crate) const PAGE: &[Edition] = &[Edition::Interactive];

/// The interactive page, and the light one for those who ask for it.
pub(crate) const WITH_LIGHT_PAGE: &[Edition] = &[Edition::Interactive, Edition::Light];

/// The charts and the pages, with their names; the pages are the last.
///
/// # Errors
/// A [`Problem`] that names the chart.
pub(crate) fn draw(results: &Results, peers: &[Peer], editions: &[Edition]) -> Result<Vec<(String, Vec<u8>)>, Problem> {
    let undrawn = |error: ReportError| Problem::new("cannot draw the report").caused_by(error);
    let charts = charts(results, peers);
    let pairs = pairs(&results.run, &results.visits);
    let mut files = pictures(&charts).map_err(undrawn)?;
    for edition in editions {
        let name = match edition {
            Edition::Interactive => "index.html",
            Edition::Light => LIGHT_PAGE,
        };
        files.push((name.into(), kv_report::html(results, &charts, &pairs, *edition).map_err(undrawn)?.into_bytes()));
    }
    Ok(files)
}

/// The pictures of charts, with their names: of each one a PNG and an SVG for light and for dark paper.
///
/// # Errors
/// [`ReportError::Draw`], [`ReportError::Png`].
pub(crate) fn pictures(charts: &[Chart]) -> Result<Vec<(String, Vec<u8>)>, ReportError> {
    let files = kv_report::pictures(charts).charts.iter().map(|chart| picture_files(chart.name, chart)).collect::<Result<Vec<_>, _>>()?;
    Ok(files.into_iter().flatten().collect())
}

/// The pictures of a chart under this name.
///
/// # Errors
/// As [`pictures`].
pub(crate) fn picture_files(name: &str, chart: &Chart) -> Result<Vec<(String, Vec<u8>)>, ReportError> {
    let mut files = vec![];
    for theme in Theme::ALL {
        let name = format!("{name}{}", theme.suffix());
        files.push((format!("{name}.png"), kv_report::png(chart, theme)?));
        files.push((format!("{name}.svg"), kv_report::svg(chart, theme)?));
    }
    Ok(files)
}
