//! Every config in `bench-configs/` and `tests/sweeps/` can be read and planned, and the published schema is current.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use kv_model::{ModelConfig, Preset, SMALL, SMALL_GGUF, gguf};
use runner::{builtin, load_config, load_configs, plan, schema};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench-configs")
}

/// The shape of the small model that is in the program.
fn small() -> ModelConfig {
    gguf::describe(&mut Cursor::new(SMALL_GGUF)).expect("it is in the program").0
}

#[test]
fn every_config_makes_a_plan() {
    let mut names = vec![];
    let folders = [folder(), Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps")];
    for path in folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path()) {
        if path.extension().is_none_or(|ending| ending != "toml") {
            continue;
        }
        for file in load_configs(&path, &[], &[]).unwrap() {
            let choice = file.model().get_ref();
            // The shape of a model that must be fetched is also a preset.
            let preset = choice.preset.as_deref().or(choice.fetched.as_deref()).unwrap();
            let model = if preset == SMALL { small() } else { Preset::find(preset).unwrap().config(choice.layers) };
            let plan = plan(&file, &builtin(), &model, None).unwrap();
            assert!(!plan.cells.is_empty(), "{}", path.display());
            for cell in &plan.cells {
                let built = cell.strategy.build(&cell.config, &model.geometry);
                assert!(built.is_ok(), "{}: {}: {:?}", path.display(), cell.label, built.err());
            }
        }
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(
        names,
        [
            "beyond-generation.toml",
            "chat.toml",
            "compare.toml",
            "composed.toml",
            "llama-3-8b-attention.toml",
            "long.toml",
            "model-sizes.toml",
            "naive-vs-cache.toml",
            "peers.toml",
            "plan.toml",
            "quality.toml",
            "quickstart.toml",
            "serve.toml",
            "smoke.toml",
            "smollm2.toml",
            "speculative.toml",
            "stream.toml"
        ]
    );
}

#[test]
fn the_quickstart_shows_all_five_strategies_up_to_2048() {
    let file = load_config(&folder().join("quickstart.toml"), &[], &[]).unwrap();
    let model = small();
    let cells = plan(&file, &builtin(), &model, None).unwrap().cells;
    for entry in builtin().iter() {
        assert!(cells.iter().any(|cell| cell.strategy.id() == entry.id() && cell.seq_len == 2048), "{}", entry.id());
    }
}

/// `UPDATE=1 cargo test -p workspace-tests --test configs` writes it anew.
#[test]
fn the_published_schema_is_current() {
    let path = folder().join("schema.json");
    let current = schema(&builtin());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), current, "run it again with UPDATE=1 in the environment");
}
