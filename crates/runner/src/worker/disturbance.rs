//! What else the machine did while an instance took its steps, as Linux counts it.

use std::time::{Duration, Instant};

/// What the kernel has counted so far. What it does not say is `None`.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    /// Time that this process's threads were ready to run and waited for a processor.
    waited: Option<Duration>,
    /// Time that the machine's host gave to others, over all processors, in ticks.
    stolen: Option<u64>,
    /// Pages that were mapped in.
    faults: Option<u64>,
    /// Of those, the ones that were read from a disk.
    major_faults: Option<u64>,
}

/// A measurement under way.
pub(super) struct Watch {
    began: Instant,
    before: Counters,
}

/// What happened during the bursts of an instance.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Disturbance {
    elapsed: Duration,
    waited: Option<Duration>,
    stolen: Option<Duration>,
    faults: Option<u64>,
    major_faults: Option<u64>,
    bursts: usize,
}

/// Linux counts in hundredths of a second towards programs, whatever its own clock is.
const TICK: Duration = Duration::from_millis(10);
/// So little is not told from nothing.
const LEAST_STOLEN: Duration = Duration::from_millis(20);

impl Watch {
    pub(super) fn start() -> Watch {
        Watch { before: Counters::read(), began: Instant::now() }
    }

    pub(super) fn stop(self) -> Disturbance {
        let elapsed = self.began.elapsed();
        let after = Counters::read();
        let grown = |before: Option<u64>, after: Option<u64>| Some(after?.saturating_sub(before?));
        let waited = self.before.waited.zip(after.waited).map(|(before, after)| after.saturating_sub(before));
        let stolen = grown(self.before.stolen, after.stolen).map(|ticks| TICK * u32::try_from(ticks).unwrap_or(u32::MAX));
        Disturbance {
            elapsed,
            waited,
            stolen,
            faults: grown(self.before.faults, after.faults),
            major_faults: grown(self.before.major_faults, after.major_faults),
            bursts: 1,
        }
    }
}

impl Disturbance {
    pub(super) fn add(&mut self, other: Disturbance) {
        if self.bursts == 0 {
            *self = other;
            return;
        }
        self.elapsed += other.elapsed;
        self.waited = self.waited.zip(other.waited).map(|(a, b)| a + b);
        self.stolen = self.stolen.zip(other.stolen).map(|(a, b)| a + b);
        self.faults = self.faults.zip(other.faults).map(|(a, b)| a + b);
        self.major_faults = self.major_faults.zip(other.major_faults).map(|(a, b)| a + b);
        self.bursts += other.bursts;
    }

    /// Its numbers by metric: shares of the elapsed time, of a thread and of a processor.
    pub(super) fn values(&self) -> Vec<(&'static str, f64)> {
        let share = |time: Duration| time.as_secs_f64() / self.elapsed.as_secs_f64().max(1e-9);
        let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
        let mut values = vec![];
        values.extend(self.waited.map(|waited| ("run_delay_share", share(waited) / rayon::current_num_threads() as f64)));
        // One tick more or less is chance.
        let told = |stolen: Duration| if stolen > LEAST_STOLEN { stolen } else { Duration::ZERO };
        values.extend(self.stolen.map(|stolen| ("steal_share", share(told(stolen)) / processors)));
        values.extend(self.faults.map(|faults| ("page_faults", faults as f64)));
        values.extend(self.major_faults.map(|faults| ("major_page_faults", faults as f64)));
        values
    }
}

impl Counters {
    fn read() -> Counters {
        let (minor, major) = faults().unzip();
        Counters { waited: waited(), stolen: stolen(), faults: minor.zip(major).map(|(minor, major)| minor + major), major_faults: major }
    }
}

/// Of all threads: the second number of `schedstat`, in nanoseconds.
fn waited() -> Option<Duration> {
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += text.split_whitespace().nth(1)?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(nanoseconds))
}

/// The eighth number of the line of all processors.
fn stolen() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    text.lines().next()?.split_whitespace().nth(8)?.parse().ok()
}

/// Minor and major faults: the 10th and the 12th field. The second is the program's name in parentheses, which may hold blanks.
fn faults() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some((number(7)?, number(9)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_system_counts_and_counts_on() {
        if !cfg!(target_os = "linux") {
            return;
        }
        let watch = Watch::start();
        let touched = std::hint::black_box(vec![1u8; 64 << 20]);
        let mut disturbance = Disturbance::default();
        disturbance.add(watch.stop());
        let values = disturbance.values();
        assert_eq!(
            values.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            ["run_delay_share", "steal_share", "page_faults", "major_page_faults"]
        );
        assert!(values[2].1 >= 16.0, "{values:?} for {} bytes", touched.len());
        assert!(values.iter().all(|(_, value)| value.is_finite() && *value >= 0.0));
    }
}
