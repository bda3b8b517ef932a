//! The other build of a run of two: its program, and what is asked of the comparison.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kv_report::{CONDITIONS, FailOn, OtherBuild};

use crate::build::require_optimised_level;
use crate::plan::Plan;
use crate::sweep::Probes;
use crate::{Problem, hash};

/// The program of the other build, by an absolute path: a plain name would be looked for elsewhere.
///
/// # Errors
/// A [`Problem`] if there is no program.
pub(crate) fn program(path: &Path) -> Result<PathBuf, Problem> {
    const HELP: &str = "give the program of another build, for example target/debug/runner of another checkout";
    let unusable = |reason: &str| Problem::new(format!("`--against {}`: {reason}", path.display())).help(HELP);
    let metadata = fs::metadata(path).map_err(|error| unusable("it cannot be read").caused_by(error))?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(unusable("it is no program"));
    }
    std::path::absolute(path).map_err(|error| unusable("it cannot be found").caused_by(error))
}

/// What is recorded of the other build, whose program lies in this path and was given under that one.
///
/// # Errors
/// A [`Problem`] if the program cannot be read, or was not optimized.
pub(crate) fn record(program: &Path, given: &Path, probes: &Probes, fail_on: Option<&str>) -> Result<OtherBuild, Problem> {
    let given = given.display().to_string();
    let unreadable = |error: std::io::Error| Problem::new(format!("cannot read `{given}`")).caused_by(error);
    let hash = hash::of_reader(File::open(program).map_err(unreadable)?).map_err(unreadable)?;
    let build = probes.build().cloned().unwrap_or_default();
    require_optimised_level(&build.opt_level, &format!("`{given}`"))?;
    Ok(OtherBuild { program: given, hash, build, fail_on: fail_on.map(str::to_owned) })
}

/// Reads the conditions of `--fail-on`.
///
/// # Errors
/// A [`Problem`] that says what is wrong, and what would be right.
pub(crate) fn conditions(text: &str) -> Result<FailOn, Problem> {
    FailOn::parse(text).map_err(|wrong| Problem::new(format!("`--fail-on`: {wrong}")).help(CONDITIONS))
}

/// Refuses conditions that a plan gives no answer to.
///
/// # Errors
/// A [`Problem`] that says what the config would have to say.
pub(crate) fn require_answers(conditions: &FailOn, plan: &Plan) -> Result<(), Problem> {
    let least = kv_metrics::LEAST_LAUNCHES;
    if conditions.judges_times() && (plan.launches as usize) < least {
        let launches = plan.launches as usize;
        return Err(Problem::new(format!(
            "`--fail-on`: with {} there is no verdict on times, and {least} are needed",
            kv_report::counted(launches, "launch")
        ))
        .help("raise `launches` in [sweep]; differences of some percent take 8 or more"));
    }
    let has_text = plan.quality.as_ref().is_some_and(|quality| quality.text.is_some());
    if conditions.judges_divergence() && !has_text {
        return Err(Problem::new("`--fail-on`: the KL divergence is not measured: the config has no text in [quality]")
            .help("add `[quality]` with a `text`, or leave `kld` out"));
    }
    Ok(())
}
