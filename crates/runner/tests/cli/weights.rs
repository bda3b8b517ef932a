//! The weights of presets: their encodings, keeping them, and what the results say about them.

use crate::{run, runner, text, words};

const SMOKE: [&str; 6] =
    ["bench-configs/smoke.toml", "--only", "contiguous", "--set", "sweep={ lengths = 8, decode_steps = 2 }", "--unchecked"];

#[test]
fn the_results_say_what_the_weights_are() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    for (weights, bytes_per_value) in [("f32", 4.0), ("f16", 2.0), ("bf16", 2.0), ("q8_0", 34.0 / 32.0), ("q4_0", 18.0 / 32.0)] {
        let set = format!("model.weights={weights}");
        let output = run(&[&SMOKE[..], &["--out", folder, "--set", &set, "--pages", "ordinary"]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let results: serde_json::Value = serde_json::from_slice(&std::fs::read(out.path().join("run.json")).unwrap()).unwrap();
        let model = &results["model"];
        let values = model["model_bytes"].as_f64().unwrap() / bytes_per_value;
        assert!((values - 1_671_168.0).abs() < 1.0, "{weights}: {values} values");
        assert_eq!(model["weight_formats"][0]["format"], weights);
        assert_eq!(model["weight_formats"][0]["bytes"], model["model_bytes"]);
        assert!(model["weight_pages"].as_str().unwrap().starts_with("ordinary pages"), "{model}");
        assert!(model["load_seconds"].as_f64().unwrap() > 0.0);
        let name = model["name"].as_str().unwrap();
        assert_eq!(name.contains(&format!("in {weights}")), weights != "f32", "{name}");
        let command = results["command"].as_str().unwrap();
        assert!(command.contains("--pages ordinary"), "{command}");
        let page = std::fs::read_to_string(out.path().join("index.html")).unwrap();
        assert!(page.contains("outside the heap") && page.contains("time to load the model"));
    }
}

#[test]
fn kept_weights_are_the_same_and_damaged_ones_are_told() {
    let cache = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    let sweep = |keep: bool| {
        let keep = format!("model.keep_weights={keep}");
        let sets = ["--out", out.path().to_str().unwrap(), "--set", "model.weights=q4_0", "--set", &keep];
        runner(&[&SMOKE[..], &sets].concat()).env("KVLAB_CACHE", cache.path()).output().unwrap()
    };
    assert!(sweep(false).status.success());
    assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0, "neither weights nor a recording are kept unless asked");
    let first = sweep(true);
    assert!(text(&first.stderr).contains("the random weights are kept in"), "{}", text(&first.stderr));
    let kept = std::fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap().path();
    let name = kept.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(name.starts_with("tiny-") && name.ends_with("-layers-q4_0-seed-0.weights"), "{name}");
    let bytes = std::fs::read(&kept).unwrap();
    let second = sweep(true);
    assert!(second.status.success() && !text(&second.stderr).contains("are kept in"), "{}", text(&second.stderr));
    assert_eq!(std::fs::read(&kept).unwrap(), bytes);

    std::fs::write(&kept, &bytes[..bytes.len() / 2]).unwrap();
    let message = words(&text(&sweep(true).stderr));
    assert!(message.contains(&name) && message.contains("are damaged"), "{message}");
    std::fs::write(&kept, [&bytes[..], b"more"].concat()).unwrap();
    assert!(words(&text(&sweep(true).stderr)).contains("checksum is another"));
    let mut changed = bytes.clone();
    changed[bytes.len() / 2] ^= 1;
    std::fs::write(&kept, changed).unwrap();
    assert!(words(&text(&sweep(true).stderr)).contains("checksum is another"));
    std::fs::write(&kept, [b"kvlab random weights 0: ", &bytes[24..]].concat()).unwrap();
    let message = words(&text(&sweep(true).stderr));
    assert!(message.contains("another version of kvlab") && message.contains("drawn again"), "{message}");

    std::fs::remove_file(&kept).unwrap();
    std::fs::write(cache.path().join("file"), "").unwrap();
    let sets = ["--out", out.path().to_str().unwrap(), "--set", "model.weights=q4_0", "--set", "model.keep_weights=true"];
    let output = runner(&[&SMOKE[..], &sets].concat()).env("KVLAB_CACHE", cache.path().join("file")).output().unwrap();
    let message = words(&text(&output.stderr));
    assert!(output.status.success() && message.contains("could not be kept in"), "{message}");
}

#[test]
fn what_belongs_to_presets_is_refused_for_files() {
    for set in ["model.weights=q8_0", "model.keep_weights=true"] {
        let output = run(&["bench-configs/smollm2.toml", "--dry-run", "--set", set]);
        let message = words(&text(&output.stderr));
        assert!(message.contains("belong to a `preset`"), "{message}");
    }
    let message = words(&text(&run(&["bench-configs/smoke.toml", "--dry-run", "--set", "model.weights=q5_0"]).stderr));
    assert!(message.contains("q5_0") && message.contains("q8_0"), "{message}");
}
