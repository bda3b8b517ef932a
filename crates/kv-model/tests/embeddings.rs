//! What a sequence is fed, embeddings in the place of tokens too, and which logits are answered.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Cursor;
use std::sync::Arc;

use kv_core::{KvCache, Registry};
use kv_model::{Fresh, LoadOptions, Model, ModelError, ReadSeek, Sequence, StepInput, hugging_face};
use workspace_tests::chain::{Chain, Tensors, safetensors_file};

const VOCABULARY: usize = 24;

/// Tensors of a model in which every position matters.
fn tensors() -> Tensors {
    let mut tensors = Chain::new(VOCABULARY).then(&[1, 2, 3]).tensors();
    for (_, values) in tensors.values_mut() {
        for (index, value) in values.iter_mut().enumerate() {
            *value += 0.3 * ((index * 7919 % 101) as f32 / 50.0 - 1.0);
        }
    }
    tensors
}

fn model() -> Model {
    let file: Box<dyn ReadSeek> = Box::new(Cursor::new(safetensors_file(&tensors())));
    let config = Chain::new(VOCABULARY).then(&[1, 2, 3]).config().to_string();
    let directory = hugging_face::Directory { config: &config, shards: vec![("model.safetensors".into(), file)], ..Default::default() };
    hugging_face::load(directory, LoadOptions::default()).unwrap()
}

/// The embeddings of tokens.
fn embedded(tokens: &[u32]) -> Vec<Arc<[f32]>> {
    let tensors = tensors();
    let rows = &tensors["model.embed_tokens.weight"].1;
    let hidden = rows.len() / VOCABULARY;
    tokens.iter().map(|token| rows[*token as usize * hidden..][..hidden].into()).collect()
}

fn caches(model: &Model) -> Vec<Box<dyn KvCache>> {
    let registry = Registry::new().with::<kv_contiguous::Contiguous>().with::<kv_naive::Naive>();
    let build = |id: &str| registry.get(id).unwrap().build(&Default::default(), &model.decoder.config().geometry).unwrap();
    vec![build("contiguous"), build("naive")]
}

fn step(model: &Model, cache: &mut dyn KvCache, sequence: &mut Sequence, fresh: Fresh<'_>) -> Result<Vec<f32>, ModelError> {
    Ok(model.decoder.step(cache, &mut [StepInput { sequence, fresh }])?.remove(0))
}

#[test]
fn embeddings_of_tokens_give_the_logits_of_the_tokens() {
    let model = model();
    for mut cache in caches(&model) {
        let cache = cache.as_mut();
        let mut of_tokens = Sequence::open(cache).unwrap();
        let mut mixed = Sequence::open(cache).unwrap();
        step(&model, cache, &mut of_tokens, Fresh::Tokens(&[4, 5, 6])).unwrap();
        step(&model, cache, &mut mixed, Fresh::Embeddings(&embedded(&[4, 5, 6]))).unwrap();
        // A cache that recomputes needs the embeddings again here, in both sequences of the fork.
        let mut forked = mixed.fork(cache).unwrap();
        let expected = step(&model, cache, &mut of_tokens, Fresh::Tokens(&[7, 8])).unwrap();
        for sequence in [&mut mixed, &mut forked] {
            assert_eq!(step(&model, cache, sequence, Fresh::Tokens(&[7, 8])).unwrap(), expected);
        }
        let other = step(&model, cache, &mut mixed, Fresh::Embeddings(&embedded(&[9]))).unwrap();
        assert_ne!(step(&model, cache, &mut forked, Fresh::Embeddings(&embedded(&[10]))).unwrap(), other);
        // Taken back, and fed as tokens.
        forked.truncate(cache, 2).unwrap();
        step(&model, cache, &mut forked, Fresh::Tokens(&[6])).unwrap();
        assert_eq!(step(&model, cache, &mut forked, Fresh::Tokens(&[7, 8])).unwrap(), expected);
    }
}

#[test]
fn embeddings_of_another_width_are_refused() {
    let model = model();
    let hidden = model.decoder.config().hidden;
    for mut cache in caches(&model) {
        let mut sequence = Sequence::open(cache.as_mut()).unwrap();
        let rows: [Arc<[f32]>; 2] = [vec![0.5; hidden].into(), vec![0.5; hidden + 1].into()];
        let refused = step(&model, cache.as_mut(), &mut sequence, Fresh::Embeddings(&rows));
        assert_eq!(refused, Err(ModelError::Embedding { values: hidden + 1, hidden }));
        assert_eq!(step(&model, cache.as_mut(), &mut sequence, Fresh::Embeddings(&[])), Err(ModelError::NoTokens));
        assert!(sequence.history().is_empty());
    }
}

/// A text that is known is read in chunks, and judged at every position.
#[test]
fn the_logits_of_each_position_are_those_of_single_steps() {
    let model = model();
    let tokens = [4, 5, 6, 7, 8];
    for mut cache in caches(&model) {
        let cache = cache.as_mut();
        let (mut single, mut chunks, mut other) =
            (Sequence::open(cache).unwrap(), Sequence::open(cache).unwrap(), Sequence::open(cache).unwrap());
        let expected: Vec<f32> =
            tokens.iter().flat_map(|token| step(&model, cache, &mut single, Fresh::Tokens(&[*token])).unwrap()).collect();
        let mut inputs = [
            StepInput { sequence: &mut chunks, fresh: Fresh::Tokens(&tokens[..2]) },
            StepInput { sequence: &mut other, fresh: Fresh::Tokens(&tokens[..1]) },
        ];
        let first = model.decoder.step_each(cache, &mut inputs).unwrap();
        let mut inputs = [StepInput { sequence: &mut chunks, fresh: Fresh::Tokens(&tokens[2..]) }];
        let second = model.decoder.step_each(cache, &mut inputs).unwrap();
        assert_eq!((first[0].len(), first[1].len(), second[0].len()), (2 * VOCABULARY, VOCABULARY, 3 * VOCABULARY));
        let actual = first[0].iter().chain(&second[0]);
        assert!(actual.zip(&expected).all(|(actual, expected)| (actual - expected).abs() < 1e-4));
        assert!(first[1].iter().zip(&expected).all(|(actual, expected)| (actual - expected).abs() < 1e-4));
        // Those of the last positions alone, and of all where there are fewer.
        let mut last = Sequence::open(cache).unwrap();
        let mut inputs = [StepInput { sequence: &mut last, fresh: Fresh::Tokens(&tokens) }];
        let two = model.decoder.step_last(cache, &mut inputs, 2).unwrap().remove(0);
        assert_eq!(two.len(), 2 * VOCABULARY);
        assert!(two.iter().zip(&expected[3 * VOCABULARY..]).all(|(actual, expected)| (actual - expected).abs() < 1e-4));
        let mut inputs = [StepInput { sequence: &mut last, fresh: Fresh::Tokens(&tokens[..1]) }];
        assert_eq!(model.decoder.step_last(cache, &mut inputs, 2).unwrap()[0].len(), VOCABULARY);
    }
}

#[test]
fn a_tokens_embedding_is_what_the_model_reads_for_it() {
    let model = model();
    assert_eq!(model.decoder.embedding(9).unwrap()[..], *embedded(&[9])[0]);
    let refused = model.decoder.embedding(VOCABULARY as u32);
    assert_eq!(refused, Err(ModelError::Token { token: VOCABULARY as u32, vocabulary: VOCABULARY }));
}
