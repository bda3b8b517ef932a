//! Models in the cache of the Hugging Face hub, as `hf download` and `transformers` leave them there.
//!
//! In `models--ORG--NAME`, `refs/REVISION` holds the commit of a branch or tag, and `snapshots/COMMIT` the files: links
//! into `blobs`, or the files themselves on a system without links. The layout is described in
//! <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>.

use std::path::{Path, PathBuf};

use crate::Problem;
use crate::models::hub_name::{HubName, Reading};
use crate::models::small_file::read_small;
use crate::models::snapshot::Snapshot;

/// The branch that is meant if none is named.
const MAIN: &str = "main";

/// A reference holds a commit, which has 40 characters.
const MOST_REFERENCE_BYTES: u64 = 1024;

/// At most this many files and commits are named in a message.
const SHOWN: usize = 4;

/// The folder of a model, or the GGUF file, that a name leads to.
///
/// # Errors
/// A [`Problem`] that names the folder searched, says what is missing there, and gives the command that brings it.
pub(super) fn find(name: &HubName, cache: Option<&Path>) -> Result<PathBuf, Problem> {
    let cache = cache.ok_or_else(|| {
        Problem::new("the user has no home folder with a Hugging Face cache").help("set HF_HUB_CACHE to the folder of the cache")
    })?;
    let repository = cache.join(format!("models--{}", name.repository.replace('/', "--")));
    for reading in &name.readings {
        if let Some(folder) = snapshot_folder(name, reading, &repository)? {
            let snapshot = Snapshot::read(&folder)?;
            return match reading.file {
                Some(file) => gguf_file(name, reading, file, &folder, &snapshot),
                None => whole_model(name, reading, folder, &snapshot),
            };
        }
    }
    Err(absent(name, cache, &repository))
}

/// The folder of the snapshot that a revision names, if the cache knows the revision.
fn snapshot_folder(name: &HubName, reading: &Reading, repository: &Path) -> Result<Option<PathBuf>, Problem> {
    let revision = reading.revision.unwrap_or(MAIN);
    let reference = repository.join(format!("refs/{revision}"));
    let snapshot = |commit: &str| repository.join(format!("snapshots/{commit}"));
    let Some(text) = read_small(&reference, MOST_REFERENCE_BYTES)? else {
        return Ok(Some(snapshot(revision)).filter(|folder| is_commit(revision) && folder.is_dir()));
    };
    let commit = text.trim();
    if !is_commit(commit) {
        return Err(Problem::new(format!("`{}` holds no commit: it must be 40 hexadecimal digits", reference.display()))
            .help(format!("`{}` writes it anew", name.download(reading))));
    }
    let folder = snapshot(commit);
    if !folder.is_dir() {
        return Err(incomplete(name, reading, &folder, "the folder is missing"));
    }
    Ok(Some(folder))
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn gguf_file(name: &HubName, reading: &Reading, file: &str, folder: &Path, snapshot: &Snapshot) -> Result<PathBuf, Problem> {
    let path = folder.join(file);
    if path.is_file() {
        return Ok(path);
    }
    if snapshot.is_dangling(file) {
        return Err(incomplete(name, reading, folder, &format!("`{file}` is a link to a file that does not exist")));
    }
    let others = match snapshot.gguf_files().as_slice() {
        [] => String::new(),
        others => format!("; its GGUF files are {}", list(others)),
    };
    Err(Problem::new(format!("`{}` has no file `{file}`{others}", folder.display()))
        .help(format!("`{}` brings it", name.download(reading))))
}

fn whole_model(name: &HubName, reading: &Reading, folder: PathBuf, snapshot: &Snapshot) -> Result<PathBuf, Problem> {
    if snapshot.has_only_gguf() {
        let files = snapshot.gguf_files();
        let file = format!("{}/{}", name.written, files[0]);
        return Err(Problem::new(format!("the weights in `{}` are only GGUF files: {}", folder.display(), list(&files)))
            .help(format!("name one of them: `gguf = \"{file}\"` in a config, or `--model {file}`")));
    }
    match snapshot.lacks() {
        Some(what) => Err(incomplete(name, reading, &folder, &what)),
        None => Ok(folder),
    }
}

fn incomplete(name: &HubName, reading: &Reading, folder: &Path, what: &str) -> Problem {
    Problem::new(format!("the snapshot `{}` of `{}` is incomplete: {what}", folder.display(), name.repository))
        .help(format!("`{}` brings what is missing", name.download(reading)))
}

/// Says that the cache does not have a model, or not this revision of it.
fn absent(name: &HubName, cache: &Path, repository: &Path) -> Problem {
    let first = &name.readings[0];
    let commits = commits(repository);
    let message = match commits.as_slice() {
        [] => {
            format!("`{}` is no path, and the Hugging Face cache `{}` does not have `{}`", name.written, cache.display(), name.repository)
        }
        commits => {
            let revision = first.revision.unwrap_or(MAIN);
            let commits: Vec<&str> = commits.iter().map(String::as_str).collect();
            format!("`{}` does not have the revision `{revision}`, but the commits {}", repository.display(), list(&commits))
        }
    };
    Problem::new(message).help(format!("`{}` brings it; if the cache is elsewhere, set HF_HUB_CACHE", name.download(first)))
}

/// The commits of which the cache has a snapshot, complete or not.
fn commits(repository: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(repository.join("snapshots")).into_iter().flatten();
    let mut commits: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    commits.retain(|commit| is_commit(commit));
    commits.sort();
    commits
}

/// The first few of some names.
fn list(names: &[&str]) -> String {
    let shown = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown}, … ({} in all)", names.len()) } else { shown }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba98";

    /// A cache with `org/name`: references with their commits, and the files of the snapshot of [`COMMIT`].
    fn cache(references: &[(&str, &str)], files: &[&str]) -> TempDir {
        let cache = tempfile::tempdir().unwrap();
        let repository = cache.path().join("models--org--name");
        std::fs::create_dir_all(repository.join("blobs")).unwrap();
        let write = |path: PathBuf, contents: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, contents).unwrap();
        };
        references.iter().for_each(|(reference, commit)| write(repository.join("refs").join(reference), commit));
        files.iter().for_each(|file| write(repository.join(format!("snapshots/{COMMIT}")).join(file), "{}"));
        cache
    }

    fn snapshot(cache: &TempDir) -> PathBuf {
        cache.path().join(format!("models--org--name/snapshots/{COMMIT}"))
    }

    /// The path relative to the snapshot, or the message with its help.
    fn find(cache: &TempDir, name: &str) -> Result<String, String> {
        let found = super::find(&HubName::parse(name).unwrap(), Some(cache.path()));
        let relative = |path: PathBuf| path.strip_prefix(snapshot(cache)).unwrap().display().to_string();
        found.map(relative).map_err(|problem| {
            let help = miette::Diagnostic::help(&problem).map_or(String::new(), |help| help.to_string());
            format!("{problem}; {help}")
        })
    }

    fn assert_refused(cache: &TempDir, name: &str, expected: &[&str]) {
        let problem = find(cache, name).unwrap_err();
        for part in expected {
            assert!(problem.contains(part), "{name}: `{part}` is missing in {problem}");
        }
    }

    const WHOLE: [&str; 2] = ["config.json", "model.safetensors"];

    #[test]
    fn a_revision_is_a_reference_or_a_commit_and_main_if_none_is_named() {
        let newline = format!("{COMMIT}\n");
        let cache = cache(&[("main", COMMIT), ("v1", &newline), ("refs/pr/1", COMMIT)], &WHOLE);
        for revision in ["", "@main", "@v1", "@refs/pr/1", &format!("@{COMMIT}")] {
            assert_eq!(find(&cache, &format!("org/name{revision}")).unwrap(), "", "{revision}");
        }
    }

    #[test]
    fn a_file_is_found_in_folders_and_at_revisions_with_slashes() {
        let cache = cache(&[("main", COMMIT), ("refs/pr/1", COMMIT)], &["a.gguf", "Q4/b.gguf"]);
        for (name, file) in [
            ("org/name/a.gguf", "a.gguf"),
            ("org/name/Q4/b.gguf", "Q4/b.gguf"),
            ("org/name@main/Q4/b.gguf", "Q4/b.gguf"),
            ("org/name@refs/pr/1/Q4/b.gguf", "Q4/b.gguf"),
        ] {
            assert_eq!(find(&cache, name).unwrap(), file, "{name}");
        }
    }

    #[test]
    fn what_is_absent_is_said_with_the_folder_and_the_command() {
        let empty = tempfile::tempdir().unwrap();
        let folder = empty.path().to_str().unwrap();
        for (name, command) in [
            ("org/name", "`hf download org/name` brings it"),
            ("org/name@v2", "`hf download org/name --revision v2` brings it"),
            ("org/name/a.gguf", "`hf download org/name a.gguf` brings it"),
            ("org/name@v2/q/a.gguf", "`hf download org/name q/a.gguf --revision v2` brings it"),
        ] {
            assert_refused(&empty, name, &[folder, "does not have `org/name`", command]);
        }
        let problem = super::find(&HubName::parse("org/name").unwrap(), None).unwrap_err();
        assert!(problem.to_string().contains("no home folder"), "{problem}");
    }

    #[test]
    fn a_cache_with_other_revisions_or_files_says_which() {
        let cache = cache(&[("main", COMMIT)], &["a.gguf"]);
        assert_refused(&cache, "org/name@v2", &["does not have the revision `v2`", COMMIT, "--revision v2"]);
        assert_refused(&cache, &format!("org/name@{OTHER}"), &["does not have the revision", OTHER, COMMIT]);
        assert_refused(
            &cache,
            "org/name/b.gguf",
            &["has no file `b.gguf`", "its GGUF files are `a.gguf`", "`hf download org/name b.gguf`"],
        );
    }

    #[test]
    fn a_snapshot_without_all_its_files_is_incomplete() {
        let again = "`hf download org/name` brings what is missing";
        let main = [("main", COMMIT)];
        for (files, expected) in [
            (&["config.json"][..], "it has no .safetensors file"),
            (&["config.json", "pytorch_model.bin"], "`pytorch_model.bin` is in a format that is not read"),
            (&["model.safetensors"], "config.json is missing"),
            (&["README.md"], "config.json is missing"),
            (&["config.json", "onnx/model.safetensors"], "it has no .safetensors file"),
        ] {
            assert_refused(&cache(&main, files), "org/name", &["is incomplete", expected, again]);
        }
        let cache = cache(&main, &["config.json", "model-1.safetensors"]);
        let index = r#"{ "weight_map": { "a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-2.safetensors" } }"#;
        std::fs::write(snapshot(&cache).join("model.safetensors.index.json"), index).unwrap();
        assert_refused(&cache, "org/name", &["is incomplete", "1 of the files", "`model-2.safetensors`", again]);
        std::fs::write(snapshot(&cache).join("model-2.safetensors"), "").unwrap();
        assert_eq!(find(&cache, "org/name").unwrap(), "");
    }

    #[test]
    fn a_reference_without_a_snapshot_or_without_a_commit_is_refused() {
        let long = "0".repeat(2000);
        for (commit, expected) in [
            (OTHER, "the folder is missing"),
            ("", "holds no commit"),
            ("../../..", "holds no commit"),
            ("main", "holds no commit"),
            (long.as_str(), "is longer than 1024 bytes"),
        ] {
            let cache = cache(&[("main", commit)], &WHOLE);
            assert_refused(&cache, "org/name", &[expected, "models--org--name"]);
        }
    }

    #[test]
    fn a_snapshot_of_gguf_files_says_how_to_name_one() {
        let cache = cache(&[("v1", COMMIT)], &["config.json", "b.gguf", "Q8/a-00001.gguf"]);
        let expected =
            ["only GGUF files: `Q8/a-00001.gguf`, `b.gguf`", "`gguf = \"org/name@v1/Q8/a-00001.gguf\"`", "`--model org/name@v1/Q8"];
        assert_refused(&cache, "org/name@v1", &expected);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_those_that_lead_nowhere_make_a_snapshot_incomplete() {
        use std::os::unix::fs::symlink;
        let cache = cache(&[("main", COMMIT)], &["config.json", "Q4/whole.gguf"]);
        let blobs = cache.path().join("models--org--name/blobs");
        for name in ["here", "whole"] {
            std::fs::write(blobs.join(name), "").unwrap();
        }
        symlink("../../blobs/here", snapshot(&cache).join("model.safetensors")).unwrap();
        symlink("../../../blobs/gone", snapshot(&cache).join("Q4/a.gguf")).unwrap();
        // Never walked in circles.
        symlink("..", snapshot(&cache).join("Q4/circle")).unwrap();
        assert_eq!(find(&cache, "org/name").unwrap(), "", "a GGUF file is not part of the folder's model");
        let file = ["is incomplete", "`Q4/a.gguf` is a link to a file that does not exist", "`hf download org/name Q4/a.gguf`"];
        assert_refused(&cache, "org/name/Q4/a.gguf", &file);
        symlink("../../blobs/gone", snapshot(&cache).join("tokenizer.json")).unwrap();
        assert_refused(&cache, "org/name", &["is incomplete", "`tokenizer.json` is a link to a file that does not exist"]);
        std::fs::remove_file(blobs.join("here")).unwrap();
        assert_refused(&cache, "org/name", &["is incomplete", "`model.safetensors` is a link to a file that does not exist"]);
    }
}
