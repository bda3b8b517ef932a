//! What is asked about quality.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::Lengths;

/// What each cache does to attention and, where a `text` is named, to what the model says. An empty table asks for attention alone.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// The text that the model reads: "held-out", which the preset `small` was not trained on; the name of one that `runner fetch`
    /// has brought, such as "moby-dick"; or a path, which starts at the config's folder if it is relative. Left out, only attention is compared, on recorded or generated rows.
    #[schemars(with = "Option<String>")]
    pub text: Option<Spanned<String>>,
    /// The lengths at which quality is judged: some of those of `[sweep]`, written as there. The default is all of them.
    #[schemars(with = "Option<Lengths>")]
    pub lengths: Option<Spanned<Lengths>>,
    /// Parts of the text that are read, spread evenly over it. They are the independent observations behind every interval.
    #[serde(default = "default_windows")]
    #[schemars(with = "usize")]
    pub windows: Spanned<usize>,
    /// Prompt exact: tokens that are judged after each length, one by one, in each window.
    #[serde(default = "default_steps")]
    #[schemars(with = "usize")]
    pub steps: Spanned<usize>,
    /// Streamed: tokens of each window that a cache reads from the first on. The default is the longest length
    /// at which quality is judged; 0 leaves it out.
    #[schemars(with = "Option<usize>")]
    pub streamed: Option<Spanned<usize>>,
    /// Streamed: tokens of a step. They see each other before anything is rounded or evicted.
    #[serde(default = "default_chunk")]
    #[schemars(with = "usize")]
    pub chunk: Spanned<usize>,
    /// Recall: facts of each kind that the model is asked for at each length: needles in the text, and lookups in a list of names and
    /// numbers. 0 leaves them out; else there are at least 6, because fewer right answers never tell caches apart.
    #[serde(default = "default_questions")]
    #[schemars(with = "usize")]
    pub questions: Spanned<usize>,
}

fn default_windows() -> Spanned<usize> {
    Spanned::new(0..0, 4)
}

fn default_steps() -> Spanned<usize> {
    Spanned::new(0..0, 64)
}

fn default_questions() -> Spanned<usize> {
    Spanned::new(0..0, 32)
}

fn default_chunk() -> Spanned<usize> {
    Spanned::new(0..0, 32)
}
