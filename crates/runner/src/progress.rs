//! Progress of a sweep on standard error: a bar on a terminal, otherwise one line per cell.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use kv_report::{Row, Status};

use crate::Problem;
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

/// Progress in cells, weighted by their estimated time.
pub(crate) struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
    started: Instant,
    cells: usize,
    done: usize,
    estimated_total: f64,
    estimated_done: f64,
}

impl Progress {
    pub(crate) fn new(estimates: &[f64]) -> Progress {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::new(estimates.len() as u64) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        let estimated_total = estimates.iter().sum();
        Progress { bar, is_terminal, started: Instant::now(), cells: estimates.len(), done: 0, estimated_total, estimated_done: 0.0 }
    }

    pub(crate) fn start(&self, label: &str, seq_len: usize) {
        self.bar.set_message(format!("{label} at {seq_len}, {}", self.time_left()));
        self.bar.tick();
    }

    pub(crate) fn finish(&mut self, row: &Row, estimate: f64) {
        self.done += 1;
        self.estimated_done += estimate;
        let what = format!("{} at {}{}", row.label, row.seq_len, if row.batch > 1 { format!(" ×{}", row.batch) } else { String::new() });
        let result = match (row.status, &row.error) {
            (Status::Failed, error) => format!("FAILED: {}", error.as_deref().unwrap_or("no reason")),
            (Status::Ok, _) => {
                let tpot = row.tpot_ms_p50.map_or("no step after the warm-up".to_owned(), |ms| format!("{ms:.2} ms per token"));
                format!("{tpot}, first token after {:.0} ms", row.ttft_ms.unwrap_or_default())
            }
        };
        let line = format!("[{}/{}] {what}: {result}; {}", self.done, self.cells, self.time_left());
        if self.is_terminal {
            self.bar.inc(1);
            if row.status == Status::Failed {
                self.bar.println(printable(&line));
            }
        } else {
            say(&line);
        }
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// The remaining time, from the estimates and the speed so far.
    fn time_left(&self) -> String {
        if self.done == self.cells {
            return "done".into();
        }
        if self.estimated_done <= 0.0 {
            return format!("about {} in all", human(self.estimated_total));
        }
        let rate = self.started.elapsed().as_secs_f64() / self.estimated_done;
        format!("about {} left", human(rate * (self.estimated_total - self.estimated_done)))
    }
}

/// Prints a line on standard error. A closed stream is no reason to stop measuring.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", printable(line));
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
