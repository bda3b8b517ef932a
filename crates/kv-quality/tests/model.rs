//! A pair of caches under a decoder, and the divergences of its logits.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use kv_contiguous::Contiguous;
use kv_core::{KvCache, Strategy};
use kv_kernels::WeightFormat;
use kv_model::{Decoder, Fresh, Preset, Sequence, StepInput};
use kv_naive::Naive;
use kv_paged::Paged;
use kv_quality::{Divergence, Divergences, Paired, Side, Summary};
use kv_quantized::Quantized;
use kv_sliding::Sliding;

const WINDOWS: usize = 3;
const WINDOW_TOKENS: usize = 48;

fn decoder() -> Decoder {
    Preset::find("tiny").unwrap().build(Some(2), WeightFormat::F32, 7, Default::default()).unwrap().decoder
}

/// Streams windows of a text through both sides, all in the same steps of one token.
fn divergences<C: Strategy>(decoder: &Decoder, config: &str) -> Divergences {
    divergences_seen::<C>(decoder, config, |_, _| ())
}

/// The same, with a look at the logits of both sides in every step.
fn divergences_seen<C: Strategy>(decoder: &Decoder, config: &str, look: impl Fn(&[Vec<f32>], &[Vec<f32>])) -> Divergences {
    let geometry = &decoder.config().geometry;
    let exact = || Contiguous::new(Default::default(), geometry).unwrap();
    let candidate = C::new(toml::from_str(config).unwrap(), geometry).unwrap();
    let mut pair = Paired::new(geometry, Box::new(exact()), Box::new(candidate));
    let mut open = |side: Side| -> Vec<Sequence> {
        pair.open_next_on(side);
        (0..WINDOWS).map(|_| Sequence::open(&mut pair).unwrap()).collect()
    };
    let mut sequences = [open(Side::Reference), open(Side::Candidate)].into_iter().flatten().collect::<Vec<_>>();
    let token = |window: usize, at: usize| ((window * 131 + at * at * 17 + at * 7) % decoder.config().vocabulary) as u32;

    let mut divergences = Divergences::new(WINDOW_TOKENS, &[0, 16, 32, 48]).unwrap();
    for depth in 1..WINDOW_TOKENS {
        let tokens: Vec<[u32; 1]> = (0..2 * WINDOWS).map(|row| [token(row % WINDOWS, depth - 1)]).collect();
        let input = |(sequence, token)| StepInput { sequence, fresh: Fresh::Tokens(token) };
        let mut inputs: Vec<StepInput<'_>> = sequences.iter_mut().zip(tokens.iter().map(|token| &token[..])).map(input).collect();
        let logits = decoder.step(&mut pair, &mut inputs).unwrap();
        let (reference, candidate) = logits.split_at(WINDOWS);
        look(reference, candidate);
        for (window, (reference, candidate)) in reference.iter().zip(candidate).enumerate() {
            let divergence = Divergence::between(reference, candidate, token(window, depth)).unwrap();
            divergences.add(window, depth, divergence).unwrap();
        }
    }
    assert_eq!(pair.usage().seen_tokens, 2 * WINDOWS * (WINDOW_TOKENS - 1));
    divergences
}

fn summary<C: Strategy>(decoder: &Decoder, config: &str) -> Summary {
    divergences::<C>(decoder, config).summary().unwrap()
}

#[test]
fn two_exact_rows_of_a_step_have_bit_equal_logits() {
    let decoder = decoder();
    let bits = |rows: &[Vec<f32>]| rows.iter().flatten().map(|logit| logit.to_bits()).collect::<Vec<_>>();
    let all = divergences_seen::<Contiguous>(&decoder, "", |reference, candidate| assert_eq!(bits(reference), bits(candidate)));
    assert_eq!(all.iter().count(), WINDOWS * (WINDOW_TOKENS - 1));
    assert!(all.iter().all(|(_, _, divergence)| divergence.kl == 0.0 && divergence.probability_change() == 0.0));
    let statistics = all.summary().unwrap().overall;
    assert_eq!((statistics.same_top1.value, statistics.tied_top1.value, statistics.perplexity_delta.value), (1.0, 0.0, 0.0));
}

#[test]
fn exact_strategies_say_the_same_but_for_ties() {
    let decoder = decoder();
    for (strategy, summary) in [
        ("naive", summary::<Naive>(&decoder, "")),
        ("contiguous that concatenates", summary::<Contiguous>(&decoder, "growth = 'concat'")),
        ("paged", summary::<Paged>(&decoder, "block_size = 7")),
        ("a window that holds all", summary::<Sliding>(&decoder, "window = 44\nsinks = 4")),
    ] {
        let all = summary.overall;
        assert!(all.kl_max <= 1e-6, "{strategy}: {all:?}");
        assert_eq!(all.same_top1.value + all.tied_top1.value, 1.0, "{strategy}: {all:?}");
    }
}

#[test]
fn fewer_bits_diverge_more() {
    let decoder = decoder();
    let summaries = [
        summary::<Contiguous>(&decoder, "format = 'f16'"),
        summary::<Quantized>(&decoder, "format = 'q8_0'"),
        summary::<Quantized>(&decoder, "format = 'q4_0'"),
    ];
    let means = summaries.map(|summary| summary.overall.kl_mean.value);
    assert!(means[0] > 0.0 && means.is_sorted_by(|a, b| 2.0 * a < *b), "{means:?}");
}

#[test]
fn a_window_diverges_from_where_tokens_leave_it() {
    let summary = summary::<Sliding>(&decoder(), "window = 32");
    let means: Vec<f64> = summary.depths.iter().map(|part| part.statistics.kl_mean.value).collect();
    // At depth 32 the query still sees all tokens.
    assert_eq!(means.len(), 3);
    assert!(means[1] < 1e-9 && means[2] > 1e-6, "{means:?}");
}
