//! Progress on standard error: a bar on a terminal, otherwise one line per cell.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use kv_report::{Status, Visit};

use crate::Problem;
use crate::config::OneOf;
use crate::screen::printable;

/// Progress in equal steps.
pub(crate) struct Steps {
    bar: ProgressBar,
}

impl Steps {
    pub(crate) fn new(what: &'static str, count: usize) -> Steps {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(count as u64) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg}, {eta} left") {
            bar.set_style(style);
        }
        bar.set_prefix(what);
        Steps { bar }
    }

    pub(crate) fn advance(&self, what: &str) {
        self.bar.set_message(printable(what));
        self.bar.inc(1);
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Progress of something that usually takes no time: nothing is shown until it has taken `quiet`.
pub(crate) struct LongTask {
    what: &'static str,
    quiet: Duration,
    bar: Option<ProgressBar>,
    started: Instant,
    next_line: Duration,
}

impl LongTask {
    pub(crate) fn new(what: &'static str, quiet: Duration) -> LongTask {
        LongTask { what, quiet, bar: None, started: Instant::now(), next_line: quiet }
    }

    /// Shows that `done` bytes of `all` are done.
    pub(crate) fn report(&mut self, done: u64, all: u64) {
        const BETWEEN_LINES: Duration = Duration::from_secs(5);
        let elapsed = self.started.elapsed();
        if elapsed < self.quiet || done == all {
            return;
        }
        if std::io::stderr().is_terminal() {
            let bar = self.bar.get_or_insert_with(|| {
                let bar = ProgressBar::new(all);
                if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {bytes}/{total_bytes}, {eta} left") {
                    bar.set_style(style);
                }
                bar.with_prefix(self.what)
            });
            bar.set_position(done);
        } else if elapsed >= self.next_line {
            self.next_line = elapsed + BETWEEN_LINES;
            let left = elapsed.as_secs_f64() * (all as f64 / done.max(1) as f64 - 1.0);
            say(&format!("{}: {} %, about {} left", self.what, 100 * done / all.max(1), human(left)));
        }
    }

    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Progress of a run in estimated seconds: what is really to be done, and what is in hand.
pub(crate) struct Progress {
    layer_scale: f64,
    /// Stands before what is being done; empty unless the model is one of several.
    of_model: String,
    bar: ProgressBar,
    is_terminal: bool,
    started: Instant,
    next_line: Duration,
    /// Cells to be timed, and those that were.
    cells: usize,
    timed: usize,
    /// Estimated seconds: left, done, and done of the piece in hand.
    left: f64,
    done: f64,
    in_hand: f64,
}

impl Progress {
    /// The progress of a run whose times are shown times this: see [`RunRecord::layer_scale`](kv_report::RunRecord::layer_scale).
    pub(crate) fn new(layer_scale: f64, one_of: Option<&OneOf>) -> Progress {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::new(Progress::PARTS) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg}") {
            bar.set_style(style);
        }
        let next_line = Progress::BETWEEN_LINES;
        *BAR.lock().unwrap_or_else(PoisonError::into_inner) = is_terminal.then(|| bar.clone());
        Progress {
            layer_scale,
            of_model: one_of.map_or(String::new(), |one| format!("{one}: ")),
            bar,
            is_terminal,
            started: Instant::now(),
            next_line,
            cells: 0,
            timed: 0,
            left: 0.0,
            done: 0.0,
            in_hand: 0.0,
        }
    }

    /// Says what is left to be done: estimated seconds, and cells to be timed.
    pub(crate) fn expect(&mut self, seconds: f64, cells: usize) {
        self.left = seconds;
        self.cells = self.timed + cells;
    }

    /// Parts of the bar.
    const PARTS: u64 = 1000;
    /// Where there is no bar, something is said from time to time.
    const BETWEEN_LINES: Duration = Duration::from_secs(15);

    /// Says what begins now. Where there is no bar, it is a line.
    pub(crate) fn begin(&mut self, what: &str) {
        if self.is_terminal {
            self.phase(what);
        } else {
            say(&format!("{}{what}", self.of_model));
        }
    }

    /// Says what is being done.
    pub(crate) fn phase(&mut self, what: &str) {
        let line = format!("{}{}, {}", self.of_model, printable(what), self.time_left());
        if self.is_terminal {
            let part = (self.done + self.in_hand) / (self.done + self.left).max(1e-9);
            self.bar.set_position((Progress::PARTS as f64 * part.min(1.0)) as u64);
            self.bar.set_message(line);
            self.bar.tick();
        } else if self.started.elapsed() >= self.next_line {
            self.next_line = self.started.elapsed() + Progress::BETWEEN_LINES;
            say(&line);
        }
    }

    /// Says that this part of a piece of so many estimated seconds is done.
    pub(crate) fn within(&mut self, seconds: f64, part: f64) {
        self.in_hand = seconds * part;
    }

    /// Says that a piece of so many estimated seconds is done.
    pub(crate) fn advance(&mut self, seconds: f64) {
        self.in_hand = 0.0;
        self.done += seconds;
    }

    /// Says that a cell was timed once more.
    pub(crate) fn count_cell(&mut self) {
        self.timed += 1;
    }

    /// Shows what a cell was measured to take.
    pub(crate) fn visit(&mut self, label: &str, seq_len: usize, batch: usize, visit: &Visit) {
        let batch = if batch > 1 { format!(" ×{batch}") } else { String::new() };
        let result = match (visit.status, &visit.error) {
            (Status::Ok, _) => times(visit, self.layer_scale),
            (status, error) => format!("{}: {}", status.to_string().to_uppercase(), error.as_deref().unwrap_or("no reason")),
        };
        let line = format!("{}[{}/{}] {label} at {seq_len}{batch}: {result}; {}", self.of_model, self.timed, self.cells, self.time_left());
        // Beside a bar, only what went wrong is worth a line.
        if !self.is_terminal || visit.status != Status::Ok {
            self.next_line = self.started.elapsed() + Progress::BETWEEN_LINES;
            say(&line);
        }
    }

    pub(crate) fn clear(&self) {
        *BAR.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.bar.finish_and_clear();
    }

    /// The remaining time, from the estimates and the speed so far.
    fn time_left(&self) -> String {
        /// The share of the work after which the speed so far says more than the estimates.
        const ENOUGH: f64 = 0.02;
        let done = self.done + self.in_hand;
        let left = (self.left - self.in_hand).max(0.0);
        let elapsed = self.started.elapsed().as_secs_f64();
        let rate = if done > ENOUGH * (done + left) { elapsed / done } else { 1.0 };
        let of = if self.of_model.is_empty() { "" } else { " of this model" };
        format!("about {} left{of}", human(rate * left))
    }
}

/// A cell's times in words.
fn times(visit: &Visit, layer_scale: f64) -> String {
    let mut steps: Vec<f64> = visit.steps.iter().filter(|step| step.phase == "decode" && !step.warm_up).map(|step| step.step_ms).collect();
    steps.sort_by(f64::total_cmp);
    let tpot = steps.get(steps.len() / 2).map_or("no step after the warm-up".into(), |ms| format!("{:.2} ms per token", ms * layer_scale));
    let ttft = visit.values.get("ttft_ms").map_or(String::new(), |ms| format!(", first token after {:.0} ms", ms * layer_scale));
    tpot + &ttft
}

/// The bar that is on the screen. Lines of others must not be written across it.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Prints a line on standard error. A closed stream is no reason to stop measuring.
pub(crate) fn say(line: &str) {
    let write = || {
        let _ = writeln!(std::io::stderr(), "{}", printable(line));
    };
    match &*BAR.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// A problem on the standard error stream, in colours where the terminal has them.
pub(crate) fn tell(problem: Problem) {
    let _ = writeln!(std::io::stderr(), "{:?}", miette::Report::new(problem));
}

/// Seconds in human-readable form.
pub(crate) fn human(seconds: f64) -> String {
    let seconds = Duration::from_secs_f64(seconds.clamp(0.0, 1e9)).as_secs();
    match seconds {
        0 => "1 s".into(),
        1..90 => format!("{seconds} s"),
        90..5400 => format!("{} min", (seconds + 30) / 60),
        _ => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}
