//! How this program was compiled.

use crate::Problem;

/// Level of optimisation, as cargo told the build script.
pub(crate) const OPT_LEVEL: &str = env!("RUNNER_OPT_LEVEL");
/// Cargo's base profile.
pub(crate) const PROFILE: &str = env!("RUNNER_PROFILE");
/// What it was compiled for.
pub(crate) const TARGET: &str = env!("RUNNER_TARGET");
/// The compiler.
pub(crate) const RUSTC: &str = env!("RUNNER_RUSTC");
/// The commit, or nothing outside a git checkout.
pub(crate) const COMMIT: &str = env!("RUNNER_COMMIT");

/// Refuses to measure with a build that was not optimised.
///
/// # Errors
/// A [`Problem`] that says which profile to set.
pub(crate) fn require_optimised() -> Result<(), Problem> {
    if matches!(OPT_LEVEL, "2" | "3") {
        return Ok(());
    }
    Err(Problem::new(format!("this runner was built at opt-level {OPT_LEVEL}, and its timings would mean nothing"))
        .help("build with `--release`, or put `[profile.dev]` with `opt-level = 3` into your workspace's Cargo.toml"))
}
