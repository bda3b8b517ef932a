//! What a cache does to attention and to a model's output, as pure functions: no files, no processes, no model.
//!
//! Without a model, on rows of a [`RowSource`](kv_script::RowSource) (seconds, for any geometry):
//!
//! - [`evaluate`] compares the next steps of a filled cache with dense attention over all rows ever appended
//!   ([`DenseReference`]): errors of the outputs ([`OutputErrors`]), errors of decoded keys and values ([`DecodedErrors`]),
//!   attention mass on the rows that are held, and top-k recall ([`RetainedMass`]). [`AttentionSummary`] puts several sequences
//!   together.
//! - [`PlantedRetrieval`] makes rows in which every query looks for a known token, and counts the answers that are found.
//!
//! With a model, whose logits the caller hands over:
//!
//! - [`Paired`] makes a reference and a candidate rows of the same step.
//! - [`RecallText`] states facts, and makes questions about them that the model answers from its cache.
//! - [`Divergence`] compares the logits of one position, and [`Divergences`] summarizes those of a text.
#![forbid(unsafe_code)]

mod attention_summary;
mod decoded;
mod dense;
mod divergence;
mod error;
mod estimate;
mod evaluate;
mod outputs;
mod paired;
mod planted;
mod recall;
mod retained;
mod summary;
#[cfg(test)]
mod toy;
mod unigram;

pub use attention_summary::{AttentionStatistics, AttentionSummary};
pub use decoded::{DecodedErrors, RowErrors};
pub use dense::{DenseReference, TokenAttention};
pub use divergence::{Divergence, DivergenceError, Of, TIE, Top1, log_probability};
pub use error::{EvaluateError, QualityError};
pub use estimate::Estimate;
pub use evaluate::{Evaluation, evaluate};
pub use outputs::{OutputError, OutputErrors};
pub use paired::{Paired, Side};
pub use planted::{Accuracy, Place, PlacedAccuracy, PlantedError, PlantedPlan, PlantedRetrieval, Retrieval, SLOW_TURN};
pub use recall::{RecallAnswer, RecallAnswers, RecallPrompt, RecallQuestion, RecallTask, RecallText, filler};
pub use retained::{Retained, RetainedMass};
pub use summary::{DepthStatistics, Divergences, FirstDifference, Statistics, Summary, SummaryError, TOKENS_FOR_P99, TOKENS_FOR_P999};
pub use unigram::unigram_perplexity;
