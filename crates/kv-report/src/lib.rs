//! The format of a run's results, and the tables, charts and pages that are made of them, as bytes.
//!
//! This crate knows neither Burn nor any strategy, and reads no files and no clock. The same results give the same
//! report.
//!
//! Reading order: [`RunRecord`] is what was planned, a [`Visit`] is what a pass over a cell came to, [`Results`] sums them
//! up. [`charts`] turns results into [`Chart`]s, and [`png()`], [`svg()`] and [`html()`] draw them.
#![forbid(unsafe_code)]

mod along_text;
mod best;
mod best_words;
mod capacity;
mod chart;
mod chart_groups;
mod chart_names;
mod chart_numbers;
mod charts;
mod column;
mod comparison;
mod counted;
mod decision;
mod embedded;
mod environment;
mod equal_bytes;
mod error;
#[cfg(test)]
mod example;
#[cfg(test)]
mod example_quality;
mod facts;
mod failures;
mod figure;
mod figure_points;
mod forked_sentences;
mod front;
mod html;
mod instances;
mod ledger;
mod llama_bench;
mod metric;
mod noise;
mod old;
mod origin;
mod overview;
mod page_data;
mod page_figure;
mod peer;
mod peer_lines;
mod picture;
mod placing;
mod plotly;
mod quality;
mod quality_axis;
mod quality_lines;
mod quality_metric;
mod quality_parts;
mod recall;
mod recall_charts;
mod results;
mod retrieval;
mod role;
mod roofline;
mod rows_sentences;
mod run;
mod schema;
mod sentences;
mod shown;
mod speculative_sentence;
mod speed_up;
mod speed_up_lines;
mod spread;
mod spreadsheet;
mod stream_sentence;
mod style;
mod switch;
mod table;
mod theme_switch;
mod tolerance;
mod visit;
mod workload;
mod workload_charts;
mod workload_metric;
mod workload_sentences;

pub use along_text::text_csv;
pub use best::{Answer, Bytes, Candidate, Question, best, has_quality};
pub use chart::{Arrangement, Axis, Chart, Form, Interval, Mark, Quantity, Scale, Series};
pub use chart_names::chart_names;
pub use charts::charts;
pub use comparison::{
    CONDITIONS, Change, Changed, Comparison, Difference, Direction, FailOn, Found, Place, Role, Side, TimeChange, TimeTable, TimeVerdict,
    Times, comparison_html, matched,
};
pub use counted::{counted, were};
pub use environment::{Environment, Fact};
pub use equal_bytes::{Band, EqualBytes, Member, equal_bytes};
pub use error::ReportError;
pub use failures::TOLD_BEFORE;
pub use html::{Edition, html};
pub use llama_bench::{Imported, llama_bench};
pub use metric::{Better, METRICS, Metric, Unit, metric};
pub use noise::{is_baseline, noise, ratio};
pub use old::read_old;
pub use origin::{AssignedBlock, OriginRecord, PartRecord};
pub use overview::{Overview, OverviewModel, overview_html, overview_sentences};
pub use peer::{PEER_METRICS, Peer, Peers, peers_csv, read_peers, require_distinct};
pub use picture::{Pictures, Theme, pictures, png, svg};
pub use quality::{Part, Protocol, QualityPoint, quality_csv};
pub use recall::{Answered, FEWEST_RIGHT, LOOKUP, NEEDLE, RECALLS, Recall, recall_sentences};
pub use results::{IMPLEMENTATION_BOUND, Pair, Results, Row, UNRANKED, Value};
pub use roofline::{Judged, Located, Roofline, RooflineReport, RooflineRow, roofline_charts, roofline_csv, roofline_html};
pub use run::{
    BuildRecord, CellRecord, FormatBytes, GeometryRecord, Level, ModelRecord, OtherBuild, RowsOrigin, RunRecord, RunState, SCHEMA_VERSION,
    read_run,
};
pub use schema::schemas;
pub use sentences::sentences;
pub use speed_up::{SpeedUp, SpeedUps, speed_up_csv};
pub use speed_up_lines::{shown_speed_up, speed_up_chart, speed_up_sentences};
pub use table::{joined_csv, metrics_csv, results_csv, samples_csv};
pub use tolerance::Tolerance;
pub use visit::{Build, Fill, Pass, Status, StepTime, TextPoint, TtftSource, Visit, read_visits};
pub use workload::{WorkloadPoint, WorkloadValue, workload_csv};
pub use workload_metric::{WORKLOAD_METRICS, workload_metric};
pub use workload_sentences::workload_sentences;
