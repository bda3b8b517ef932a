//! How this program was built.

use std::fs::File;
use std::sync::OnceLock;

use crate::{Problem, hash};

/// The optimization level that cargo passed to the build script.
pub(crate) const OPT_LEVEL: &str = env!("RUNNER_OPT_LEVEL");
/// Cargo's base profile.
pub(crate) const PROFILE: &str = env!("RUNNER_PROFILE");
/// The target triple.
pub(crate) const TARGET: &str = env!("RUNNER_TARGET");
/// The compiler.
pub(crate) const RUSTC: &str = env!("RUNNER_RUSTC");
/// The commit. Empty outside a git checkout.
pub(crate) const COMMIT: &str = env!("RUNNER_COMMIT");

/// Whether the checkout had changes that were not committed. Empty outside a git checkout.
pub(crate) const DIRTY: &str = env!("RUNNER_DIRTY");

/// The SHA-256 of this program's file: two builds of the same commit can differ. Empty if the file cannot be read.
pub(crate) fn program_hash() -> String {
    static HASH: OnceLock<String> = OnceLock::new();
    let of_file = || hash::of_reader(File::open(crate::worker::process::own_program()?)?);
    HASH.get_or_init(|| of_file().unwrap_or_default()).clone()
}

/// Refuses to measure with an unoptimized build.
///
/// # Errors
/// A [`Problem`] that says which profile to set.
pub(crate) fn require_optimised() -> Result<(), Problem> {
    require_optimised_level(OPT_LEVEL, "this runner")
}

/// Refuses to measure with a program that was built at this level.
///
/// # Errors
/// As [`require_optimised`].
pub(crate) fn require_optimised_level(opt_level: &str, program: &str) -> Result<(), Problem> {
    if matches!(opt_level, "2" | "3") {
        return Ok(());
    }
    Err(Problem::new(format!("{program} was built at opt-level {opt_level}, so its timings would mean nothing"))
        .help("build with `--release`, or set `opt-level = 3` in `[profile.dev]` in your workspace's Cargo.toml"))
}
