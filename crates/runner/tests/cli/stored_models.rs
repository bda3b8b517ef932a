//! Models that other programs keep, by their names: the Hugging Face cache and Ollama's folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;
use tempfile::TempDir;
use workspace_tests::chain::Chain;
use workspace_tests::gguf::Gguf;

use crate::{ONE, runner, text, words};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A home folder with both stores where they are if no variable says otherwise.
struct Home(TempDir);

impl Home {
    /// `ada/chain` as a folder and `ada/chain-gguf` as a file in the Hugging Face cache, and `chain:1b` in Ollama's folder.
    fn new() -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        let chain = Chain::new(300).then(&[1, 2, 3]);
        let made = home.path("made");
        std::fs::create_dir(&made).unwrap();
        chain.write(&made);
        for file in ["config.json", "model.safetensors"] {
            home.store("ada--chain", file, &std::fs::read(made.join(file)).unwrap());
        }
        let gguf = Gguf::of(&chain, "llama").bytes();
        home.store("ada--chain-gguf", "Q4/chain.gguf", &gguf);
        home.write(&format!(".ollama/models/blobs/sha256-{HASH}"), &gguf);
        let layer = json!({ "mediaType": "application/vnd.ollama.image.model", "digest": format!("sha256:{HASH}"), "size": gguf.len() });
        let manifest = json!({ "schemaVersion": 2, "layers": [layer] }).to_string();
        home.write(".ollama/models/manifests/registry.ollama.ai/library/chain/1b", manifest.as_bytes());
        home
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, contents: &[u8]) {
        std::fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        std::fs::write(self.path(path), contents).unwrap();
    }

    /// Puts a file of a model into the Hugging Face cache, as a link to a blob where there are links.
    fn store(&self, model: &str, file: &str, contents: &[u8]) {
        let repository = format!(".cache/huggingface/hub/models--{model}");
        self.write(&format!("{repository}/refs/main"), COMMIT.as_bytes());
        let stored = format!("{repository}/snapshots/{COMMIT}/{file}");
        #[cfg(unix)]
        {
            let blob = file.replace('/', "-");
            self.write(&format!("{repository}/blobs/{blob}"), contents);
            let up = "../".repeat(2 + file.matches('/').count());
            std::fs::create_dir_all(self.path(&stored).parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(format!("{up}blobs/{blob}"), self.path(&stored)).unwrap();
        }
        #[cfg(not(unix))]
        self.write(&stored, contents);
    }

    fn runner(&self, arguments: &[&str]) -> Command {
        let mut command = runner(arguments);
        for variable in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "OLLAMA_MODELS"] {
            command.env_remove(variable);
        }
        command.env("HOME", self.0.path()).env("USERPROFILE", self.0.path());
        command
    }

    /// Runs a config in the home folder whose `[model]` is this.
    fn sweep(&self, model: &str, more: &[&str]) -> Output {
        let config = format!("[model]\n{model}\n[sweep]\nlengths = [8]\ndecode_steps = 2\n{ONE}");
        std::fs::write(self.path("sweep.toml"), config).unwrap();
        let mut arguments = vec!["sweep.toml", "--out", "report"];
        arguments.extend(more);
        self.runner(&arguments).current_dir(self.0.path()).output().unwrap()
    }

    fn generate(&self, model: &str) -> Command {
        self.runner(&["generate", "--model", model, "--prompt", "\"", "--max-new-tokens", "2"])
    }
}

fn assert_refused(output: &Output, expected: &[&str]) {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    for part in expected {
        assert!(words(&message).contains(part), "`{part}` is missing in\n{message}");
    }
    assert!(!message.contains("loading"), "refused before anything is loaded: {message}");
}

#[test]
fn a_model_is_found_by_its_name_and_has_the_name_in_the_results() {
    let home = Home::new();
    for (model, label) in [
        ("hugging_face = 'ada/chain'", "ada/chain"),
        ("gguf = 'ada/chain-gguf/Q4/chain.gguf'", "ada/chain-gguf/Q4/chain.gguf"),
        ("gguf = 'ollama:chain:1b'", "chain:1b"),
    ] {
        let output = home.sweep(model, &["--unchecked"]);
        assert!(output.status.success(), "{model}: {}", text(&output.stderr));
        let csv = std::fs::read_to_string(home.path("report/results.csv")).unwrap();
        assert!(csv.lines().nth(1).unwrap().split(',').any(|cell| cell == label), "{model}: {csv}");
    }
}

#[test]
fn the_command_line_takes_the_same_names() {
    let home = Home::new();
    for (model, label) in [
        ("ada/chain-gguf/Q4/chain.gguf".to_owned(), "ada/chain-gguf/Q4/chain.gguf"),
        (format!("ada/chain-gguf@{COMMIT}/Q4/chain.gguf"), "Q4/chain.gguf"),
        ("ollama:chain:1b".into(), "chain:1b"),
    ] {
        let output = home.generate(&model).output().unwrap();
        assert!(output.status.success(), "{model}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "#$\n", "{model}");
        assert!(text(&output.stderr).contains("loading ") && text(&output.stderr).contains(label), "{model}: {}", text(&output.stderr));
    }
    // The folder is found; it has no tokenizer.
    let output = home.generate("ada/chain").output().unwrap();
    assert_refused(&output, &["has no tokenizer.json", COMMIT]);
}

#[test]
fn variables_move_the_folders() {
    let home = Home::new();
    let stores = tempfile::tempdir().unwrap();
    let path = |folder: &str| stores.path().join(folder);
    std::fs::rename(home.path(".cache/huggingface"), path("huggingface")).unwrap();
    std::fs::rename(home.path(".ollama/models"), path("ollama")).unwrap();
    let file = "ada/chain-gguf/Q4/chain.gguf";
    assert_refused(&home.generate(file).output().unwrap(), &["hf download ada/chain-gguf Q4/chain.gguf"]);
    assert_refused(&home.generate("ollama:chain:1b").output().unwrap(), &["ollama pull chain:1b"]);
    for (model, variable, value) in [
        (file, "HF_HUB_CACHE", path("huggingface/hub")),
        (file, "HF_HOME", path("huggingface")),
        (file, "XDG_CACHE_HOME", stores.path().to_owned()),
        ("ollama:chain:1b", "OLLAMA_MODELS", path("ollama")),
    ] {
        let output = home.generate(model).env(variable, value).output().unwrap();
        assert!(output.status.success(), "{variable}: {}", text(&output.stderr));
    }
}

#[test]
fn a_path_that_exists_goes_before_a_name() {
    let home = Home::new();
    std::fs::create_dir_all(home.path("ada/chain")).unwrap();
    Chain::new(301).write(&home.path("ada/chain"));
    let output = home.sweep("hugging_face = 'ada/chain'", &["--unchecked"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let csv = std::fs::read_to_string(home.path("report/results.csv")).unwrap();
    assert!(csv.lines().nth(1).unwrap().split(',').any(|cell| cell == "chain"), "the folder's own name: {csv}");
    let output = home.generate("ada/chain").current_dir(home.0.path()).output().unwrap();
    assert_refused(&output, &["the model `ada/chain` has no tokenizer.json"]);
}

#[test]
fn what_is_not_there_is_said_with_the_command_that_brings_it() {
    let home = Home::new();
    let hub = home.path(".cache/huggingface/hub");
    let files = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
    let before = files(&hub);
    for (model, expected) in [
        ("hugging_face = 'ada/other'", "`hf download ada/other` brings it"),
        ("hugging_face = 'ada/chain@v2'", "`hf download ada/chain --revision v2` brings it"),
        ("gguf = 'ada/other/x.gguf'", "`hf download ada/other x.gguf` brings it"),
        ("gguf = 'ollama:other:7b'", "`ollama pull other:7b` brings it"),
    ] {
        assert_refused(&home.sweep(model, &[]), &[expected, "sweep.toml"]);
    }
    for name in ["ada/other", "ada/chain@v2", "ada/other/x.gguf", "ollama:other"] {
        assert_refused(&home.generate(name).output().unwrap(), &["brings it"]);
    }
    assert_eq!(files(&hub), before, "nothing is downloaded and no folder made");
}

#[test]
fn a_name_under_the_other_key_is_refused_with_the_right_one() {
    let home = Home::new();
    for (model, expected) in [
        ("hugging_face = 'ada/chain-gguf/Q4/chain.gguf'", "write `gguf = \"ada/chain-gguf/Q4/chain.gguf\"`"),
        ("hugging_face = 'ollama:chain:1b'", "write `gguf = \"ollama:chain:1b\"`"),
        ("hugging_face = 'ada/chain-gguf'", "name one of them: `gguf = \"ada/chain-gguf/Q4/chain.gguf\"`"),
        ("gguf = 'ada/chain'", "`hugging_face = \"ada/chain\"`"),
    ] {
        assert_refused(&home.sweep(model, &[]), &[expected]);
    }
}

#[test]
fn a_name_that_could_lead_out_of_the_folders_is_refused() {
    let home = Home::new();
    home.write(".cache/huggingface/out.gguf", b"GGUF");
    for name in ["../out.gguf", "ada/../../out.gguf", "ada/chain/../../../../../out.gguf", "ada/chain@../../../../out.gguf", "ada//x.gguf"]
    {
        assert_refused(&home.sweep(&format!("gguf = '{name}'"), &[]), &["does not exist"]);
        assert_refused(&home.generate(name).output().unwrap(), &["no model is called"]);
    }
    for name in ["ollama:../../out", "ollama:", "ollama:/etc/passwd", "ollama:a:../b"] {
        assert_refused(&home.generate(name).output().unwrap(), &["is no name of a model in Ollama"]);
    }
}
