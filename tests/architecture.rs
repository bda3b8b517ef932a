//! The invariants of ARCHITECTURE.md, checked against `cargo metadata` and the sources.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The workspace's crates, and the workspace crates that each may depend on.
const ALLOWED: [(&str, &[&str]); 15] = [
    ("kv-core", &[]),
    ("kv-kernels", &[]),
    ("kv-metrics", &[]),
    ("kv-script", &["kv-core"]),
    ("kv-conformance", &["kv-core", "kv-metrics", "kv-script"]),
    ("kv-naive", &["kv-core", "kv-kernels"]),
    ("kv-contiguous", &["kv-core", "kv-kernels"]),
    ("kv-paged", &["kv-core", "kv-kernels"]),
    ("kv-sliding", &["kv-core", "kv-kernels"]),
    ("kv-quantized", &["kv-core", "kv-kernels"]),
    ("kv-model", &["kv-core", "kv-kernels"]),
    ("kv-quality", &["kv-core", "kv-kernels", "kv-metrics", "kv-script"]),
    ("kv-report", &[]),
    (
        "runner",
        &[
            "kv-core",
            "kv-kernels",
            "kv-metrics",
            "kv-script",
            "kv-conformance",
            "kv-naive",
            "kv-contiguous",
            "kv-paged",
            "kv-sliding",
            "kv-quantized",
            "kv-model",
            "kv-quality",
            "kv-report",
        ],
    ),
    ("workspace-tests", &[]),
];

/// The normal dependencies of each crate, from `cargo metadata`. Its JSON is read directly, because a crate for it
/// would enable another feature of `serde_json`, and Burn would be built twice.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"]).arg(manifest);
    let metadata: Value = serde_json::from_slice(&cargo.output().unwrap().stdout).expect("cargo describes its own workspace");
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let all = package["dependencies"].as_array().unwrap().iter();
            (name(package), all.filter(|dependency| dependency["kind"].is_null()).map(name).collect())
        })
        .collect()
}

#[test]
fn a_crate_depends_only_on_what_the_architecture_allows() {
    let dependencies = dependencies();
    let known: BTreeSet<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    let actual: BTreeSet<&str> = dependencies.keys().map(String::as_str).collect();
    assert_eq!(known, actual, "every crate of the workspace has its place");
    for (name, allowed) in ALLOWED {
        for dependency in dependencies[name].iter().filter(|dependency| known.contains(dependency.as_str())) {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn the_report_knows_no_tensors_and_the_kernels_no_burn() {
    let dependencies = dependencies();
    for name in ["kv-report", "kv-kernels", "kv-metrics"] {
        assert!(!dependencies[name].contains("burn"), "{name} must not depend on burn");
    }
}

/// Every `.rs` file below a folder, with its text.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

fn crate_sources(name: &str) -> Vec<(String, String)> {
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates").join(name).join("src"))
}

#[test]
fn only_the_kernels_and_the_allocator_may_be_unsafe() {
    for (name, _) in ALLOWED.iter().filter(|(name, _)| !matches!(*name, "kv-kernels" | "kv-metrics" | "workspace-tests")) {
        let root = crate_sources(name).into_iter().find(|(path, _)| path.ends_with("src/lib.rs")).unwrap();
        assert!(root.1.contains("#![forbid(unsafe_code)]"), "{name} must forbid unsafe code");
    }
}

#[test]
fn only_the_runner_reads_files_arguments_and_the_environment() {
    for (name, _) in ALLOWED.iter().filter(|(name, _)| !matches!(*name, "runner" | "workspace-tests")) {
        // A test that measures its whole process starts one of its own.
        for (path, text) in crate_sources(name).into_iter().filter(|(path, _)| !path.ends_with("kv-conformance/src/own_process.rs")) {
            for forbidden in ["std::fs", "std::env", "std::process"] {
                assert!(!text.contains(forbidden), "{path} uses {forbidden}");
            }
        }
    }
}

#[test]
fn only_builtin_names_the_strategies() {
    let strategies = ["kv_naive", "kv_contiguous", "kv_paged", "kv_sliding", "kv_quantized"];
    let mentions = |text: &str| strategies.iter().any(|strategy| text.contains(strategy));
    for name in ["kv-model", "kv-report", "kv-conformance", "kv-core"] {
        for (path, text) in crate_sources(name) {
            assert!(!mentions(&text), "{path} names a strategy");
        }
    }
    for (path, text) in crate_sources("runner") {
        assert!(!mentions(&text) || path.ends_with("src/lib.rs"), "{path} names a strategy");
    }
}

/// Every crate of the workspace but the kernels is compiled with overflow checks and debug assertions, by
/// `cargo run -p runner` and `cargo test --workspace`, and in the workspace of a plug-in.
#[test]
fn the_dev_profile_checks_arithmetic_everywhere_but_in_the_kernels() {
    let dev_profile = |path: &str| {
        let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap();
        // The templates' own placeholders stand in front of the profile.
        let (_, profile) = manifest.split_once("[profile.dev]").unwrap();
        format!("[profile.dev]{profile}").parse::<toml::Table>().unwrap()["profile"]["dev"].clone()
    };
    let checks = |profile: &toml::Value| ["debug-assertions", "overflow-checks"].map(|key| profile.get(key).and_then(toml::Value::as_bool));
    let own = dev_profile("Cargo.toml");
    let members = ALLOWED.map(|(name, _)| name).into_iter().filter(|name| *name != "workspace-tests");
    for name in members.clone() {
        let exempt = own["package"].get(name).map(checks);
        assert_eq!(exempt, (name == "kv-kernels").then_some([Some(false); 2]), "{name} in kvlab's workspace");
    }
    assert_eq!(checks(&own), [Some(true); 2]);
    for path in ["crates/runner/templates/strategy/Cargo.toml.template", "tests/third-party/recent-window/Cargo.toml"] {
        let plug_in = dev_profile(path);
        assert_eq!(checks(&plug_in), [Some(true); 2], "{path}");
        assert_eq!(checks(&plug_in["package"]["*"]), [Some(false); 2], "{path}: dependencies");
        for name in members.clone() {
            let checked = plug_in["package"].get(name).map(checks);
            assert_eq!(checked, (name != "kv-kernels").then_some([Some(true); 2]), "{name} in {path}");
        }
    }
}

#[test]
#[should_panic(expected = "overflow")]
fn an_overflow_panics() {
    let most = std::hint::black_box(usize::MAX);
    std::hint::black_box(most + 1);
}

#[test]
fn files_stay_readable() {
    for (name, _) in ALLOWED.iter().filter(|(name, _)| *name != "workspace-tests") {
        for (path, text) in crate_sources(name) {
            assert!(text.lines().count() <= 450, "{path} has {} lines: which second concept is in it?", text.lines().count());
        }
    }
}
