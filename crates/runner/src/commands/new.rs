//! `new`: a crate with a strategy of one's own, that compiles and passes at once.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::print;
use crate::{Problem, exit};

/// The template's files: where each goes and what it says.
const FILES: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("../../templates/strategy/Cargo.toml.template")),
    ("src/lib.rs", include_str!("../../templates/strategy/lib.rs.template")),
    ("src/main.rs", include_str!("../../templates/strategy/main.rs.template")),
    ("tests/conformance.rs", include_str!("../../templates/strategy/conformance.rs.template")),
    ("sweep.toml", include_str!("../../templates/strategy/sweep.toml.template")),
    (".gitignore", "/target\n/reports\n"),
];

/// The manifest of a crate that is made in kvlab's own `crates/`, and so is a member of its workspace.
const MEMBER_MANIFEST: &str = include_str!("../../templates/strategy/member.toml.template");

/// Where this runner's crates lay when it was built.
const CRATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

pub(crate) fn new(name: &str) -> Result<ExitCode, Problem> {
    check_name(name)?;
    let folder = Path::new(name);
    if folder.exists() {
        return Err(Problem::new(format!("`{name}` exists already: choose another name, or remove it")));
    }
    let crates = Path::new(CRATES).canonicalize().ok().filter(|crates| crates.join("kv-core").is_dir());
    let crates = crates.ok_or_else(|| {
        Problem::new(format!("kvlab's crates are not at `{CRATES}` any more"))
            .help("run it from a checkout: `cargo run -p runner -- new NAME`")
    })?;
    if crate::builtin().get(name).is_ok() {
        return Err(Problem::new(format!("kvlab has a strategy called `{name}`: choose another name")));
    }
    if crates.join(name).exists() {
        return Err(Problem::new(format!("kvlab itself has a crate called `{name}`: choose another name")));
    }
    let type_name: String = name.split(['-', '_']).map(capitalised).collect();
    let is_member = Path::new(".").canonicalize().is_ok_and(|here| here == crates);
    for (path, template) in FILES {
        let template = if path == "Cargo.toml" && is_member { MEMBER_MANIFEST } else { template };
        let text = template
            .replace("{{name}}", name)
            .replace("{{module}}", &name.replace('-', "_"))
            .replace("{{type}}", &type_name)
            .replace("{{crates}}", &crates.display().to_string());
        write(&folder.join(path), &text)?;
    }
    if !is_member && let Ok(versions) = std::fs::read_to_string(crates.join("../Cargo.lock")) {
        // The versions that kvlab is tested with; cargo drops what this crate does not need.
        write(&folder.join("Cargo.lock"), &versions)?;
    }
    let mut text = format!(
        "{name}/ holds a strategy that compiles and passes. In it:\n\n  cargo test                  # the conformance suite\n  cargo run -- sweep.toml     # beside the built-in strategies\n\nThen change src/lib.rs.\n"
    );
    if !is_member {
        let target = target_folder(&crates);
        write(&folder.join(".cargo/config.toml"), &sharing(&target))?;
        text.push_str(&format!(
            "\nIts builds go to kvlab's own folder, `{}`, so that Burn is not compiled again. For a folder of its own, \
             remove {name}/.cargo/config.toml; its first build then takes as long as kvlab's.\n",
            target.display()
        ));
    }
    print(&text)?;
    Ok(exit::OK)
}

/// The folder that kvlab is built in: the one this program lies in, unless it was installed elsewhere.
fn target_folder(crates: &Path) -> PathBuf {
    let program = std::env::current_exe().and_then(|program| program.canonicalize()).unwrap_or_default();
    // Cargo keeps this file in every folder that it builds in; the program lies in `debug` there, or in `TARGET/debug`.
    let built_in = program.ancestors().skip(2).take(2).find(|folder| folder.join(".rustc_info.json").is_file());
    built_in.map_or_else(|| crates.parent().unwrap_or(crates).join("target"), Path::to_owned)
}

/// Cargo's configuration for a crate that is built in another's folder.
fn sharing(target: &Path) -> String {
    let folder = toml::Value::String(target.display().to_string());
    format!(
        "# What kvlab has compiled, including Burn, is reused. `cargo clean` empties the folder for both;\n\
         # without this file the crate is built in a folder of its own.\n[build]\ntarget-dir = {folder}\n"
    )
}

/// Names that a crate's module cannot have: Rust's keywords and the crates that come with it.
const RESERVED: [&str; 51] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "unsafe",
    "use",
    "where",
];

fn check_name(name: &str) -> Result<(), Problem> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let good = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(is_word) && !name.ends_with(['-', '_']);
    if good && !RESERVED.contains(&name) {
        return Ok(());
    }
    Err(Problem::new(format!("`{name}` is not a valid crate name"))
        .help("lower-case letters, digits and hyphens, starting with a letter: `my-cache`"))
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or(String::new(), |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

fn write(path: &PathBuf, text: &str) -> Result<(), Problem> {
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, text));
    written.map_err(|error| Problem::new(format!("cannot write `{}`", path.display())).caused_by(error))
}
