//! Every number that a strategy's config takes, with values that make no sense: built or refused, never a panic.

use std::ops::Range;

use kv_conformance::{Text, step, toy_geometry};
use kv_core::{CacheError, ConfigError, Geometry, KvCache, Strategy, Usage};
use proptest::prelude::*;
use proptest::strategy::Strategy as _;
use runner::builtin;
use serde_json::Value;

const HOSTILE: [i64; 5] = [0, 1, 1 << 31, 1_000_000_000_000, i64::MAX];

/// A strategy, its config with `N` for the number, and which of [`HOSTILE`] it takes.
const PARAMETERS: [(&str, &str, [bool; 5]); 16] = [
    ("contiguous", "growth = { reserve = N }", [false, true, false, false, false]),
    ("contiguous", "format = 'q8_gN'", [false; 5]),
    ("contiguous", "format = { values = 'q4_1_gN' }", [false; 5]),
    ("paged", "block_size = N", [false, true, false, false, false]),
    ("paged", "max_blocks = N", [false, true, true, true, true]),
    ("paged", "max_blocks = N\nblock_size = 4096", [false, true, true, true, true]),
    ("paged", "format = 'q4_gN'", [false; 5]),
    ("sliding", "window = N", [false, true, true, true, true]),
    ("sliding", "window = N\nsinks = 4096\nformat = 'f16'", [false, true, true, true, true]),
    ("sliding", "sinks = N", [true, true, false, false, false]),
    ("sliding", "window = N\nsinks = N", [false, true, false, false, false]),
    ("quantized", "residual = N", [true; 5]),
    ("quantized", "residual = N\nformat = 'kivi2_g16'", [true; 5]),
    ("quantized", "format = 'kivi2_gN'", [false; 5]),
    ("quantized", "format = 'kivi4_gN'", [false; 5]),
    ("quantized", "format = { keys = 'q4_gN' }", [false; 5]),
];

fn geometry() -> Geometry {
    Geometry { context: 4096, ..toy_geometry() }
}

/// Two chunks and two single tokens, a fork, and what can be read; a cache that is full is as good. Returns what one
/// sequence takes.
fn use_a_little(cache: &mut dyn KvCache, name: &str) -> Usage {
    const TOKENS: usize = 42;
    let text = Text::new(&geometry(), 1, TOKENS);
    let seq = cache.open().unwrap();
    let steps: [Range<usize>; 4] = [0..25, 25..40, 40..41, 41..TOKENS];
    for fresh in steps {
        match step(cache, seq, &text, fresh) {
            Ok(_) => {}
            Err(CacheError::Full { .. }) => break,
            Err(error) => panic!("{name}: {error}"),
        }
    }
    let seen = cache.seen(seq).unwrap();
    cache.view(seq, 0, 0).unwrap();
    let least = cache.least_bytes(seen);
    let usage = cache.usage();
    assert!(usage.reserved_bytes() >= least, "{name}: {least} bytes at least, and {usage:?}");
    let fork = cache.fork(seq).unwrap();
    if let Err(error) = cache.truncate(fork, seen / 2) {
        assert!(matches!(error, CacheError::Unsupported { .. }), "{name}: {error}");
    }
    cache.close(fork).unwrap();
    cache.close(seq).unwrap();
    // Of a length that no sequence has, it is a number and no overflow.
    cache.least_bytes(usize::MAX);
    usage
}

#[test]
fn a_number_without_sense_is_refused_or_costs_nothing() {
    let registry = builtin();
    for (id, parameter, takes) in PARAMETERS {
        for (number, takes) in HOSTILE.into_iter().zip(takes) {
            let config = parameter.replace('N', &number.to_string());
            let name = format!("{id} {config}");
            let (entry, config) = (registry.get(id).unwrap(), toml::from_str(&config).unwrap());
            let predicted = |tokens, sequences| entry.predicted_bytes(&config, &geometry(), tokens, sequences).ok().flatten();
            for (tokens, sequences) in [(0, 1), (4096, 1), (usize::MAX, 1), (1, usize::MAX), (usize::MAX, usize::MAX)] {
                assert_eq!(predicted(tokens, sequences).is_some(), takes, "{name}: {sequences} sequences of {tokens} tokens");
            }
            match entry.build(&config, &geometry()) {
                Ok(mut cache) => {
                    assert!(takes, "{name} was built");
                    let usage = use_a_little(cache.as_mut(), &name);
                    let most = predicted(usage.seen_tokens, 1).unwrap().total();
                    assert!(usage.reserved_bytes() <= most, "{name}: {most} bytes at most, and {usage:?}");
                }
                Err(error) => {
                    assert!(!takes, "{name}: {error}");
                    assert!(matches!(error, ConfigError::Value { .. } | ConfigError::Parse { .. }), "{name}: {error:?}");
                    assert!(error.to_string().contains(&number.to_string()), "{name}: {error}");
                }
            }
        }
    }
}

#[test]
fn every_whole_number_of_every_config_is_tried() {
    fn numbers(schema: &Value, name: &str, found: &mut Vec<String>) {
        match schema {
            Value::Object(entries) => {
                let types = entries.get("type").map(Value::to_string).unwrap_or_default();
                if types.contains("integer") {
                    found.push(name.to_owned());
                }
                for (key, entry) in entries {
                    numbers(entry, key, found);
                }
            }
            Value::Array(entries) => entries.iter().for_each(|entry| numbers(entry, name, found)),
            _ => {}
        }
    }
    for entry in builtin().iter() {
        let mut names = vec![];
        numbers(entry.schema().as_value(), "", &mut names);
        for name in names {
            let is_tried = PARAMETERS.iter().any(|(id, config, _)| *id == entry.id() && config.contains(&format!("{name} = N")));
            assert!(is_tried, "`{name}` of `{}`", entry.id());
        }
    }
}

/// Numbers of every magnitude.
fn magnitudes() -> impl proptest::strategy::Strategy<Value = usize> {
    (any::<usize>(), 0..usize::BITS).prop_map(|(number, shift)| number >> shift)
}

proptest! {
    /// What can be built has a prediction, and what cannot has none.
    #[test]
    fn predictions_do_not_overflow(
        parameter in 0..PARAMETERS.len(), number in magnitudes(), tokens in magnitudes(), sequences in magnitudes(),
        layers in magnitudes(), value_dim in magnitudes(),
    ) {
        let (id, parameter, _) = PARAMETERS[parameter];
        let geometry = Geometry { layers, value_dim, ..geometry() };
        let config = parameter.replace('N', &(number >> 1).to_string()).parse().unwrap();
        let registry = builtin();
        let entry = registry.get(id).unwrap();
        let predicted = entry.predicted_bytes(&config, &geometry, tokens, sequences);
        prop_assert_eq!(predicted.is_ok_and(|bytes| bytes.is_some()), entry.build(&config, &geometry).is_ok());
    }
}

#[test]
fn sizes_that_only_a_program_can_give_do_not_overflow() {
    let window = kv_sliding::Config { window: usize::MAX, sinks: 3, ..Default::default() };
    use_a_little(&mut kv_sliding::Sliding::new(window, &geometry()).unwrap(), "window");
    let residual = kv_quantized::Config { residual: usize::MAX, ..Default::default() };
    use_a_little(&mut kv_quantized::Quantized::new(residual, &geometry()).unwrap(), "residual");
    let pool = kv_paged::Config { max_blocks: Some(usize::MAX), ..Default::default() };
    use_a_little(&mut kv_paged::Paged::new(pool, &geometry()).unwrap(), "max_blocks");
}

#[test]
fn a_geometry_whose_cache_no_machine_can_count_is_refused() {
    for geometry in [
        Geometry { context: usize::MAX, ..toy_geometry() },
        Geometry { layers: usize::MAX, ..toy_geometry() },
        Geometry { value_dim: usize::MAX, ..toy_geometry() },
    ] {
        for entry in builtin().iter() {
            let error = entry.build(&toml::Table::new(), &geometry).unwrap_err();
            assert_eq!(entry.predicted_bytes(&toml::Table::new(), &geometry, 1, 1), Err(error.clone()), "{}", entry.id());
            assert!(error.to_string().contains("more than any memory holds"), "{}: {error}", entry.id());
        }
    }
}
