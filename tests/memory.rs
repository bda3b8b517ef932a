//! Loading a model takes little more memory than its weights. The peak is the process's, so each test is alone in it:
//! this file has one test that runs by default and one for the fetched model.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::File;

use kv_kernels::WeightFormat;
use kv_model::{Fresh, LoadOptions, Model, Preset, Sequence, StepInput, gguf};

const MIB: usize = 1 << 20;

/// The most bytes that were resident at any time, from Linux; `None` elsewhere.
fn peak_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(1024 * line.trim().strip_suffix(" kB")?.parse::<usize>().ok()?)
}

/// Takes a step, so that what the first step allocates is counted too.
fn check(model: &Model, tensor_bytes: usize) {
    let geometry = &model.decoder.config().geometry;
    let mut cache = runner::builtin().get("contiguous").unwrap().build(&toml::Table::new(), geometry).unwrap();
    let mut sequence = Sequence::open(cache.as_mut()).unwrap();
    model.decoder.step(cache.as_mut(), &mut [StepInput { sequence: &mut sequence, fresh: Fresh::Tokens(&[1, 2, 3]) }]).unwrap();
    let Some(peak) = peak_bytes() else { return };
    let most = tensor_bytes * 115 / 100 + 64 * MIB;
    assert!(peak <= most, "{} MiB for weights of {} MiB: more than {} MiB", peak / MIB, tensor_bytes / MIB, most / MIB);
}

#[test]
fn random_weights_are_drawn_in_the_memory_where_they_stay() {
    let preset = Preset::find("llama-3.2-1b").unwrap();
    let model = preset.build(Some(2), WeightFormat::Q8_0, 0, LoadOptions::default()).unwrap();
    let bytes = model.decoder.weights().bytes();
    assert!(bytes > 256 * MIB, "{bytes} bytes are too few to notice a second copy");
    check(&model, bytes);
}

#[test]
#[ignore = "needs the fetched model smollm2-135m"]
fn needs_smollm2_a_file_is_read_to_where_its_weights_stay() {
    let path = runner::fetched("smollm2-135m").expect("run `cargo run -p runner -- fetch smollm2-135m` first");
    let model = gguf::load(&mut File::open(path).unwrap(), LoadOptions::default()).unwrap();
    check(&model, model.decoder.weights().bytes());
}
