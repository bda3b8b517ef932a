//! How times changed: what is shown of it.

use super::Place;

/// The time per token, which verdicts count.
pub(super) const STEP: &str = "tpot_ms_p50";

/// How times changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Times {
    /// Both sides are the same run.
    Same,
    /// They are not compared, for this reason.
    NotCompared(String),
    /// They are.
    Compared(TimeTable),
}

/// The changes of times.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeTable {
    /// How they were found and what their intervals mean, in sentences.
    pub how: Vec<String>,
    /// The changes.
    pub rows: Vec<TimeChange>,
    /// How much of them is noise, in sentences.
    pub floor: Vec<String>,
}

/// How a time of a cell changed.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeChange {
    /// The cell.
    pub place: Place,
    /// The id of the metric.
    pub metric: &'static str,
    /// Milliseconds on both sides.
    pub ms: (f64, f64),
    /// The second over the first.
    pub change: Change,
    /// That, over how the baseline changed. Between two runs, the verdict is on this.
    pub of_baseline: Option<Change>,
    /// As what the cell is timed.
    pub role: Role,
    /// What it says.
    pub verdict: TimeVerdict,
}

impl TimeChange {
    /// The change that the verdict is on.
    pub(super) fn judged_change(&self) -> Change {
        self.of_baseline.unwrap_or(self.change)
    }
}

/// A ratio with its interval, if there are launches enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// The ratio.
    pub ratio: f64,
    /// Where it lies.
    pub interval: Option<(f64, f64)>,
}

impl std::fmt::Display for Change {
    /// As tables show it.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.interval {
            Some((low, high)) => write!(formatter, "{:.3} [{low:.3}, {high:.3}]", self.ratio),
            None => write!(formatter, "{:.3}", self.ratio),
        }
    }
}

/// As what a cell is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The others of its length are compared with it.
    Baseline,
    /// The baseline's double, which shows the noise.
    Control,
    /// It is compared with the baseline.
    Compared,
    /// It is compared with nothing.
    Alone,
}

/// What a change says.
#[derive(Debug, Clone, PartialEq)]
pub enum TimeVerdict {
    /// The interval lies within the margin.
    Same,
    /// It takes less time.
    Faster,
    /// It takes more time: at least the lower end of the interval times as much.
    Slower {
        /// The lower end.
        at_least: f64,
    },
    /// More launches are needed to tell.
    Inconclusive,
    /// It is no larger than what the same code changes by.
    WithinFloor,
    /// It is the baseline's between two runs: it shows how much the machine changed, or what all cells share.
    Floor,
    /// There is none, for this reason.
    None(String),
}

impl std::fmt::Display for TimeVerdict {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            TimeVerdict::Same => "same",
            TimeVerdict::Faster => "faster",
            TimeVerdict::Slower { .. } => "slower",
            TimeVerdict::Inconclusive => "inconclusive",
            TimeVerdict::WithinFloor => "within the floor",
            TimeVerdict::Floor => "floor",
            TimeVerdict::None(_) => "-",
        })
    }
}

impl Times {
    /// What was found, in sentences.
    pub(super) fn sentences(&self) -> Vec<String> {
        let table = match self {
            Times::Same => return vec!["Both are the same run: its times are what they are.".into()],
            Times::NotCompared(reason) => return vec![format!("Times are not compared: {reason}.")],
            Times::Compared(table) => table,
        };
        let steps = || table.rows.iter().filter(|row| row.metric == STEP && row.role != Role::Control);
        let of = |is: fn(&TimeVerdict) -> bool| steps().filter(|row| is(&row.verdict)).count();
        let judged = steps().filter(|row| !matches!(row.verdict, TimeVerdict::None(_) | TimeVerdict::Floor)).count();
        let slower = of(|verdict| matches!(verdict, TimeVerdict::Slower { .. }));
        let faster = of(|verdict| matches!(verdict, TimeVerdict::Faster));
        let same = of(|verdict| matches!(verdict, TimeVerdict::Same));
        let mut sentences = vec![format!(
            "Time per output token, of {}: {slower} slower, {faster} faster, {same} the same; of {} that cannot be told.",
            super::counted(judged, "cell"),
            judged - slower - faster - same
        )];
        let mut reasons: Vec<&str> = vec![];
        for row in steps() {
            if let TimeVerdict::None(reason) = &row.verdict
                && !reasons.contains(&reason.as_str())
            {
                reasons.push(reason);
            }
        }
        sentences.extend(reasons.into_iter().map(|reason| format!("No verdict where {reason}.")));
        sentences
    }
}
