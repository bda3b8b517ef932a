//! `plan`: bytes from the formulas, for presets and for a config.json, and what fits into a memory.

use std::path::Path;

use serde_json::{Value, json};
use workspace_tests::chain::Chain;
use workspace_tests::gguf::Gguf;

use crate::{ONE, config, run, runner, text, words};

const LLAMA: [&str; 3] = ["plan", "--model", "llama-3-8b"];

/// What Meta's Llama-3-8B says of itself.
fn llama() -> Value {
    json!({
        "model_type": "llama", "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5, "rope_theta": 500_000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16"
    })
}

fn planned(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The fields of a row after its label.
fn row<'a>(table: &'a str, label: &str) -> Vec<&'a str> {
    let line = table.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no row `{label}` in\n{table}")).split_whitespace().collect()
}

/// A config whose strategies are one contiguous cache each, with these parameters.
fn contiguous(folder: &Path, configs: &[(&str, &str)]) -> String {
    let strategy =
        |(label, config): &(&str, &str)| format!("[[strategy]]\nlabel = '{label}'\nuse = 'contiguous'\nconfig = {{ {config} }}\n");
    let path = folder.join("strategies.toml");
    std::fs::write(&path, config("lengths = [16]", &configs.iter().map(strategy).collect::<String>())).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn llama_3_8b_takes_128_kib_per_token_in_f16_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let formats = ["f16", "q8_0", "q4_0", "q4_1"];
    let configs = formats.map(|format| (format, format!("growth = {{ reserve = 8192 }}, format = '{format}'")));
    let path = contiguous(folder.path(), &configs.each_ref().map(|(label, config)| (*label, config.as_str())));
    let table = planned(&[&LLAMA[..], &["--context", "8192", "--strategies", &path]].concat());
    // What the keeping of a block takes, once for each of the 32 layers.
    let fixed = 32 * size_of::<kv_kernels::KvBlock>();
    for (format, sixteenths_of_a_byte) in [("f16", 32), ("q8_0", 17), ("q4_0", 9), ("q4_1", 10)] {
        let bytes = 8192 * 65_536 * sixteenths_of_a_byte / 16 + fixed;
        let fields = row(&table, format);
        assert_eq!(fields[2], bytes.to_string(), "{format}: {table}");
        assert_eq!(fields[3], format!("{:.2}", f64::from(sixteenths_of_a_byte as u32) / 2.0), "{format}: {table}");
    }
    assert_eq!(8192 * 131_072 + fixed, row(&table, "f16")[2].parse::<usize>().unwrap());
    // The shipped list has the same cache, and the same again for each sequence of a batch.
    for (batch, of) in [("1", 1), ("3", 3)] {
        let table = planned(&[&LLAMA[..], &["--context", "8192", "--batch", batch]].concat());
        let bytes = of * (8192 * 131_072 + fixed);
        assert_eq!(row(&table, "contiguous exact f16")[2], bytes.to_string(), "{table}");
        assert_eq!(row(&table, "contiguous exact f16")[5], "1.000", "{table}");
        assert_eq!(row(&table, "contiguous exact f32")[5], "2.000", "{table}");
        assert!(table.contains("nothing was run"), "{table}");
    }
}

#[test]
fn a_config_json_and_its_folder_are_the_preset_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, llama().to_string()).unwrap();
    let more = ["--context", "4096", "--memory", "24GiB", "--weights", "q8_0"];
    let of = |model: &str| planned(&[&["plan", "--model", model], &more[..]].concat());
    let after_the_name = |table: String| table.split_once(": ").unwrap().1.to_owned();
    let preset = after_the_name(of("llama-3-8b"));
    assert!(preset.contains("weights: 8030261248 in q8_0, 7.9 GiB (8532152576 bytes)"), "{preset}");
    assert_eq!(after_the_name(of(path.to_str().unwrap())), preset);
    assert_eq!(after_the_name(of(folder.path().to_str().unwrap())), preset);

    let weights = |config: &Value| {
        std::fs::write(&path, config.to_string()).unwrap();
        let table = planned(&["plan", "--model", path.to_str().unwrap(), "--context", "16"]);
        table.lines().find(|line| line.starts_with("weights: ")).unwrap().to_owned()
    };
    assert!(weights(&llama()).starts_with("weights: 8030261248 in bf16, 15.0 GiB"), "{}", weights(&llama()));
    // Qwen2.5-0.5B has biases, and Qwen3-0.6B norms of queries and keys; their parameters are those that the hub counts.
    let qwen = json!({
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
        "num_key_value_heads": 2, "vocab_size": 151_936, "max_position_embeddings": 32768, "tie_word_embeddings": true
    });
    assert!(weights(&qwen).starts_with("weights: 494032768 in f32"), "{}", weights(&qwen));
    let qwen = json!({
        "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936, "max_position_embeddings": 40960,
        "tie_word_embeddings": true, "dtype": "float16"
    });
    assert!(weights(&qwen).starts_with("weights: 596049920 in f16"), "{}", weights(&qwen));
}

#[test]
fn a_gguf_file_says_its_shape_and_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chain.gguf");
    std::fs::write(&path, Gguf::of(&Chain::new(300).then(&[1, 2, 3]), "llama").bytes()).unwrap();
    let arguments = ["plan", "--model", path.to_str().unwrap(), "--context", "16"];
    let table = planned(&arguments);
    assert!(table.starts_with("chain: ") && table.contains("weights: as the file stores them, "), "{table}");
    let message = words(&text(&run(&[&arguments[..], &["--weights", "f16"]].concat()).stderr));
    assert!(message.contains("brings its own encodings"), "{message}");
}

/// As `generate` does.
#[test]
fn a_fetched_model_goes_before_the_preset_of_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let planned = |model: &str| {
        let arguments = ["plan", "--model", model, "--context", "16"];
        let output = runner(&arguments).env("KVLAB_CACHE", folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert!(planned("smollm2-135m").contains("30 layers"), "nothing was fetched");
    let file = folder.path().join("SmolLM2-135M-Instruct.Q4_1.gguf");
    std::fs::write(file, Gguf::of(&Chain::new(300).then(&[1, 2, 3]), "llama").bytes()).unwrap();
    let table = planned("smollm2-135m");
    assert!(table.starts_with("smollm2-135m: ") && table.contains("weights: as the file stores them, "), "{table}");
    assert!(planned("preset:smollm2-135m").contains("30 layers"));
}

#[test]
fn a_marked_baseline_without_a_number_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = contiguous(folder.path(), &[("all", ""), ("few", "growth = { reserve = 64 }")]);
    let marked = std::fs::read_to_string(&path).unwrap() + "baseline = true\n";
    std::fs::write(&path, marked).unwrap();
    let of = |context: &str| planned(&["plan", "--model", "tiny", "--context", context, "--strategies", &path]);
    assert!(of("65").contains("The marked baseline few has no number here. The baseline is all."), "{}", of("65"));
    assert!(of("64").contains("\nThe baseline is few."), "{}", of("64"));
}

#[test]
fn the_longest_context_leaves_room_for_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = contiguous(folder.path(), &[("all", "growth = 'concat', format = 'f16'"), ("few", "growth = { reserve = 64 }")]);
    let fits = |memory: &str, more: &[&str]| {
        planned(&[&["plan", "--model", "tiny", "--context", "128", "--memory", memory, "--strategies", &path], more].concat())
    };
    // 3082496 weights in f32; 1024 bytes per token in f16 and a block's own in each of four layers.
    let room = (1 << 30) - 4 * 3_082_496 - 4 * size_of::<kv_kernels::KvBlock>();
    let table = fits("1 GiB", &[]);
    assert_eq!(row(&table, "all").last().unwrap(), &(room / 1024).to_string(), "{table}");
    let few = table.lines().find(|line| line.starts_with("few")).unwrap();
    assert!(few.contains(" 64 ") && few.ends_with("has room for 64 tokens of each sequence only"), "{table}");
    let halves = fits("1 GiB", &["--batch", "2"]);
    let both = (1 << 30) - 4 * 3_082_496 - 8 * size_of::<kv_kernels::KvBlock>();
    assert_eq!(row(&halves, "all").last().unwrap(), &(both / 2048).to_string(), "{halves}");

    for memory in ["0 GiB", "1MiB"] {
        let table = fits(memory, &["--also", "naive", "--also", "sliding"]);
        assert!(table.contains("the weights alone do not fit"), "{table}");
        assert_eq!(row(&table, "all").last().unwrap(), &"nothing", "{table}");
        assert_eq!(row(&table, "sliding").last().unwrap(), &"nothing", "{table}");
    }
    let table = fits("1 GiB", &["--also", "naive", "--also", "sliding"]);
    assert_eq!(row(&table, "sliding").last().unwrap(), &"any", "{table}");
    assert_eq!(row(&table, "naive")[2], "0", "{table}");
    assert!(!planned(&["plan", "--model", "tiny", "--context", "16"]).contains("longest"), "only with `--memory`");
}

#[test]
fn a_row_says_why_it_has_no_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let shape = folder.path().join("config.json");
    let mut narrow = llama();
    narrow["head_dim"] = json!(48);
    std::fs::write(&shape, narrow.to_string()).unwrap();
    let arguments = ["plan", "--model", shape.to_str().unwrap(), "--context", "64"];
    let table = planned(&arguments);
    let line = table.lines().find(|line| line.starts_with("contiguous exact q8_0")).unwrap();
    assert!(line.contains("`format` is q8_0") && line.contains("48"), "{table}");
    assert_eq!(row(&table, "contiguous exact f16")[5], "1.000", "{table}");
    let markdown = planned(&[&arguments[..], &["--format", "markdown"]].concat());
    let line = markdown.lines().find(|line| line.starts_with(r"| contiguous exact q8\_0 | \`format\` is q8\_0"));
    assert!(line.is_some(), "{markdown}");
    let columns = |line: &str| line.replace(r"\|", "").matches('|').count();
    assert!(markdown.lines().filter(|line| line.starts_with('|')).all(|line| columns(line) == 7), "{markdown}");

    let limited = folder.path().join("limited.toml");
    std::fs::write(&limited, config("lengths = [16]", &format!("{ONE}max_length = 32\n"))).unwrap();
    let table = planned(&[&LLAMA[..], &["--context", "64", "--memory", "1TiB", "--strategies", limited.to_str().unwrap()]].concat());
    assert!(table.contains("left out above 32 tokens (`max_length`)") && table.contains(" 32 "), "{table}");
}

#[test]
fn a_context_beyond_the_models_is_told_and_one_beyond_all_counting_too() {
    assert!(planned(&[&LLAMA[..], &["--context", "8193"]].concat()).contains("made for 8192: what it writes beyond"));
    assert!(!planned(&[&LLAMA[..], &["--context", "8192"]].concat()).contains("beyond"));
    for arguments in [["--context", "18446744073709551615", "--batch", "1"], ["--context", "64", "--batch", "18446744073709551615"]] {
        let table = planned(&[&LLAMA[..], &arguments, &["--memory", "16777215 TiB", "--also", "naive"]].concat());
        let line = table.lines().find(|line| line.starts_with("contiguous exact f16")).unwrap();
        assert!(line.ends_with("more bytes than can be counted"), "{table}");
        assert_eq!(row(&table, "naive")[2], "0", "{table}");
    }
}

#[test]
fn what_cannot_be_planned_is_refused_with_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let with = |name: &str, contents: &str| {
        std::fs::write(folder.path().join(name), contents).unwrap();
        path(name)
    };
    let changed = |name: &str, key: &str, value: Value| {
        let mut config = llama();
        config[key] = value;
        with(name, &config.to_string())
    };
    let no_json = with("no.json", "weights");
    let list = with("list.json", "[1]");
    let no_values = changed("zero.json", "head_dim", json!(0));
    let no_heads = changed("heads.json", "num_key_value_heads", json!(0));
    let no_layers = changed("layers.json", "num_hidden_layers", json!(0));
    let mut deep = llama();
    for key in ["num_hidden_layers", "max_position_embeddings"] {
        deep[key] = json!(0x7FFF_FFFF);
    }
    let most = with("most.json", &deep.to_string());
    let other = changed("other.json", "model_type", json!("gpt2"));
    let window = changed("window.json", "sliding_window", json!(4096));
    let dtype = changed("dtype.json", "torch_dtype", json!("float8_e4m3fn"));
    let empty = path("empty");
    std::fs::create_dir(&empty).unwrap();
    let nowhere = path("nowhere/config.json");
    let cases: Vec<(Vec<&str>, &[&str])> = vec![
        (vec!["tiny", "--context", "0"], &["`--context 0`", "1 token"]),
        (vec!["tiny", "--context", "64", "--batch", "0"], &["`--batch 0`"]),
        (vec!["tiny", "--context", "64", "--memory", "8 GB"], &["`--memory 8 GB` is not a size", "8GiB"]),
        (vec!["tiny", "--context", "64", "--memory", "8gib"], &["`--memory 8gib` is not a size", "KiB, MiB, GiB or TiB, in these letters"]),
        (vec!["tiny", "--context", "64", "--memory", "99999999999999TiB"], &["is more bytes than fit into 64 bits"]),
        (vec!["tiny", "--context", "64", "--weights", "q8_1"], &["`--weights q8_1`", "q4_K", "did you mean"]),
        (vec!["tiny", "--context", "64", "--also", "pagd"], &["unknown strategy `pagd`", "did you mean `paged`"]),
        (vec!["tiny", "--context", "64", "--strategies", &empty], &["cannot read the config"]),
        (vec!["tinny", "--context", "64"], &["no model is called `tinny`", "llama-3-8b", "did you mean `tiny`", "config.json"]),
        (vec![&nowhere, "--context", "64"], &["nowhere/config.json", "no file that exists"]),
        (vec![&empty, "--context", "64"], &["has no config.json", "--model path/to/config.json"]),
        (vec![&no_json, "--context", "64"], &["no.json", "expected"]),
        (vec![&list, "--context", "64"], &["list.json", "not a JSON object"]),
        (vec![&no_values, "--context", "64"], &["zero.json", "`key_dim` is 0"]),
        (vec![&no_heads, "--context", "64"], &["heads.json", "`kv_heads` is 0"]),
        (vec![&no_layers, "--context", "64"], &["layers.json", "`layers` is 0"]),
        (vec![&most, "--context", "64"], &["most.json", "more than any memory holds"]),
        (vec![&other, "--context", "64"], &["other.json", "gpt2", "llama, mistral, qwen2, qwen3"]),
        (vec![&window, "--context", "64"], &["window.json", "a window in use is not supported"]),
        (vec![&dtype, "--context", "64"], &["`float8_e4m3fn`", "--weights f16"]),
    ];
    for (arguments, expected) in cases {
        let output = run(&[&["plan", "--model"], &arguments[..]].concat());
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
        // Long paths are broken anywhere.
        let joined = |text: &str| text.chars().filter(|c| !c.is_whitespace() && *c != '│').collect::<String>();
        for part in expected {
            assert!(joined(&message).contains(&joined(part)), "{arguments:?}: `{part}` is missing in\n{message}");
        }
    }
    let help = text(&run(&["plan", "--help"]).stdout);
    assert!(words(&help).contains("runner plan --model llama-3-8b --weights q8_0 --context 32768 --memory 16GiB"), "{help}");
}

#[test]
fn weights_beyond_all_counting_leave_room_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let mut config = llama();
    for key in ["hidden_size", "intermediate_size", "vocab_size"] {
        config[key] = json!(0x7FFF_FFFF);
    }
    config["head_dim"] = json!(128);
    config["num_hidden_layers"] = json!(0x00FF_FFFF);
    std::fs::write(&path, config.to_string()).unwrap();
    let table = planned(&["plan", "--model", path.to_str().unwrap(), "--context", "64", "--memory", "1TiB"]);
    assert!(table.contains("the weights alone do not fit"), "{table}");
}
