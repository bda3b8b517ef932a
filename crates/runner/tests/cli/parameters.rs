//! Parameters: `--set` means the same in every command, and what does not fit is answered in the user's words.

use crate::{ONE, config, run, runner, text, words};

#[test]
fn two_parts_of_a_format_both_reach_the_cache_in_every_command() {
    let parts = ["--set", "format.keys=q8_0", "--set", "format.values=q4_0"];
    let whole = ["--set", "format={ keys = 'q8_0', values = 'q4_0' }"];
    let costs = |sets: &[&str]| {
        let output = run(&[&["generate", "--model", "tiny", "--prompt", "abc", "--max-new-tokens", "2"][..], sets].concat());
        let message = text(&output.stderr);
        assert!(output.status.success(), "{message}");
        message.split("; cache ").nth(1).unwrap().to_owned()
    };
    assert_eq!(costs(&parts), costs(&whole));
    assert_ne!(costs(&parts), costs(&parts[2..]));
    // `quantized` refuses a format that quantizes neither.
    let sets = ["--set", "format.keys=q8_0", "--set", "format.values=f32"];
    let output = run(&[&["check", "quantized", "--json"][..], &sets].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let later = ["--set", "format.keys=q8_0", "--set", "format.keys=f32"];
    let output = run(&[&["check", "quantized"][..], &later].concat());
    assert!(words(&text(&output.stderr)).contains("must be quantized"), "{}", text(&output.stderr));
}

#[test]
fn a_label_with_blanks_is_named_with_quotes_or_without() {
    for key in ["strategy.window 512 + 4 sinks.config.window", "strategy.'window 512 + 4 sinks'.config.window"] {
        let set = format!("{key}=0");
        let output = run(&["bench-configs/quickstart.toml", "--dry-run", "--set", &set]);
        let message = text(&output.stderr);
        assert!(words(&message).contains("`window` is 0"), "{key}: {message}");
    }
    let help = text(&run(&["run", "--help"]).stdout);
    assert!(help.contains("--set 'strategy.\"paged q8_0\".config.block_size=64'"), "{help}");
}

#[test]
fn one_number_is_a_batch_and_one_workload_a_list() {
    let sets = ["--set", "sweep.batch=4", "--set", "sweep.workloads=generate", "--set", "sweep.lengths=16"];
    let output = run(&[&["bench-configs/smoke.toml", "--dry-run"][..], &sets].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let listing = text(&output.stdout);
    assert!(listing.contains("5 cells, about"), "{listing}");
    assert!(listing.contains("generate at 16 ×4"), "{listing}");
}

#[test]
fn a_format_for_a_strategy_is_told_where_it_belongs() {
    for (name, strategy) in [("kivi2", "quantized"), ("q8_0", "quantized"), ("q4_g16", "quantized"), ("f16", "contiguous")] {
        let expected = [
            format!("unknown strategy `{name}`"),
            format!("`{name}` is a format"),
            format!("`use = \"{strategy}\"` with `config = {{ format = \"{name}\" }}`"),
        ];
        let used = format!("strategy.paged.use={name}");
        for arguments in [
            &["bench-configs/smoke.toml", "--dry-run", "--set", &used][..],
            &["bench-configs/smoke.toml", "--dry-run", "--also", name],
            &["generate", "--model", "tiny", "--prompt", "x", "--strategy", name],
            &["check", name],
            &["describe", name],
        ] {
            let output = run(arguments);
            let message = words(&text(&output.stderr));
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
            for part in &expected {
                assert!(message.contains(part), "{arguments:?}: `{part}` is missing in\n{message}");
            }
        }
    }
}

#[test]
fn values_that_do_not_fit_are_answered_in_the_users_words() {
    const GROWTH: &str = "it takes \"concat\", \"doubling\" or { reserve = a whole number (0 or more) }";
    let strategy = |body: &str| config("lengths = [16]", &format!("[[strategy]]\nlabel = 'a'\n{body}\n"));
    let growth = |value: &str| strategy(&format!("use = 'contiguous'\nconfig = {{ growth = {value} }}"));
    let format = |value: &str| strategy(&format!("use = 'paged'\nconfig = {{ format = {value} }}"));
    let sweep = |body: &str| config(body, ONE);
    let model = |line: &str| sweep("lengths = [16]").replace("preset = 'tiny'\nlayers = 1", line);
    let cases: Vec<(String, &[&str])> = vec![
        (growth("'reserve'"), &["`growth` is \"reserve\"", GROWTH]),
        (growth("'triple'"), &["`growth` is \"triple\"", GROWTH]),
        (growth("5"), &["`growth` is 5", GROWTH]),
        (growth("true"), &["`growth` is true", GROWTH]),
        (growth("{}"), &["`growth` is {}", GROWTH]),
        (growth("{ doubling = 1 }"), &["`growth` is { doubling = 1 }", GROWTH]),
        (growth("{ reserve = 'much' }"), &["`growth` is { reserve = \"much\" }", GROWTH]),
        (growth("{ reserve = -1 }"), &["`growth` is { reserve = -1 }", GROWTH]),
        (format("8"), &["`format` is 8", "it takes a quoted string or { keys = "]),
        (format("'int8'"), &["unknown format `int8`; known are f32"]),
        (format("{ keys = 8 }"), &["`format.keys` is 8: it takes a quoted string"]),
        (format("{ key = 'f16' }"), &["unknown field `key`, expected `keys` or `values`", "did you mean `keys`?"]),
        (strategy("use = 'paged'\nconfig = { block_size = 'x' }"), &["`block_size` is \"x\": it takes a whole number (0 or more)"]),
        (strategy("use = 'paged'\nconfig = { block_size = 1.5 }"), &["`block_size` is 1.5: it takes a whole number (0 or more)"]),
        (strategy("use = 5"), &["`strategy[0].use` is 5: it takes a quoted string"]),
        (strategy("use = 'naive'\nbaseline = 'yes'"), &["`strategy[0].baseline` is \"yes\": it takes true or false"]),
        (sweep("lengths = [16]\nworkloads = ['train']"), &["`sweep.workloads[0]` is \"train\"", "\"decode\", \"generate\""]),
        (sweep("lengths = [16]\nworkloads = 'train'"), &["`sweep.workloads` is \"train\"", "\"decode\", \"generate\""]),
        (sweep("lengths = [16]\nworkloads = 5"), &["`sweep.workloads` is 5", "\"decode\", \"generate\""]),
        (sweep("lengths = [16]\nbatch = 'x'"), &["`sweep.batch` is \"x\"", "a whole number"]),
        (sweep("lengths = [16]\ndecode_steps = -1"), &["`sweep.decode_steps` is -1: it takes a whole number"]),
        (sweep("lengths = true"), &["`sweep.lengths` is true"]),
        (model("preset = 5"), &["`model.preset` is 5: it takes a quoted string"]),
        (model("gguf = []"), &["`model.gguf` is []: it takes a quoted string"]),
        (model("preset = 'tiny'\nlayers = 'few'"), &["`model.layers` is \"few\": it takes a whole number"]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.toml");
    for (config, expected) in cases {
        std::fs::write(&path, &config).unwrap();
        let output = runner(&[path.to_str().unwrap(), "--dry-run"]).output().unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{config}\n{message}");
        let words = words(&message);
        for part in expected {
            assert!(words.contains(part), "{config}\n`{part}` is missing in\n{message}");
        }
        for jargon in ["variant", "usize", "invalid type", "expected struct"] {
            assert!(!words.contains(jargon), "{config}\n`{jargon}` is no word of a user's\n{message}");
        }
    }
}
