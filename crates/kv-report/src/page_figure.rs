//! A chart as a page shows it.

use crate::chart_numbers::{ChartNumber, chart_numbers};
use crate::embedded::embedded;
use crate::shown::shortened;
use crate::workload_charts::workload_of;
use crate::{Chart, Edition, Form, ReportError, Scale};

pub(crate) struct Figure<'a> {
    pub(crate) chart: &'a Chart,
    /// The workloads that it shows, with spaces between them.
    pub(crate) workload: &'static str,
    /// The pictures for light and for dark paper as addresses with the data in them, on a page without the charts' library.
    pub(crate) pictures: Vec<(&'static str, String)>,
    pub(crate) has_scale: bool,
    /// The lines beside which the others cannot be told apart.
    pub(crate) outliers: Vec<String>,
    pub(crate) numbers: Vec<ChartNumber>,
    pub(crate) is_thinned: bool,
}

impl<'a> Figure<'a> {
    /// A chart, which is drawn as `drawn` where it is a picture.
    pub(crate) fn new(chart: &'a Chart, drawn: &Chart, edition: Edition) -> Result<Figure<'a>, ReportError> {
        let pictures = match edition {
            Edition::Interactive => vec![],
            Edition::Light => embedded(drawn)?,
        };
        let (numbers, is_thinned) = chart_numbers(chart);
        Ok(Figure {
            chart,
            workload: workload_of(chart.name),
            pictures,
            has_scale: chart.form == Form::Lines,
            outliers: chart.outliers().into_iter().map(shortened).collect(),
            numbers,
            is_thinned,
        })
    }

    pub(crate) fn is_log(&self) -> bool {
        self.chart.y.scale == Scale::Log
    }

    pub(crate) fn x_heading(&self) -> &str {
        if self.chart.x.label.is_empty() { "of" } else { &self.chart.x.label }
    }
}
