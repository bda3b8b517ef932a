//! What makes timings of a machine more or less steady, and what can be done about it.

use std::fs;

use kv_report::Fact;

use super::{fallible, known, unknown};
use crate::roofline::last_level_cache;

/// Something that speaks against trusting timings.
pub(crate) struct Remedy {
    /// What was found, as a sentence.
    pub(crate) finding: String,
    /// What to do about it, as a sentence.
    pub(crate) advice: &'static str,
}

const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
const GOVERNOR: &str = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
const SIBLINGS: &str = "/sys/devices/system/cpu/cpu0/topology/thread_siblings_list";
const WAITING: &str = "/proc/pressure/cpu";

/// The facts. One that cannot be read has a reason instead of a value.
pub(super) fn facts() -> Vec<Fact> {
    vec![
        fallible("huge pages of the system", text(HUGE_PAGES)),
        fallible("CPU frequency governor", text(GOVERNOR)),
        fallible("logical CPUs of the first core", text(SIBLINGS)),
        match last_level_cache() {
            Some(bytes) => known("last-level cache", format!("{} MiB", bytes >> 20)),
            None => unknown("last-level cache", "the system does not say"),
        },
        known("virtual machine", if is_virtual() { "yes, or the processor says so".into() } else { "no sign of one".into() }),
        match stolen_share() {
            Some(share) => known("time given to others by the host, since the start", format!("{:.2} %", 100.0 * share)),
            None => unknown("time given to others by the host, since the start", "/proc/stat does not say"),
        },
        fallible("waiting for a CPU, last 10 s", waiting().ok_or("/proc/pressure/cpu does not say").map(|share| format!("{share} %"))),
    ]
}

/// What speaks against trusting timings now.
pub(crate) fn remedies() -> Vec<Remedy> {
    let mut remedies = vec![];
    let mut add = |applies: bool, finding: String, advice: &'static str| {
        if applies {
            remedies.push(Remedy { finding, advice });
        }
    };
    add(
        !kv_metrics::counts_allocations(),
        "This program does not install the counting allocator.".into(),
        "Install it (see the documentation of `runner::main`): without it neither bytes are counted nor pages are under control.",
    );
    let pages = text(HUGE_PAGES);
    add(
        pages.as_ref().is_ok_and(|pages| pages.contains("[never]")),
        "The system offers no huge pages.".into(),
        "As root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled. With pages of 4 KiB, identical caches differ by several percent from launch to launch.",
    );
    let governor = text(GOVERNOR);
    add(
        governor.as_ref().is_ok_and(|governor| governor != "performance"),
        format!("The CPU frequency governor is `{}`.", governor.as_deref().unwrap_or_default()),
        "As root: cpupower frequency-set -g performance.",
    );
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let load = sysinfo::System::load_average().ok().map_or(0.0, |load| load.one);
    add(
        load > 0.5 * cpus as f64,
        format!("The machine is busy: load average {load:.2} on {cpus} CPUs."),
        "Stop other programs: verdicts stay honest, but get inconclusive.",
    );
    add(
        stolen_share().is_some_and(|share| share > 0.01),
        "The machine's host gives more than 1 % of its time to others.".into(),
        "Use a machine of its own, or more launches.",
    );
    add(
        text(SIBLINGS).is_ok_and(|siblings| siblings.contains([',', '-'])),
        "Two logical CPUs share a core.".into(),
        "Give --threads the number of cores, so that threads do not share one.",
    );
    remedies
}

fn text(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(|error| format!("{path}: {error}"))
}

/// Processors of virtual machines have a flag for it.
fn is_virtual() -> bool {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    flags.lines().find(|line| line.starts_with("flags")).is_some_and(|line| line.split_whitespace().any(|flag| flag == "hypervisor"))
}

/// Of the time since the machine started: the eighth of the numbers for all processors.
fn stolen_share() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<f64> = stat.lines().next()?.split_whitespace().skip(1).take(8).filter_map(|ticks| ticks.parse().ok()).collect();
    Some(ticks.get(7)? / ticks.iter().sum::<f64>())
}

/// Percent of the last 10 seconds in which some thread waited for a processor.
fn waiting() -> Option<f64> {
    let pressure = fs::read_to_string(WAITING).ok()?;
    let line = pressure.lines().find(|line| line.starts_with("some"))?;
    line.split_whitespace().find_map(|field| field.strip_prefix("avg10="))?.parse().ok()
}
