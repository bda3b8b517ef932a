//! Converts result rows to CSV, JSON, PNG and HTML, as bytes.
//!
//! This crate knows neither Burn nor any strategy, and reads no files and no clock. The same results give the same
//! report.
//!
//! Reading order: [`Results`] is the outcome of a sweep, [`charts`] turns it into [`Chart`]s, and [`png()`] and
//! [`html()`] draw them.
#![forbid(unsafe_code)]

mod chart;
mod charts;
mod columns;
mod error;
mod figure;
mod html;
mod peer;
mod plotly;
mod png;
mod results;
mod style;
mod table;

pub use chart::{Axis, Chart, Scale, Series};
pub use charts::charts;
pub use columns::{COLUMNS, Column};
pub use error::ReportError;
pub use html::html;
pub use peer::{Peer, read_peers};
pub use png::png;
pub use results::{Environment, Fact, FormatBytes, ModelRecord, Results, Row, Sample, Status};
pub use table::{read_samples, results_csv, samples_csv};
