//! The format of a run's results, and the tables, charts and pages that are made of them, as bytes.
//!
//! This crate knows neither Burn nor any strategy, and reads no files and no clock. The same results give the same
//! report.
//!
//! Reading order: [`RunRecord`] is what was planned, a [`Visit`] is what a pass over a cell came to, [`Results`] sums them
//! up. [`charts`] turns results into [`Chart`]s, and [`png()`] and [`html()`] draw them.
#![forbid(unsafe_code)]

mod along_text;
mod chart;
mod charts;
mod column;
mod environment;
mod error;
#[cfg(test)]
mod example;
mod facts;
mod figure;
mod html;
mod ledger;
mod metric;
mod noise;
mod old;
mod peer;
mod plotly;
mod png;
mod png_bars;
mod quality;
mod quality_metric;
mod results;
mod run;
mod schema;
mod spreadsheet;
mod style;
mod table;
mod visit;

pub use along_text::text_csv;
pub use chart::{Axis, Chart, Form, Interval, Scale, Series};
pub use charts::{CHARTS, charts};
pub use environment::{Environment, Fact};
pub use error::ReportError;
pub use html::html;
pub use metric::{Better, METRICS, Metric, Unit, metric};
pub use noise::{is_baseline, noise, ratio};
pub use old::read_old;
pub use peer::{Peer, read_peers};
pub use png::png;
pub use quality::{Part, Protocol, QualityPoint, quality_csv};
pub use results::{Results, Row, Value};
pub use run::{
    BuildRecord, CellRecord, FormatBytes, GeometryRecord, Level, ModelRecord, RowsOrigin, RunRecord, RunState, SCHEMA_VERSION, read_run,
};
pub use schema::schemas;
pub use table::{metrics_csv, results_csv, samples_csv};
pub use visit::{Fill, Pass, Status, StepTime, TextPoint, TtftSource, Visit, read_visits};
