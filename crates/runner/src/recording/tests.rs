//! A replayed prompt is the prompt.

use std::path::Path;

use kv_core::{Entry, Geometry, Guarantee, KvCache};
use kv_kernels::WeightFormat;
use kv_model::{Decoder, Preset, Sequence};
use kv_script::{Attention, Driver, Input, Interpreter, RowSource, Script, ScriptError, names};

use super::*;
use crate::drivers::{CellRows, Generated, ModelDriver, ReplayDriver};
use crate::workloads::random_tokens;

const CHUNK: usize = 24;
/// One that ends with a chunk, one within the first and one within a later chunk.
const LENGTHS: [usize; 3] = [7, 72, 101];
/// Tokens that follow.
const STEPS: usize = 50;

fn decoder() -> Decoder {
    Preset::find("tiny").unwrap().build(Some(2), WeightFormat::F32, 0, Default::default()).unwrap().decoder
}

fn key(decoder: &Decoder, queries: Queries) -> RecordingKey {
    let times = if queries == Queries::Recorded { Times::Taken } else { Times::LeftOut };
    let tokens = random_tokens(3, decoder.config().vocabulary, LENGTHS[2]);
    prompt_key("tiny", tokens, CHUNK, LENGTHS.to_vec(), rayon::current_num_threads(), (queries, times))
}

fn recorded(decoder: &Decoder, folder: &Path, queries: Queries) -> Recording {
    let geometry = &decoder.config().geometry;
    let header = record(decoder, key(decoder, queries), rows_file(folder).unwrap(), |_, _| ()).unwrap();
    finish(folder, &header).unwrap();
    Recording::open(folder, geometry).unwrap()
}

/// Strategies in several formats, with and without eviction.
fn instances() -> Vec<(Entry, toml::Table)> {
    let registry = crate::builtin();
    let instance = |id: &str, config: &str| (*registry.get(id).unwrap(), toml::from_str(config).unwrap());
    vec![
        instance("contiguous", ""),
        instance("contiguous", "growth = 'concat'"),
        instance("contiguous", "format = 'f16'"),
        instance("paged", ""),
        instance("paged", "format = 'q8_0'\nblock_size = 5"),
        instance("sliding", "window = 16\nsinks = 4"),
        instance("sliding", "window = 4096"),
        instance("quantized", ""),
        instance("quantized", "format = 'kivi2'\nresidual = 32"),
    ]
}

/// A cache that was fed a prompt, and the tokens that follow.
fn fed<D: Driver<Sequence = Sequence>>(
    (entry, config): &(Entry, toml::Table),
    geometry: &Geometry,
    driver: D,
    prompt: &[u32],
) -> (Box<dyn KvCache>, Vec<u32>)
where
    D::Error: std::fmt::Debug,
{
    let mut cache = entry.build(config, geometry).unwrap();
    let mut interpreter = Interpreter::new(driver);
    let run = |interpreter: &mut Interpreter<D>, cache: &mut dyn KvCache, script: Script| {
        script.events.iter().for_each(|event| interpreter.run(cache, event).unwrap());
    };
    run(&mut interpreter, cache.as_mut(), Script::prefill(&[prompt], CHUNK));
    let mut tokens = vec![interpreter.next_token(&names(1)[0]).unwrap()];
    for _ in 0..STEPS {
        run(&mut interpreter, cache.as_mut(), Script::decode(1, 1));
        tokens.push(interpreter.next_token(&names(1)[0]).unwrap());
    }
    (cache, tokens)
}

#[test]
fn replay_equals_prefill() {
    let decoder = decoder();
    let geometry = decoder.config().geometry.clone();
    let folder = tempfile::tempdir().unwrap();
    let recording = recorded(&decoder, folder.path(), Queries::Recorded);
    let times = LENGTHS.map(|len| recording.model_ms(len).unwrap());
    assert!(times[0] > 0.0 && times[2] > times[1], "the chunks of the longer prompt are those of the shorter one: {times:?}");
    let prompt = key(&decoder, Queries::Recorded).tokens;
    for instance in instances() {
        for len in LENGTHS {
            let what = format!("{} {} at {len}", instance.0.id(), instance.1);
            let prompt = &prompt[..len];
            let (computed, expected) = fed(&instance, &geometry, ModelDriver::new(&decoder), prompt);
            for attention in [Attention::Run, Attention::Skipped] {
                let driver = ReplayDriver::new(ModelDriver::new(&decoder), recording.clone(), attention, len);
                let (replayed, tokens) = fed(&instance, &geometry, driver, prompt);
                assert_eq!(replayed.usage(), computed.usage(), "{what}");
                let is_exact = |guarantee: Guarantee| matches!(guarantee, Guarantee::Exact);
                // A window that drops nothing is exact in fact.
                if is_exact(computed.guarantee()) || what.contains("4096") {
                    assert_eq!(tokens, expected, "{what}");
                    same_rows(computed.as_ref(), replayed.as_ref(), &geometry, &what);
                }
            }
        }
    }
}

/// Both caches hold the same rows, bit for bit.
fn same_rows(one: &dyn KvCache, other: &dyn KvCache, geometry: &Geometry, what: &str) {
    // The first sequence of every cache has the same id.
    let seq = crate::builtin().get("contiguous").unwrap().build(&toml::Table::new(), geometry).unwrap().open().unwrap();
    for layer in 0..geometry.layers {
        for kv_head in 0..geometry.kv_heads {
            let [one, other] = [one, other].map(|cache| cache.view(seq, layer, kv_head).unwrap());
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(one.positions, other.positions, "{what}");
            assert!(bits(&one.keys) == bits(&other.keys) && bits(&one.values) == bits(&other.values), "{what}: layer {layer}");
        }
    }
}

#[test]
fn a_recording_says_what_it_does_not_have() {
    let decoder = decoder();
    let folder = tempfile::tempdir().unwrap();
    let mut recording = recorded(&decoder, folder.path(), Queries::LeftOut);
    assert!(recording.keys(0, 0..24).is_ok() && recording.values(1, 3..9).is_ok());
    for refused in [recording.queries(0, 0..24), recording.keys(0, 20..30), recording.keys(0, 90..102)] {
        assert!(matches!(refused, Err(ReplayError::Missing { .. })), "{refused:?}");
    }
    let other = [0; 24];
    assert!(recording.check(0..24, &Input::Tokens(other.to_vec())).is_err());
    assert!(recording.check(0..1, &Input::Embeddings(vec![[0.0; 64].into()])).is_err());
    assert_eq!((recording.next_token(100), recording.next_token(101).is_some()), (None, true));
    assert_eq!(recording.model_ms(101), None, "nobody wants to know how long it took");

    let driver = ReplayDriver::new(ModelDriver::new(&decoder), recording, Attention::Run, LENGTHS[1]);
    let mut cache = exact_cache(&decoder.config().geometry, LENGTHS[2]).unwrap();
    let mut interpreter = Interpreter::new(driver);
    let prompt = key(&decoder, Queries::LeftOut).tokens;
    let events = Script::prefill(&[&prompt[..LENGTHS[1]]], CHUNK).events;
    let refused = events.iter().try_for_each(|event| interpreter.run(cache.as_mut(), event));
    assert!(matches!(refused, Err(ScriptError::Driver(ReplayError::Missing { what: "no queries", .. }))), "{refused:?}");
}

#[test]
fn a_damaged_recording_is_not_opened() {
    let decoder = decoder();
    let geometry = &decoder.config().geometry;
    let folder = tempfile::tempdir().unwrap();
    let recording = recorded(&decoder, folder.path(), Queries::Recorded);
    assert!(recording.is_of(&key(&decoder, Queries::Recorded)) && !recording.is_of(&key(&decoder, Queries::LeftOut)));
    let rows = folder.path().join("rows.bin");
    let file = std::fs::OpenOptions::new().write(true).open(&rows).unwrap();
    file.set_len(rows.metadata().unwrap().len() - 4).unwrap();
    assert!(Recording::open(folder.path(), geometry).unwrap_err().to_string().contains("bytes of rows instead of"));
    // One that is begun again has no header until it is finished.
    rows_file(folder.path()).unwrap();
    assert!(Recording::open(folder.path(), geometry).is_err());
}

#[test]
fn a_disk_that_is_full_ends_a_recording_with_its_error() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let decoder = decoder();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let error = record(&decoder, key(&decoder, Queries::Recorded), full, |_, _| ()).unwrap_err();
    assert!(error.to_string().contains("No space left on device"), "{error}");
}

#[test]
fn stale_recordings_are_removed_and_wanted_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path().join("recordings"));
    let decoder = decoder();
    let of_seed = |seed: u64| RecordingKey { model: seed.to_string(), ..key(&decoder, Queries::LeftOut) };
    let (living, unfinished) = (folder.path().join("living"), folder.path().join("unfinished"));
    std::fs::create_dir(&unfinished).unwrap();
    let held = store.claim(&of_seed(0), Kept::UntilTheEnd, &living).unwrap();
    let path_of = |stored: StoredRecording| stored.folder().to_owned();
    let stale = path_of(store.claim(&of_seed(1), Kept::UntilTheEnd, &folder.path().join("gone")).unwrap());
    let kept = path_of(store.claim(&of_seed(2), Kept::Always, &folder.path().join("gone")).unwrap());
    let resumable = path_of(store.claim(&of_seed(3), Kept::UntilTheEnd, &unfinished).unwrap());
    store.remove_stale();
    assert!(held.folder().exists() && !stale.exists() && kept.exists() && resumable.exists());
    // Another run of the same prompt has a folder of its own as long as the first lives.
    let second = store.claim(&of_seed(0), Kept::UntilTheEnd, &living).unwrap();
    assert_ne!(second.folder(), held.folder());
    second.end();
    held.end();
    assert_eq!(std::fs::read_dir(folder.path().join("recordings")).unwrap().count(), 2);
}

/// Caches alone are fed the recorded rows whatever their steps are, and generated ones only behind them, where there are any.
#[test]
fn rows_without_a_model_are_the_recorded_ones() {
    let (decoder, folder) = (decoder(), tempfile::tempdir().unwrap());
    let mut recording = recorded(&decoder, folder.path(), Queries::Recorded);
    let geometry = decoder.config().geometry.clone();
    let mut rows = CellRows { geometry: geometry.clone(), recording: Some(recording.clone()), generated: None };
    let all = rows.keys(1, 0..LENGTHS[2]).unwrap();
    assert_eq!(all.dims(), [LENGTHS[2], geometry.kv_heads, geometry.key_dim]);
    // Whole chunks, and then the last length's own step.
    for piece in [0..24, 24..48, 48..72, 72..96, 96..101] {
        let recorded = recording.keys(1, piece.clone()).unwrap();
        let width = geometry.kv_heads * geometry.key_dim;
        assert_eq!(&all.values()[piece.start * width..piece.end * width], recorded.values(), "{piece:?}");
        for position in piece.clone() {
            let one = rows.queries(0, position..position + 1).unwrap();
            assert_eq!(
                one.values(),
                &recording.queries(0, piece.clone()).unwrap().values()[(position - piece.start) * geometry.heads * geometry.key_dim..]
                    [..geometry.heads * geometry.key_dim]
            );
        }
    }
    // A prompt that ends within a chunk has a step of its own.
    assert_eq!(rows.values(0, 0..7).unwrap(), recording.values(0, 0..7).unwrap());
    let error = rows.keys(0, 100..102).unwrap_err();
    assert!(matches!(error, ReplayError::Missing { .. }), "{error}");

    let mut generated = Generated::new(geometry.clone(), 5);
    let mut both = CellRows { geometry, recording: Some(recording), generated: Some(generated.clone()) };
    assert_eq!(both.keys(0, 101..103).unwrap(), generated.keys(0, 101..103).unwrap());
    let mixed = both.values(1, 96..103).unwrap();
    assert_eq!(mixed.row(4, 0), rows.values(1, 100..101).unwrap().row(0, 0));
    assert_eq!(mixed.row(6, 0), generated.values(1, 102..103).unwrap().row(0, 0));
}
