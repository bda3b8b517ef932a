//! Which files of a folder are read, and which tensor comes from which.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Cursor;

use kv_core::Registry;
use kv_model::{Fresh, LoadError, LoadOptions, Model, ReadSeek, Sequence, StepInput, argmax, hugging_face};
use serde_json::{Value, json};
use workspace_tests::chain::{Chain, Tensors, safetensors_file};

fn chain() -> Chain {
    Chain::new(24).then(&[1, 2, 3])
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn files(index: Option<&Value>, present: &[&str]) -> Result<Vec<String>, String> {
    let index = index.map(Value::to_string);
    hugging_face::weight_files(&chain().config().to_string(), index.as_deref(), &names(present)).map_err(|error| error.to_string())
}

fn index(tensors: &[(&str, &str)]) -> Value {
    let map: serde_json::Map<String, Value> = tensors.iter().map(|(tensor, file)| ((*tensor).to_owned(), json!(file))).collect();
    json!({ "metadata": { "total_size": 1 }, "weight_map": map })
}

fn load(index: Option<&Value>, shards: &[(&str, &Tensors)]) -> Result<Model, LoadError> {
    let (config, index) = (chain().config().to_string(), index.map(Value::to_string));
    let shards = shards.iter().map(|(name, tensors)| shard(name, tensors)).collect();
    let directory = hugging_face::Directory { config: &config, index: index.as_deref(), shards, ..Default::default() };
    hugging_face::load(directory, LoadOptions::default())
}

fn shard(name: &str, tensors: &Tensors) -> (String, Box<dyn ReadSeek>) {
    (name.to_owned(), Box::new(Cursor::new(safetensors_file(tensors))))
}

/// The token that follows `token`.
fn next(model: &Model, token: u32) -> u32 {
    let registry = Registry::new().with::<kv_contiguous::Contiguous>();
    let mut cache = registry.get("contiguous").unwrap().build(&Default::default(), &model.decoder.config().geometry).unwrap();
    let mut sequence = Sequence::open(cache.as_mut()).unwrap();
    let logits = model.decoder.step(cache.as_mut(), &mut [StepInput { sequence: &mut sequence, fresh: Fresh::Tokens(&[token]) }]).unwrap();
    argmax(&logits[0])
}

#[test]
fn without_an_index_the_files_must_be_clear() {
    let chosen = |present: &[&str]| files(None, present);
    assert_eq!(chosen(&["model.safetensors", "consolidated.safetensors", "a.safetensors"]).unwrap(), ["model.safetensors"]);
    assert_eq!(chosen(&["tiny.safetensors"]).unwrap(), ["tiny.safetensors"]);
    let set = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    assert_eq!(chosen(&[set[1], set[0]]).unwrap(), set);

    assert_eq!(chosen(&[]).unwrap_err(), "the folder holds no .safetensors file");
    let message = chosen(&[set[1]]).unwrap_err();
    assert_eq!(message, format!("1 of the model's 2 files is missing from the folder: `{}`", set[0]));
    let message = chosen(&["a.safetensors", "b.safetensors"]).unwrap_err();
    assert!(message.starts_with("2 .safetensors files, and no `model.safetensors.index.json`"), "{message}");
    assert!(message.contains("`a.safetensors`, `b.safetensors`"), "{message}");
    for beside in ["old.safetensors", "model-00001-of-00003.safetensors"] {
        assert!(chosen(&[set[0], set[1], beside]).unwrap_err().contains(beside), "{beside}");
    }
}

#[test]
fn an_index_names_the_files_and_the_missing_ones_are_named() {
    let index = index(&[("a", "model-00001-of-00002.safetensors"), ("b", "model-00002-of-00002.safetensors")]);
    let both = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    assert_eq!(files(Some(&index), &[both[0], both[1], "a-older.safetensors"]).unwrap(), both);
    let message = files(Some(&index), &[both[0]]).unwrap_err();
    assert_eq!(
        message,
        "1 of the 2 files that `model.safetensors.index.json` names is missing from the folder: `model-00002-of-00002.safetensors`"
    );
    let message = files(Some(&index), &[both[0], both[1], "model.safetensors"]).unwrap_err();
    assert!(message.starts_with("`model.safetensors` lies beside `model.safetensors.index.json`"), "{message}");
}

#[test]
fn an_index_that_is_not_one_is_refused() {
    let refused = |index: Value| files(Some(&index), &["model.safetensors"]).unwrap_err();
    assert!(refused(json!([])).starts_with("not a readable model.safetensors.index.json file"));
    assert!(refused(json!({})).starts_with("key `model.safetensors.index.json: weight_map` is missing"));
    for file in [json!("../../model.safetensors"), json!("/model.safetensors"), json!("model.bin"), json!(3)] {
        let message = refused(json!({ "weight_map": { "a": file } }));
        assert!(message.starts_with("key `model.safetensors.index.json: weight_map.a` is "), "{message}");
    }
}

#[test]
fn the_config_is_judged_before_the_files() {
    let message = hugging_face::weight_files(r#"{ "model_type": "gpt2" }"#, None, &[]).unwrap_err().to_string();
    assert_eq!(message, "key `model_type` is `gpt2`; supported: llama, mistral, qwen2, qwen3");
}

/// The first file holds another head, which the index does not name.
#[test]
fn each_tensor_comes_from_the_file_that_the_index_names() {
    let right = chain().tensors();
    let head: Tensors = right.clone().into_iter().filter(|(name, _)| name == "lm_head.weight").collect();
    let body: Tensors = right.clone().into_iter().filter(|(name, _)| name != "lm_head.weight").collect();
    let mut other = body.clone();
    other.extend(Chain::new(24).tensors().into_iter().filter(|(name, _)| name == "lm_head.weight"));
    let mut map: Vec<(&str, &str)> = body.keys().map(|name| (name.as_str(), "a.safetensors")).collect();
    map.push(("lm_head.weight", "b.safetensors"));
    let model = load(Some(&index(&map)), &[("a.safetensors", &other), ("b.safetensors", &head)]).unwrap();
    assert_eq!(next(&model, 1), 2, "the head of the second file");

    let message = load(Some(&index(&map)), &[("a.safetensors", &other), ("b.safetensors", &body)]).unwrap_err().to_string();
    assert_eq!(message, "tensor `lm_head.weight` is not in `b.safetensors`, where the index puts it");
    let message = load(Some(&index(&map)), &[("a.safetensors", &other)]).unwrap_err().to_string();
    assert!(message.starts_with("`b.safetensors`, which the index names, is missing"), "{message}");
    map.pop();
    let message = load(Some(&index(&map)), &[("a.safetensors", &other)]).unwrap_err().to_string();
    assert_eq!(message, "tensor `lm_head.weight` is in `a.safetensors`, and the index does not name it");
    let message = load(Some(&index(&map)), &[("a.safetensors", &body)]).unwrap_err().to_string();
    assert!(message.starts_with("tensor `lm_head.weight` is in none of the safetensors files"), "{message}");
    let message = load(None, &[("a.safetensors", &other), ("b.safetensors", &head)]).unwrap_err().to_string();
    assert_eq!(message, "tensor `lm_head.weight` is in two files, `a.safetensors` and `b.safetensors`");
}

/// transformers would read them: it reads the whole of each file that the index names.
#[test]
fn a_tensor_that_the_index_leaves_out_is_refused_if_the_model_has_a_place_for_it() {
    let refusal = |config: Value, name: &str, tensor: (Vec<usize>, Vec<f32>)| {
        let tensors = chain().tensors();
        let map: Vec<(&str, &str)> = tensors.keys().filter(|known| *known != name).map(|known| (known.as_str(), "a.safetensors")).collect();
        let mut stored = tensors.clone();
        stored.insert(name.to_owned(), tensor);
        let shards = vec![shard("a.safetensors", &stored)];
        let (config, index) = (config.to_string(), index(&map).to_string());
        let directory = hugging_face::Directory { config: &config, index: Some(&index), shards, ..Default::default() };
        hugging_face::load(directory, LoadOptions::default()).err().map(|error| error.to_string())
    };
    let zeros = (vec![32], vec![0.0; 32]);
    for name in ["model.layers.0.self_attn.q_proj.bias", "model.layers.0.self_attn.q_norm.weight", "lm_head.bias"] {
        let message = refusal(chain().config(), name, zeros.clone()).unwrap();
        assert_eq!(message, format!("tensor `{name}` is in `a.safetensors`, and the index does not name it"));
    }
    let mut tied = chain().config();
    tied["tie_word_embeddings"] = json!(true);
    let tensors = chain().tensors();
    let message = refusal(tied.clone(), "lm_head.weight", tensors["lm_head.weight"].clone()).unwrap();
    assert!(message.contains("the index does not name it"), "another head than the embedding: {message}");
    assert_eq!(refusal(tied, "lm_head.weight", tensors["model.embed_tokens.weight"].clone()), None, "the same head");
    for name in ["score.weight", "model.layers.7.self_attn.q_proj.bias"] {
        assert_eq!(refusal(chain().config(), name, zeros.clone()), None, "{name}");
    }
}
