//! Errors of writing, reading and drawing results.

/// A report that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A table cannot be written or read.
    #[error("cannot convert a table")]
    Csv(#[from] csv::Error),
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
