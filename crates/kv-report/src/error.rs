//! Errors of writing, reading and drawing results.

/// A report that cannot be made, or files of a run that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A table cannot be read.
    #[error("cannot read a table")]
    Csv(#[from] csv::Error),
    /// A file is no JSON, or not the JSON of a run.
    #[error("`{file}` cannot be read")]
    Json {
        /// The file.
        file: &'static str,
        /// What is wrong, with the line and the column.
        source: serde_json::Error,
    },
    /// A file has a schema that this version does not read.
    #[error(
        "`{file}` has schema {found}, and only schema {readable} of that file can be read: kvlab reads run.json with visits.jsonl (schema 2) and results.json with samples.csv (schema 1)"
    )]
    Schema {
        /// The file.
        file: &'static str,
        /// Its schema.
        found: u64,
        /// The schema of that file that can be read.
        readable: u32,
    },
    /// A line of the log of visits is damaged.
    #[error("line {line} of `visits.jsonl` is damaged: only the last line may be cut")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: Box<ReportError>,
    },
    /// A value belongs to no metric.
    #[error("`{id}` is no metric of this version of kvlab")]
    UnknownMetric {
        /// The id.
        id: String,
    },
    /// A number of a visit is not finite.
    #[error("`{name}` of the cell `{cell}` is {value}, and a recorded number must be finite")]
    NotFinite {
        /// The cell's id.
        cell: String,
        /// The metric or the part of a step.
        name: String,
        /// The number.
        value: f64,
    },
    /// A file is not what llama-bench writes.
    #[error("this is no output of `llama-bench -o json` or `-o jsonl`: {0}")]
    LlamaBench(String),
    /// A measurement of another engine cannot be drawn.
    #[error("{0}")]
    Peer(String),
    /// A chart cannot be drawn.
    #[error("cannot draw the chart `{chart}`: {reason}")]
    Draw {
        /// The chart's name.
        chart: String,
        /// The reason.
        reason: String,
    },
    /// A chart cannot be encoded.
    #[error("cannot encode a PNG")]
    Png(#[from] png::EncodingError),
    /// The page cannot be filled in.
    #[error("cannot fill in the page")]
    Page(#[from] askama::Error),
}
