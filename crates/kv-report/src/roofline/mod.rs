//! How much of a machine's read bandwidth decode attention reaches, as a report: the measurements, and their chart, sentences,
//! table and page.

mod chart;
mod csv;
#[cfg(test)]
mod example;
mod page;
mod sentences;

use std::fmt;

use serde::Serialize;

pub use chart::roofline_charts;
pub use csv::roofline_csv;
pub use page::roofline_html;

use crate::{BuildRecord, Environment, counted};

/// The layout that the others are compared with.
const CONTIGUOUS: &str = "contiguous";

/// The measurements, and what a reader must know to trust them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RooflineReport {
    /// The command that measures the same again.
    pub command: String,
    /// When it began.
    pub started: String,
    /// A hash of the machine's id.
    pub machine_id: Option<String>,
    /// How the program was built.
    pub build: BuildRecord,
    /// The machine and the program, read before anything was measured.
    pub environment: Environment,
    /// What spoke against trusting times then, as sentences.
    pub warnings: Vec<String>,
    /// What was measured.
    #[serde(flatten)]
    pub roofline: Roofline,
}

/// The measurements.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Roofline {
    /// Threads that read at once.
    pub threads: usize,
    /// The instruction set of the kernels.
    pub kernel_path: String,
    /// The memory pages that the caches ask for.
    pub huge_pages: String,
    /// Tokens in each cache.
    pub tokens: usize,
    /// Times that everything took its turn in a launch.
    pub rounds: usize,
    /// Processes, one after the other.
    pub launches: usize,
    /// Of the order in which everything took its turn.
    pub seed: u32,
    /// The share by which times may differ and still be the same.
    pub margin: f64,
    /// `None` where the system does not say.
    pub last_level_cache_bytes: Option<usize>,
    /// Of all threads together, of a buffer that no cache holds, in the pages that are read faster.
    pub read_bandwidth: Located,
    /// Those pages.
    pub read_bandwidth_pages: String,
    /// For each model, what contiguous f32, timed twice, takes of its own time: the noise.
    pub controls: Vec<(String, Judged)>,
    /// Every format in every layout, model by model.
    pub rows: Vec<RooflineRow>,
}

/// A format in a layout.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RooflineRow {
    /// Whose shape the cache has.
    pub model: String,
    /// How keys and values are encoded.
    pub format: String,
    /// Where the tokens lie in memory.
    pub layout: String,
    /// Encoded keys and values that one token's attention reads in a layer, scales included.
    pub layer_bytes: usize,
    /// Encoded bytes read per second.
    pub bytes_per_second: Located,
    /// That rate over the read bandwidth of the same launch.
    pub of_bandwidth: Located,
    /// Time of one token's attention in one layer.
    pub layer_seconds: Located,
    /// Time over that of the contiguous layout in f32, paired by round. `None` for that one itself.
    pub time_over_f32: Option<Judged>,
    /// Time over that of the contiguous layout in the same format, paired by round. `None` for that layout itself.
    pub time_over_contiguous: Option<Judged>,
}

/// A value and where it lies with 95 %, by the medians of the launches.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Located {
    /// The value.
    pub value: f64,
    /// `None` with fewer than three launches.
    pub interval: Option<(f64, f64)>,
}

/// A ratio with its interval, which is corrected for all of its column, and what it says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// The ratio.
    pub ratio: f64,
    /// `None` with fewer than three launches.
    pub interval: Option<(f64, f64)>,
    /// As comparisons of strategies are judged: faster, same, slower or inconclusive. `None` with fewer than three launches.
    pub verdict: Option<String>,
}

impl Roofline {
    /// What numbers in brackets and verdicts mean.
    pub fn legend(&self) -> String {
        if self.read_bandwidth.interval.is_none() {
            return "There are no intervals and no verdicts: they take 3 launches. Times over others are paired by round.".into();
        }
        format!(
            "In brackets, where a value lies with 95 %, by the medians of the launches. Times over others are paired by round; if all were alike, any ratio of a column would exclude 1 with a probability of 5 %. same: within {} %; faster, slower: the interval excludes 1; inconclusive: neither.",
            100.0 * self.margin
        )
    }

    /// How often everything took its turn: "4 launches of 30 rounds".
    pub fn effort(&self) -> String {
        format!("{} of {}", counted(self.launches, "launch"), counted(self.rounds, "round"))
    }

    /// The models, each once, in order.
    fn models(&self) -> Vec<&str> {
        let mut models: Vec<&str> = self.rows.iter().map(|row| row.model.as_str()).collect();
        models.dedup();
        models
    }

    fn rows_of(&self, model: &str) -> Vec<&RooflineRow> {
        self.rows.iter().filter(|row| row.model == model).collect()
    }
}

impl RooflineRow {
    /// Whether the other layouts of its format are compared with it.
    fn is_contiguous(&self) -> bool {
        self.layout == CONTIGUOUS
    }

    /// Its times over those of contiguous f32 and of the contiguous layout in the same format, as tables show them: 1 is the
    /// reference's own.
    pub fn shown_times(&self) -> [String; 2] {
        let shown = |judged: &Option<Judged>, is_reference: bool| match judged {
            Some(judged) => judged.to_string(),
            None => if is_reference { "1" } else { "-" }.to_owned(),
        };
        let is_contiguous = self.is_contiguous();
        [shown(&self.time_over_f32, is_contiguous && self.format == "f32"), shown(&self.time_over_contiguous, is_contiguous)]
    }
}

impl Located {
    /// The value times a factor and its interval, with this number of decimals: "0.85 [0.80, 0.90]".
    pub fn shown(&self, factor: f64, decimals: usize) -> String {
        let interval =
            self.interval.map_or(String::new(), |(low, high)| format!(" [{:.decimals$}, {:.decimals$}]", factor * low, factor * high));
        format!("{:.decimals$}{interval}", factor * self.value)
    }
}

impl Judged {
    /// The ratio and its interval, without what they say.
    fn numbers(&self) -> String {
        Located { value: self.ratio, interval: self.interval }.shown(1.0, 2)
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = self.verdict.as_ref().map_or(String::new(), |verdict| format!(" {verdict}"));
        write!(formatter, "{}{verdict}", self.numbers())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_measurements_beside_where_they_were_made() {
        let report = example::report();
        let json = serde_json::to_value(&report).unwrap();
        let measurements = serde_json::to_value(&report.roofline).unwrap();
        for (name, value) in measurements.as_object().unwrap() {
            assert_eq!(&json[name], value, "{name}: scripts for the measurements alone read the file too");
        }
        assert_eq!(json["command"], "runner roofline tiny");
        assert_eq!(json["build"]["commit"], "313960b");
        assert_eq!(json["environment"]["facts"][0]["name"], report.environment.facts[0].name.as_str());
    }

    #[test]
    fn the_reference_is_1_and_what_was_not_compared_is_told_from_it() {
        let mut roofline = example::roofline();
        assert_eq!(roofline.rows[0].shown_times(), ["1", "1"]);
        let paged = roofline.rows.iter_mut().find(|row| row.layout != CONTIGUOUS).unwrap();
        (paged.time_over_f32, paged.time_over_contiguous) = (None, None);
        assert_eq!(paged.shown_times(), ["-", "-"]);
        assert!(roofline.legend().contains("same: within 3 %"), "{}", roofline.legend());
        let few = example::of_two_launches();
        assert!(few.legend().starts_with("There are no intervals"), "{}", few.legend());
    }

    #[test]
    fn a_ratio_is_shown_with_what_is_known_of_it() {
        let judged = |interval, verdict: Option<&str>| Judged { ratio: 0.5, interval, verdict: verdict.map(str::to_owned) };
        assert_eq!(judged(Some((0.456, 0.55)), Some("faster")).to_string(), "0.50 [0.46, 0.55] faster");
        assert_eq!(judged(None, None).to_string(), "0.50");
        assert_eq!(Located { value: 2.34e9, interval: Some((2e9, 3e9)) }.shown(1e-9, 1), "2.3 [2.0, 3.0]");
    }
}
