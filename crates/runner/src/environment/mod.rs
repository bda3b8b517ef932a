//! Facts about the machine and the build, and warnings about them.

mod steadiness;

use kv_kernels::KernelPath;
use kv_report::{Environment, Fact};
use sysinfo::System;

use crate::config::HugePages;

pub(crate) use steadiness::{Remedy, remedies};

/// Reads all facts. One that cannot be read has a reason instead of a value.
pub(crate) fn read(threads: usize) -> Environment {
    let system = System::new_all();
    let of_system = |name: &str, read: fn(&System) -> String| match &system {
        Ok(system) => known(name, read(system)),
        Err(error) => unknown(name, error),
    };
    let mut facts = vec![
        of_system("CPU", |system| system.cpus().first().map_or_else(String::new, |cpu| cpu.brand().trim().to_owned())),
        of_system("logical CPUs", |system| system.cpus().len().to_string()),
        known("threads used", threads.to_string()),
        of_system("memory", |system| format!("{:.1} GiB", system.total_memory() as f64 / (1u64 << 30) as f64)),
        fallible("system", System::long_os_version()),
        fallible("kernel", System::kernel_version()),
        fallible("load average at the start", System::load_average().map(|load| format!("{:.2}", load.one))),
        known("attention kernels", kernels()),
        known("products with weights", "kvlab's kernels up to 16 rows; gemm 0.19 on decoded tiles for more".into()),
        known("run-time checks", run_time_checks()),
    ];
    facts.extend(steadiness::facts());
    Environment { facts }
}

/// All facts, and what a run asks of the machine.
pub(crate) fn of_run(threads: usize, huge_pages: HugePages) -> Environment {
    let mut environment = read(threads);
    let asked = match huge_pages {
        HugePages::Advise => "2 MiB are asked for (advise)",
        HugePages::Never => "4 KiB are asked for (never)",
        HugePages::System => "whatever the system does (system)",
    };
    environment.facts.push(known("pages of buffers of 1 MiB and more, while times are measured", asked.into()));
    environment
}

/// The kernel path, and the other paths that the machine supports.
fn kernels() -> String {
    let others = KernelPath::available().into_iter().filter(|path| *path != KernelPath::current());
    let others: Vec<String> = others.map(|path| path.to_string()).collect();
    format!(
        "{} (this machine also supports {})",
        KernelPath::current(),
        if others.is_empty() { "no others".into() } else { others.join(", ") }
    )
}

/// Whether arithmetic and assertions are checked. A test ensures that the profile turns both on or both off.
fn run_time_checks() -> String {
    let state = |on: bool| if on { "on" } else { "off" };
    let kernels = state(kv_kernels::HAS_DEBUG_ASSERTIONS);
    format!("overflow checks and debug assertions {} in kvlab's crates, {kernels} in the attention kernels", state(cfg!(debug_assertions)))
}

/// Warnings about the machine and the program.
pub(crate) fn warnings() -> Vec<String> {
    let mut warnings = vec![];
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if let Some(load) = System::load_average().ok().map(|load| load.one).filter(|load| *load > 0.5 * cpus as f64) {
        warnings
            .push(format!("The machine was busy when the sweep started: load average {load:.2} on {cpus} CPUs. Timings may be too high."));
    }
    if !kv_metrics::counts_allocations() {
        warnings.push(
            "This program does not install the counting allocator, so heap bytes were not measured and the conformance check of the bytes was not run: see the documentation of `runner::main`."
                .into(),
        );
    }
    warnings
}

fn known(name: &str, value: String) -> Fact {
    Fact { name: name.into(), value: Some(value), reason: None }
}

fn unknown(name: &str, reason: impl ToString) -> Fact {
    Fact { name: name.into(), value: None, reason: Some(reason.to_string()) }
}

fn fallible(name: &str, value: Result<String, impl ToString>) -> Fact {
    match value {
        Ok(value) => known(name, value),
        Err(reason) => unknown(name, reason),
    }
}
