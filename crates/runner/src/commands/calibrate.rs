//! `calibrate`: the smallest effect that this machine can show.
//!
//! One strategy runs against copies of itself. What they differ by is noise, and from its spread follows how many launches an
//! effect takes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use kv_core::Registry;
use kv_kernels::KernelPath;
use kv_metrics::{Judgement, Pooled};

use super::print;
use super::run::{Ran, prepare, run_file};
use crate::cli::{CalibrateArguments, PagesChoice, RunArguments};
use crate::config::{ConfigFile, load_config};
use crate::sweep::spreads;
use crate::table::Format;
use crate::{Problem, exit, run_folder};

/// What is run without a config.
const SMALL: &str = "[model]\npreset = \"tiny\"\n\n[sweep]\nlengths = [512, 2048]\ndecode_steps = 20\n\n[[strategy]]\nlabel = \
                     \"contiguous f16\"\nuse = \"contiguous\"\nconfig = { format = \"f16\" }\n";

/// Copies that are compared with each other, the baseline among them.
const COPIES: usize = 4;

pub(crate) fn calibrate(registry: &Registry, arguments: &CalibrateArguments, kernel_path: Option<KernelPath>) -> Result<ExitCode, Problem> {
    let CalibrateArguments { config, minutes, launches, threads, out, sets } = arguments;
    if !(*minutes > 0.0 && minutes.is_finite()) {
        return Err(Problem::new(format!("`--minutes {minutes}` is no time: it must be more than 0")));
    }
    if *launches < 3 {
        return Err(Problem::new(format!("`--launches {launches}` are too few to see a spread: 3 or more are needed")));
    }
    let file = match config {
        Some(path) => load_config(path, sets, &[])?,
        None => ConfigFile::of_text(Path::new("calibration.toml"), "the calibration's own config".into(), SMALL.into())?,
    };
    if config.is_none() && !sets.is_empty() {
        return Err(Problem::new("`--set` changes a config, and none is given"));
    }
    let strategies = file.config.strategies.len();
    let copies = file.of_copies(&baseline(&file)?, COPIES)?;
    let copies = with_launches(&copies, *launches)?;
    let command = command(arguments);
    // An unfinished calibration is worth nothing. Somebody else's run is.
    let overwrite = out.is_none();
    let out = out.clone().unwrap_or_else(|| PathBuf::from("reports/calibration"));
    let began = Instant::now();
    prepare()?;
    let code = run_file(registry, &copies, &as_run(&out, *threads, overwrite), kernel_path, Some(command)).map(Ran::code)?;
    let seconds = began.elapsed().as_secs_f64();
    if code != exit::OK {
        return Ok(code);
    }
    let Some(left) = run_folder::read(&out)? else { return Err(Problem::new("the calibration left no results")) };
    let spreads = spreads(&left.run, &left.visits);
    if spreads.is_empty() {
        return Err(Problem::new("nothing could be compared: a strategy that recomputes has no ratio to itself")
            .help("mark one that does not recompute with `baseline = true`"));
    }
    // The copies and the control take their turns; so will the config's strategies and theirs.
    let compared = strategies.saturating_sub(1).max(1);
    let all_launches: usize = spreads.iter().map(|(_, pooled)| pooled.launches).sum();
    let of_launch = seconds / all_launches.max(1) as f64 * spreads.len() as f64 * (compared + 2) as f64 / (COPIES + 1) as f64;
    let family = compared * spreads.len();
    let mut text = format!("\nFor {} compared at all lengths, a launch takes about {of_launch:.1} s.\n", in_words(compared + 1));
    for (block, pooled) in &spreads {
        let shown = |minutes: f64| smallest_effect(*pooled, (minutes * 60.0 / of_launch).floor(), family);
        let mut times = vec![1.0, 5.0, 20.0, *minutes];
        times.sort_by(f64::total_cmp);
        times.dedup();
        let effects: Vec<String> =
            times.iter().filter_map(|minutes| Some(format!("in {minutes} min {:.1} %", 100.0 * shown(*minutes)?))).collect();
        let told = if effects.is_empty() { "no effect in the times given".to_owned() } else { effects.join(", ") };
        text.push_str(&format!(
            "{block}: ratios of the same to itself spread by {:.1} % from launch to launch ({:.0} degrees of freedom). Smallest slowdown whose interval excludes 1 in 4 of 5 runs: {told}. If the whole interval lies within {} % (`margin`), the verdict is `same`.\n",
            100.0 * pooled.variance.sqrt(),
            pooled.degrees_of_freedom,
            100.0 * left.run.margin
        ));
    }
    print(&text)?;
    Ok(exit::OK)
}

/// The strategy that runs against itself: the marked one, or contiguous in f16, or the first.
fn baseline(file: &ConfigFile) -> Result<String, Problem> {
    let strategies = &file.config.strategies;
    let marked = strategies.iter().find(|instance| crate::plan::is_baseline(instance));
    let usual = || strategies.iter().find(|instance| crate::plan::is_usual_baseline(instance));
    let found = marked.or_else(usual).or(strategies.first());
    found.map(|instance| instance.label.get_ref().clone()).ok_or_else(|| Problem::new("there is no [[strategy]]: nothing to measure"))
}

/// The same config with this number of launches, none of which measures the time to first token.
fn with_launches(file: &ConfigFile, launches: u32) -> Result<ConfigFile, Problem> {
    file.with_sweep([("launches", i64::from(launches).into()), ("ttft", false.into())])
}

fn as_run(out: &Path, threads: Option<usize>, overwrite: bool) -> RunArguments {
    RunArguments {
        config: PathBuf::new(),
        model: None,
        out: Some(out.to_owned()),
        only: None,
        also: vec![],
        sets: vec![],
        partition: None,
        dry_run: false,
        seed: None,
        threads,
        pages: PagesChoice::Large,
        unchecked: true,
        resume: false,
        overwrite,
        keep_recordings: false,
        light: false,
        against: None,
        fail_on: None,
        format: Format::Plain,
    }
}

/// The command that calibrates again.
fn command(arguments: &CalibrateArguments) -> Vec<String> {
    let CalibrateArguments { config, minutes, launches, threads, sets, out } = arguments;
    let mut words = vec!["calibrate".to_owned()];
    words.extend(config.iter().map(|config| config.display().to_string()));
    let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
    add("--minutes", minutes.to_string());
    add("--launches", launches.to_string());
    threads.iter().for_each(|threads| add("--threads", threads.to_string()));
    sets.iter().for_each(|set| add("--set", set.clone()));
    out.iter().for_each(|out| add("--out", out.display().to_string()));
    words
}

fn in_words(count: usize) -> String {
    if count == 1 { "one strategy".into() } else { format!("{count} strategies") }
}

/// The slowdown, as a share, whose interval excludes 1 with a probability of 80 % after a number of launches. `None` if they are too few.
fn smallest_effect(pooled: Pooled, launches: f64, family: usize) -> Option<f64> {
    if launches < kv_metrics::LEAST_LAUNCHES as f64 {
        return None;
    }
    let degrees_of_freedom = pooled.degrees_of_freedom / (pooled.launches as f64 - 1.0) * (launches - 1.0);
    let planned = Pooled { degrees_of_freedom, launches: launches as usize, ..pooled };
    let to_exclude = kv_metrics::half_width(planned, Judgement::default().alpha / family.max(1) as f64);
    // One side of a probability of 20 %.
    let to_be_found = kv_metrics::half_width(planned, 0.4);
    Some((to_exclude + to_be_found).exp_m1())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_launches_show_smaller_effects() {
        let pooled = Pooled { variance: 0.02f64.powi(2), degrees_of_freedom: 18.0, launches: 8 };
        let of = |launches| smallest_effect(pooled, launches, 10).unwrap();
        assert!(of(8.0) > 0.02 && of(8.0) < 0.04, "{}", of(8.0));
        assert!((8..2000).map(|launches| of(f64::from(launches))).is_sorted_by(|a, b| a > b), "more time never shows less");
        assert!((of(32.0) / of(8.0) - 0.47).abs() < 0.05, "about half, and the quantiles shrink too: {}", of(32.0) / of(8.0));
        assert_eq!(smallest_effect(pooled, 2.0, 10), None);
    }

    #[test]
    fn the_small_config_is_one() {
        let file = ConfigFile::of_text(Path::new("x"), "x".into(), SMALL.into()).unwrap();
        let copies = with_launches(&file.of_copies(&baseline(&file).unwrap(), COPIES).unwrap(), 12).unwrap();
        assert_eq!(copies.config.strategies.len(), COPIES);
        assert_eq!(*copies.config.sweep.launches.get_ref(), 12);
        assert_eq!(copies.config.strategies.iter().filter(|instance| crate::plan::is_baseline(instance)).count(), 1);
    }
}
