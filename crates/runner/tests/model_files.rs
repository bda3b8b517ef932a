//! Models from files, as the program's user meets them.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;
use workspace_tests::chain::{Chain, write_json};

/// Sweeps one length over the model that `choice` names, from a config in `folder`.
fn sweep(folder: &Path, choice: &str) -> Output {
    let sweep = "[sweep]\nlengths = [8]\ndecode_steps = 2\n";
    let strategy = "[[strategy]]\nlabel = \"contiguous\"\nuse = \"contiguous\"\n";
    let config = format!("[model]\n{choice}\n{sweep}{strategy}");
    std::fs::write(folder.join("sweep.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
    command.arg("sweep.toml").arg("--out").arg(folder.join("report")).current_dir(folder);
    command.env("NO_COLOR", "1").stdin(Stdio::null()).output().unwrap()
}

/// A message without the line breaks and bars that a narrow screen gives it.
fn words(output: &Output) -> String {
    let message = String::from_utf8_lossy(&output.stderr);
    message.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

fn chain_in(folder: &Path) {
    Chain::new(300).then(&[1, 2, 3]).write(folder);
}

#[test]
fn a_folder_called_by_dots_has_the_name_of_what_they_lead_to() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("chain-model");
    std::fs::create_dir(&folder).unwrap();
    chain_in(&folder);
    for path in [".", "../chain-model/", "../chain-model/.", "report/.."] {
        let output = sweep(&folder, &format!("hugging_face = \"{path}\""));
        assert!(output.status.success(), "{path}: {}", words(&output));
        let csv = std::fs::read_to_string(folder.join("report/results.csv")).unwrap();
        assert!(csv.lines().nth(1).unwrap().contains("chain-model"), "{path}: {csv}");
    }
}

#[test]
fn json_with_a_byte_order_mark_is_read() {
    let folder = tempfile::tempdir().unwrap();
    chain_in(folder.path());
    let config = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    std::fs::write(folder.path().join("config.json"), format!("\u{feff}{config}")).unwrap();
    for name in ["generation_config.json", "tokenizer_config.json"] {
        std::fs::write(folder.path().join(name), "\u{feff}{}").unwrap();
    }
    let output = sweep(folder.path(), "hugging_face = \".\"");
    assert!(output.status.success(), "{}", words(&output));
}

#[test]
fn only_the_files_that_the_index_names_are_read() {
    let folder = tempfile::tempdir().unwrap();
    chain_in(folder.path());
    let shard = "part.safetensors";
    std::fs::rename(folder.path().join("model.safetensors"), folder.path().join(shard)).unwrap();
    // An older save, which cannot even be read.
    std::fs::write(folder.path().join("a.safetensors"), "junk").unwrap();
    let map: serde_json::Map<_, _> = Chain::new(300).tensors().into_keys().map(|name| (name, json!(shard))).collect();
    write_json(folder.path(), "model.safetensors.index.json", &json!({ "weight_map": map }));
    let output = sweep(folder.path(), "hugging_face = \".\"");
    assert!(output.status.success(), "{}", words(&output));

    std::fs::remove_file(folder.path().join(shard)).unwrap();
    let output = sweep(folder.path(), "hugging_face = \".\"");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        words(&output)
            .contains("1 of the 1 files that `model.safetensors.index.json` names is missing from the folder: `part.safetensors`"),
        "{}",
        words(&output)
    );
}

#[test]
fn a_model_whose_logits_are_not_finite_stops_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let chain = Chain::new(300);
    chain.write(folder.path());
    let mut tensors = chain.tensors();
    tensors.get_mut("model.norm.weight").unwrap().1.fill(f32::NAN);
    std::fs::write(folder.path().join("model.safetensors"), workspace_tests::chain::safetensors_file(&tensors)).unwrap();
    let output = sweep(folder.path(), "hugging_face = \".\"");
    assert!(!output.status.success());
    let csv = std::fs::read_to_string(folder.path().join("report/results.csv")).unwrap();
    assert!(csv.contains("300 of 300 logits are NaN or infinite"), "{csv}");
    assert!(csv.contains("the cache's format (f16 ends at 65504)"), "{csv}");
}
