//! `visits.jsonl`: a log with one line for each finished pass over a cell. Tables, charts and pages are drawn from it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{METRICS, QualityPoint, ReportError, WorkloadPoint, metric};

/// A finished pass over a cell: a line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Visit {
    /// The cell's id.
    pub cell: String,
    /// The comparison block in which the cell was timed. The baseline is timed in several.
    pub block: Option<String>,
    /// What the pass was for.
    pub pass: Pass,
    /// Which launch of the cell's process it was, from 0.
    pub launch: u32,
    /// The process that timed it. Times are paired within a process only. `None` for other passes, and in older results.
    #[serde(default)]
    pub process: Option<u32>,
    /// Whether this is the control: the baseline, timed a second time as an instance of its own. What the two differ by is noise.
    #[serde(default)]
    pub control: bool,
    /// The build whose worker made it.
    #[serde(default, skip_serializing_if = "Build::is_own")]
    pub build: Build,
    /// The instance's turn in each round, from 0: the order is drawn at random. Empty in older results.
    #[serde(default)]
    pub turns: Vec<u32>,
    /// How it ended.
    pub status: Status,
    /// Where it was when it failed.
    pub phase: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// The cache's guarantee relative to recomputation.
    pub guarantee: Option<String>,
    /// How the cache came to its depth.
    pub fill: Option<Fill>,
    /// Where the time to first token comes from.
    pub ttft_source: Option<TtftSource>,
    /// What a reader must know of its numbers.
    pub notes: Vec<String>,
    /// Its numbers by the id of their metric.
    #[schemars(extend("propertyNames" = { "enum": METRICS.map(|metric| metric.id).to_vec() }))]
    pub values: BTreeMap<String, f64>,
    /// Where some of them lie with 95 %, by the id of their metric: low and high.
    #[serde(default)]
    pub intervals: BTreeMap<String, (f64, f64)>,
    /// Its timed steps, in order.
    pub steps: Vec<StepTime>,
    /// The cache along a text, token by token.
    #[serde(default)]
    pub text: Vec<TextPoint>,
    /// Numbers of parts of it: of layers, depths and places.
    #[serde(default)]
    pub quality: Vec<QualityPoint>,
    /// Numbers at places of its script, of a workload that is one.
    #[serde(default)]
    pub workload: Vec<WorkloadPoint>,
}

/// A cache after a token of a text was committed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextPoint {
    /// Tokens in each sequence.
    pub tokens: usize,
    /// Live heap bytes of the cache. `None` if they were not counted.
    pub heap_bytes: Option<u64>,
    /// Time of begin, append and commit over all layers, in milliseconds, without attention. `None` if it was not timed.
    pub keep_ms: Option<f64>,
}

/// A build of the program. A run with `--against` times two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Build {
    /// The one that runs: the run's rows are its.
    #[default]
    Own,
    /// The one that it is compared with.
    Other,
}

impl Build {
    fn is_own(&self) -> bool {
        *self == Build::Own
    }
}

/// What a pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    /// The conformance suite, without which nothing is measured.
    Gate,
    /// The model drives the cache and every step is timed.
    Latency,
    /// The cache runs alone and its bytes are counted.
    Memory,
    /// The cache runs alone and is followed along a text, token by token.
    Text,
    /// The model computed the prompt, which shows whether a composed time to first token holds.
    Check,
    /// The cache runs alone, and its attention is compared with dense attention.
    Attention,
    /// The model reads a text with the cache and with an exact one, and their predictions are compared.
    Quality,
}

/// How a pass or a cell ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It was measured.
    #[default]
    Ok,
    /// It was refused or it failed. `error` says why.
    Failed,
    /// It took longer than it may.
    Timeout,
    /// It took more memory than it may.
    Oom,
    /// The strategy cannot do what the workload asks for. `error` says what.
    Unsupported,
}

impl std::fmt::Display for Status {
    /// In words, as tables and the page show it.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Status::Ok => "ok",
            Status::Failed => "failed",
            Status::Timeout => "timed out",
            Status::Oom => "out of memory",
            Status::Unsupported => "not supported",
        })
    }
}

/// How a cache came to its depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// The model ran the prompt.
    Prefill,
    /// The rows of a recorded, exactly computed prompt were appended without the model.
    Replay,
    /// Every token was a step of its own.
    Steps,
    /// Rows that were generated were appended without a model.
    Generated,
}

impl std::fmt::Display for Fill {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Fill::Prefill => "prefill",
            Fill::Replay => "replay",
            Fill::Steps => "steps",
            Fill::Generated => "generated",
        })
    }
}

/// Where a time to first token comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TtftSource {
    /// A prefill was timed.
    Prefill,
    /// It is the sum of the model's recorded prefill and the cache's own replayed one.
    Composed,
    /// It is the cache's own, without a model.
    Cache,
}

impl std::fmt::Display for TtftSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            TtftSource::Prefill => "prefill",
            TtftSource::Composed => "composed",
            TtftSource::Cache => "cache",
        })
    }
}

/// A timed step and its parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepTime {
    /// The phase: "prefill" or "decode".
    pub phase: String,
    /// Index of the step within the phase.
    pub step: usize,
    /// The round of which it is a step, from 0. A prefill belongs to none.
    #[serde(default)]
    pub round: u32,
    /// Whether the step is left out of medians and percentiles. The first step of a round is: what another instance left in the
    /// processor's caches is not its own. So are the steps of rounds before the times are steady.
    pub warm_up: bool,
    /// Tokens in the sequence after the step.
    pub position: usize,
    /// Time of the whole step, in milliseconds.
    pub step_ms: f64,
    /// Time of begin, append, attend, commit and the end of the prompt over all layers, in milliseconds.
    pub cache_ms: f64,
    /// Time to copy each sequence's rows out of the batch for the cache, in milliseconds. The rest of the step is the model.
    pub seam_ms: f64,
}

impl Visit {
    /// A pass that went well and has measured nothing yet.
    pub fn passed(cell: &str, pass: Pass) -> Visit {
        Visit {
            cell: cell.to_owned(),
            block: None,
            pass,
            launch: 0,
            process: None,
            control: false,
            build: Build::Own,
            turns: vec![],
            status: Status::Ok,
            phase: None,
            error: None,
            guarantee: None,
            fill: None,
            ttft_source: None,
            notes: vec![],
            values: BTreeMap::new(),
            intervals: BTreeMap::new(),
            steps: vec![],
            text: vec![],
            quality: vec![],
            workload: vec![],
        }
    }

    /// A pass that ended in this phase, for this reason.
    pub fn failed(cell: &str, pass: Pass, status: Status, phase: &str, reason: &str) -> Visit {
        Visit { status, phase: Some(phase.to_owned()), error: Some(reason.to_owned()), ..Visit::passed(cell, pass) }
    }

    /// The visit as a line of the log: JSON and a line break, with no other line break in it.
    ///
    /// # Errors
    /// [`ReportError::UnknownMetric`] names a value's id that is none of [`METRICS`](crate::METRICS).
    /// [`ReportError::NotFinite`] names a number that JSON cannot hold.
    pub fn to_line(&self) -> Result<String, ReportError> {
        self.require_known_metrics()?;
        let times = self.steps.iter().flat_map(|step| [("step_ms", step.step_ms), ("cache_ms", step.cache_ms), ("seam_ms", step.seam_ms)]);
        let values = self.values.iter().map(|(id, value)| (id.as_str(), *value));
        let along = self.text.iter().filter_map(|point| Some(("keep_ms", point.keep_ms?)));
        if let Some((name, value)) = values.chain(times).chain(along).find(|(_, value)| !value.is_finite()) {
            return Err(ReportError::NotFinite { cell: self.cell.clone(), name: name.into(), value });
        }
        let json = serde_json::to_string(self).map_err(|source| ReportError::Json { file: FILE, source })?;
        Ok(json + "\n")
    }

    fn of_line(line: &[u8]) -> Result<Visit, ReportError> {
        let visit: Visit = serde_json::from_slice(line).map_err(|source| ReportError::Json { file: FILE, source })?;
        visit.require_known_metrics()?;
        Ok(visit)
    }

    /// No value is ignored, so each must have a place in the tables.
    fn require_known_metrics(&self) -> Result<(), ReportError> {
        match self.values.keys().find(|id| metric(id).is_none()) {
            Some(id) => Err(ReportError::UnknownMetric { id: id.clone() }),
            None => Ok(()),
        }
    }
}

/// The name of the file, for messages.
const FILE: &str = "visits.jsonl";

/// Reads the log. A last line without its line break, or one that is cut, is left out. The second value is the length in
/// bytes of the part that is sound, to which the caller truncates the file before it appends to it.
///
/// Whole numbers below 2^53 come back as they were written. `serde_json` reads others to within a few units in the last
/// place, so rows that are to be the same when they are made again are made of what this function returns.
///
/// # Errors
/// [`ReportError::Line`] names a damaged line before the last. A last line that is whole but is no visit is an error too:
/// it was not written by this version, and nothing that is whole may be cut off.
pub fn read_visits(log: &[u8]) -> Result<(Vec<Visit>, usize), ReportError> {
    let mut visits = vec![];
    let mut sound = 0;
    for (index, line) in log.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if !line.ends_with(b"\n") {
            break;
        }
        let is_last = sound + line.len() == log.len();
        match Visit::of_line(line) {
            Ok(visit) => visits.push(visit),
            Err(ReportError::Json { source, .. }) if is_last && !source.is_data() => break,
            Err(error) => return Err(ReportError::Line { line: index + 1, source: Box::new(error) }),
        }
        sound += line.len();
    }
    Ok((visits, sound))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    fn log() -> Vec<u8> {
        example::visits().iter().map(|visit| visit.to_line().unwrap()).collect::<String>().into_bytes()
    }

    #[test]
    fn a_log_comes_back() {
        let log = log();
        assert_eq!(read_visits(&log).unwrap(), (example::visits(), log.len()));
        assert_eq!(read_visits(b"").unwrap(), (vec![], 0));
    }

    /// Runs of one build are as they were before there were others.
    #[test]
    fn only_the_other_build_is_named() {
        let own = example::visits().remove(0);
        assert!(!own.to_line().unwrap().contains("\"build\""));
        let other = Visit { build: Build::Other, ..own };
        let line = other.to_line().unwrap();
        assert!(line.contains("\"build\":\"other\""), "{line}");
        assert_eq!(read_visits(line.as_bytes()).unwrap().0, [other]);
    }

    #[test]
    fn a_visit_is_one_line_whatever_its_texts_are() {
        let mut visit = example::visits()[0].clone();
        visit.cell = "a\nb\r\n\u{2028}\"\\ ×".into();
        visit.error = Some("two\nlines\n".into());
        let line = visit.to_line().unwrap();
        assert_eq!(line.find('\n'), Some(line.len() - 1));
        assert_eq!(read_visits(line.as_bytes()).unwrap().0, [visit]);
    }

    #[test]
    fn a_log_cut_at_any_byte_keeps_its_whole_lines() {
        let log = log();
        for length in 0..=log.len() {
            let cut = &log[..length];
            let whole = cut.iter().filter(|byte| **byte == b'\n').count();
            let sound = cut.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            assert_eq!(read_visits(cut).unwrap(), (example::visits()[..whole].to_vec(), sound), "{length}");
        }
    }

    #[test]
    fn a_last_line_that_is_cut_but_has_a_line_break_is_left_out() {
        for torn in ["{\"cell\":\"a\",\"pa\n", "\n", "\0\0\0\0\n", "\0\0\0", "}\n"] {
            let mut torn_log = log();
            torn_log.extend(torn.as_bytes());
            assert_eq!(read_visits(&torn_log).unwrap(), (example::visits(), log().len()), "{torn:?}");
        }
        assert_eq!(read_visits(b"\xff\xfe\n").unwrap(), (vec![], 0));
    }

    #[test]
    fn a_damaged_line_before_the_last_is_named() {
        let whole = String::from_utf8(log()).unwrap();
        let (first, rest) = whole.split_once('\n').unwrap();
        for damaged in [format!("{first}\n{}\n{rest}", &first[..20]), format!("{first}\n\n{rest}"), format!("{first}\n[1]\n{rest}")] {
            let error = read_visits(damaged.as_bytes()).unwrap_err();
            assert!(matches!(error, ReportError::Line { line: 2, .. }), "{error:?}");
            assert!(error.to_string().contains("line 2"), "{error}");
        }
    }

    #[test]
    fn nothing_whole_is_cut_off_and_no_key_is_ignored() {
        let line = example::visits()[0].to_line().unwrap();
        let surplus = line.replacen('{', "{\"surplus\":1,", 1);
        let surplus_in_step = line.replacen("{\"phase\"", "{\"surplus\":1,\"phase\"", 1);
        let unknown = line.replacen("\"values\":{", "\"values\":{\"ttft\":1.0,", 1);
        for (last, named) in [(surplus, "surplus"), (surplus_in_step, "surplus"), (unknown, "ttft")] {
            assert_ne!(last, line);
            let error = read_visits(last.as_bytes()).unwrap_err();
            let mut causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            assert!(causes.any(|cause| cause.to_string().contains(named)), "{error:?}");
        }
    }

    #[test]
    fn a_number_that_cannot_be_kept_is_refused() {
        let mut visit = example::visits()[0].clone();
        visit.values.insert("tpot_ms_p95".into(), f64::NAN);
        assert!(matches!(visit.to_line(), Err(ReportError::NotFinite { name, .. }) if name == "tpot_ms_p95"));
        let mut visit = example::visits()[0].clone();
        visit.steps[1].seam_ms = f64::INFINITY;
        assert!(matches!(visit.to_line(), Err(ReportError::NotFinite { name, .. }) if name == "seam_ms"));
        let mut visit = example::visits()[0].clone();
        visit.values.insert("tpot".into(), 1.0);
        assert!(matches!(visit.to_line(), Err(ReportError::UnknownMetric { id }) if id == "tpot"));
    }
}
