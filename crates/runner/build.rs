//! Records how the runner was built, for the report.

use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let or_unknown = |output: Option<String>| output.unwrap_or_default();
    for (name, value) in [
        ("RUNNER_OPT_LEVEL", std::env::var("OPT_LEVEL").unwrap_or_default()),
        ("RUNNER_PROFILE", std::env::var("PROFILE").unwrap_or_default()),
        ("RUNNER_TARGET", std::env::var("TARGET").unwrap_or_default()),
        ("RUNNER_RUSTC", or_unknown(first_line(&rustc, &["--version"]))),
        ("RUNNER_DIRTY", or_unknown(dirty())),
        ("RUNNER_COMMIT", or_unknown(first_line("git", &["rev-parse", "--short=12", "HEAD"]))),
    ] {
        println!("cargo::rustc-env={name}={value}");
    }
    // Every source of the workspace: the flag of uncommitted changes depends on all of them.
    for path in ["..", "../../Cargo.toml", "../../Cargo.lock"] {
        println!("cargo::rerun-if-changed={path}");
    }
    // The files that record the checked-out commit. Missing outside a git checkout.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = first_line("git", &["rev-parse", "--git-path", name]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

/// Whether the checkout differs from the commit, new files included.
fn dirty() -> Option<String> {
    let output = Command::new("git").args(["status", "--porcelain"]).output().ok()?;
    output.status.success().then(|| (!output.stdout.is_empty()).to_string())
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(str::to_owned)
}
