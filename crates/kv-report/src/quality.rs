//! Quality in parts: by layer, by depth of a text, and by place and margin of planted needles.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spreadsheet::as_text;
use crate::table::{number, table};
use crate::{CellRecord, Results, Status};

/// How quality was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// On rows without a model: attention's outputs against dense attention.
    Rows,
    /// On rows in which needles were planted.
    Planted,
    /// The model read a text from a cache that was given the exactly computed prompt.
    PromptExact,
    /// The model read a text from a cache that held it from its first token.
    Streamed,
    /// The model was asked for facts that the exactly computed prompt states, which its cache was given.
    Recall,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Protocol::Rows => "rows",
            Protocol::Planted => "planted",
            Protocol::PromptExact => "prompt exact",
            Protocol::Streamed => "streamed",
            Protocol::Recall => "recall",
        })
    }
}

/// A part of a model or of a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Part {
    /// A layer, from 0.
    Layer(usize),
    /// Tokens that were judged, from and before these: counted from the prompt's end where it was exact, and from the first token
    /// of a text that was streamed. Of facts, where they stand in the prompt.
    Depth {
        /// The first.
        from: usize,
        /// The one after the last.
        to: usize,
    },
    /// The last quarter of a text.
    Tail,
    /// Where needles were planted, and how far they stand out.
    Place {
        /// "start", "recent", or a range of depths counted from 0.
        place: String,
        /// In logits.
        margin: f64,
    },
}

impl std::fmt::Display for Part {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Part::Layer(layer) => write!(formatter, "layer {layer}"),
            Part::Depth { from, to } => write!(formatter, "tokens {from} to {to}"),
            Part::Tail => formatter.write_str("tail"),
            Part::Place { place, margin } => write!(formatter, "{place}, margin {margin}"),
        }
    }
}

/// A number of a part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QualityPoint {
    /// How it was measured.
    pub protocol: Protocol,
    /// Of what.
    pub part: Part,
    /// The id of the metric, without the prefix of its protocol.
    pub metric: String,
    /// The value, in the unit of its metric.
    pub value: f64,
    /// Where it lies with 95 %.
    pub interval: Option<(f64, f64)>,
    /// Of how many tokens or trials.
    pub count: usize,
}

/// `quality.csv`: one row per number of a part of a cell.
pub fn quality_csv(results: &Results) -> Vec<u8> {
    const COLUMNS: [&str; 12] =
        ["label", "workload", "seq_len", "batch", "cell", "protocol", "part", "metric", "value", "interval_low", "interval_high", "count"];
    let of_cell = |id: &str| results.run.cells.iter().find(|cell| cell.id == id);
    let rows = results.visits.iter().filter(|visit| visit.status == Status::Ok).flat_map(|visit| {
        let cell = of_cell(&visit.cell);
        visit.quality.iter().map(move |point| {
            let text = |of: fn(&CellRecord) -> String| cell.map(of).unwrap_or_default();
            vec![
                as_text(&text(|cell| cell.label.clone())),
                as_text(&text(|cell| cell.workload.clone())),
                text(|cell| cell.seq_len.to_string()),
                text(|cell| cell.batch.to_string()),
                as_text(&visit.cell),
                point.protocol.to_string(),
                as_text(&point.part.to_string()),
                as_text(&point.metric),
                number(Some(point.value)),
                number(point.interval.map(|(low, _)| low)),
                number(point.interval.map(|(_, high)| high)),
                point.count.to_string(),
            ]
        })
    });
    table(&COLUMNS, rows)
}
