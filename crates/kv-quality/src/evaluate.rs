//! The next steps of a filled cache against dense attention.

use kv_core::{CacheError, Geometry, KvCache, Rows, SeqId};
use kv_script::{Attention, RowSource, step_watched};

use crate::{DecodedErrors, DenseReference, EvaluateError, OutputErrors, RetainedMass};

/// What some steps of a cache show.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Errors of the steps' attention outputs.
    pub outputs: OutputErrors,
    /// Exact attention on the positions that each step's query could see.
    pub retained: RetainedMass,
    /// Errors of the rows held after the last step.
    pub decoded: DecodedErrors,
    /// Steps made.
    pub steps: usize,
}

/// Runs the next `steps` steps of a sequence, of one token each, and compares each of their outputs with dense attention over
/// all rows ever appended. The sequence holds the rows of the source from position 0 on, and is longer afterwards. Recall is
/// that of the `top_k` largest weights.
///
/// The newest token's own row counts as held, in full precision, in every step: caches round in `commit`.
///
/// # Errors
/// [`EvaluateError::Source`] is the source's error, or the cache's. [`EvaluateError::Quality`] if the reference does not have
/// all positions up to the last step's, `top_k` is 0, or an output is not finite.
pub fn evaluate<S: RowSource>(
    cache: &mut dyn KvCache,
    seq: SeqId,
    source: &mut S,
    reference: &DenseReference,
    steps: usize,
    top_k: usize,
) -> Result<Evaluation, EvaluateError<S::Error>> {
    let Geometry { layers, heads, kv_heads, .. } = *reference.geometry();
    let mut evaluation = Evaluation {
        outputs: OutputErrors::new(layers),
        retained: RetainedMass::new(layers, heads, top_k)?,
        decoded: DecodedErrors::new(layers),
        steps,
    };
    let first = cache.seen(seq).map_err(refused::<S>)?;
    for position in first..first + steps {
        let queries = (0..layers).map(|layer| source.queries(layer, position..position + 1));
        let queries = queries.collect::<Result<Vec<_>, _>>().map_err(EvaluateError::Source)?;
        let watched = watch(cache, seq, source, position).map_err(EvaluateError::Source)?;
        for (layer, (queries, Watched { output, held })) in queries.iter().zip(watched).enumerate() {
            let exact = reference.attend(layer, position, queries)?;
            evaluation.outputs.add(layer, &exact.output, &output)?;
            let held = held.map_err(refused::<S>)?;
            for (head, weights) in exact.weights.iter().enumerate() {
                evaluation.retained.add(layer, head, weights, &held[head / (heads / kv_heads)])?;
            }
        }
    }
    for (layer, kv_head) in (0..layers).flat_map(|layer| (0..kv_heads).map(move |kv_head| (layer, kv_head))) {
        let view = cache.view(seq, layer, kv_head).map_err(refused::<S>)?;
        evaluation.decoded.add(reference, layer, kv_head, &view)?;
    }
    Ok(evaluation)
}

/// What a step shows in one layer.
pub(crate) struct Watched {
    /// The newest token's, `[1, heads, value_dim]`.
    pub(crate) output: Rows,
    /// For each KV head the positions that the newest token's query sees.
    held: Result<Vec<Vec<usize>>, CacheError>,
}

/// Runs a step of one token and keeps what each layer shows.
fn watch<S: RowSource>(cache: &mut dyn KvCache, seq: SeqId, source: &mut S, position: usize) -> Result<Vec<Watched>, S::Error> {
    let kv_heads = source.geometry().kv_heads;
    let mut watched = vec![];
    step_watched(cache, source, &[(seq, position..position + 1)], Attention::Run, |cache, layer, outputs| {
        let held = (0..kv_heads).map(|kv_head| Ok(cache.view(seq, layer, kv_head)?.positions)).collect();
        watched.push(Watched { output: newest(&outputs), held });
    })?;
    Ok(watched)
}

/// The rows of the newest token. A cache that recomputes answers for earlier ones too.
pub(crate) fn newest(outputs: &Rows) -> Rows {
    let [tokens, heads, dim] = outputs.dims();
    let first = tokens.saturating_sub(1) * heads * dim;
    Rows::new([tokens.min(1), heads, dim], outputs.values()[first..].to_vec())
}

fn refused<S: RowSource>(error: CacheError) -> EvaluateError<S::Error> {
    EvaluateError::Source(error.into())
}

#[cfg(test)]
mod tests {
    use kv_contiguous::Contiguous;
    use kv_core::Strategy;
    use kv_naive::Naive;
    use kv_quantized::Quantized;
    use kv_script::step;
    use kv_sliding::Sliding;

    use super::*;
    use crate::QualityError;
    use crate::toy::{Toy, geometry};

    const TOKENS: usize = 300;
    const STEPS: usize = 4;

    fn evaluated<C: Strategy>(config: &str) -> Evaluation {
        let mut source = Toy::new(geometry(6, 2, 64, 32), 5);
        let reference = DenseReference::build(&mut source, TOKENS + STEPS).unwrap();
        let mut cache = C::new(toml::from_str(config).unwrap(), source.geometry()).unwrap();
        let seq = cache.open().unwrap();
        step(&mut cache, &mut source, &[(seq, 0..TOKENS)], Attention::Skipped).unwrap();
        evaluate(&mut cache, seq, &mut source, &reference, STEPS, 32).unwrap()
    }

    #[test]
    fn exact_caches_lose_nothing() {
        for evaluation in [evaluated::<Contiguous>(""), evaluated::<Naive>(""), evaluated::<Sliding>("window = 1000\nsinks = 4")] {
            let outputs = evaluation.outputs.overall();
            assert!(outputs.relative_l2.unwrap() < 1e-5 && outputs.cosine.unwrap() > 1.0 - 1e-9, "{outputs:?}");
            assert_eq!(outputs.rows, STEPS * 2 * 6);
            let retained = evaluation.retained.overall();
            assert!((retained.mass.unwrap() - 1.0).abs() < 1e-12 && retained.top_k_recall == Some(1.0), "{retained:?}");
        }
        let decoded = evaluated::<Contiguous>("").decoded.overall();
        assert_eq!((decoded.keys, decoded.values, decoded.rows), (Some(0.0), Some(0.0), 2 * 2 * (TOKENS + STEPS)));
    }

    #[test]
    fn fewer_bits_are_worse_and_keep_every_position() {
        let quantized = |format: &str| evaluated::<Quantized>(&format!("format = '{format}'"));
        let evaluations = [evaluated::<Contiguous>("format = 'f16'"), quantized("q8_0"), quantized("q4_0"), quantized("kivi2")];
        let of = |of: fn(&Evaluation) -> f64| evaluations.iter().map(of).collect::<Vec<f64>>();
        for errors in [
            of(|evaluation| evaluation.outputs.overall().relative_l2.unwrap()),
            of(|evaluation| 1.0 - evaluation.outputs.overall().cosine.unwrap()),
            of(|evaluation| evaluation.decoded.overall().keys.unwrap()),
            of(|evaluation| evaluation.decoded.overall().values.unwrap()),
        ] {
            assert!(errors.is_sorted_by(|a, b| 2.0 * a < *b), "{errors:?}");
        }
        assert!(evaluations.iter().all(|evaluation| evaluation.retained.overall().top_k_recall == Some(1.0)));
    }

    #[test]
    fn a_window_loses_the_mass_outside_of_it() {
        let window = evaluated::<Sliding>("window = 32");
        let sinks = evaluated::<Sliding>("window = 28\nsinks = 4");
        let retained = window.retained.overall();
        // 32 of about 300 positions whose weights are alike.
        assert!((0.03..0.3).contains(&retained.mass.unwrap()), "{retained:?}");
        assert!((0.03..0.3).contains(&retained.top_k_recall.unwrap()), "{retained:?}");
        assert!(window.outputs.overall().relative_l2.unwrap() > 0.3);
        assert_eq!(window.decoded.overall().rows, 2 * 2 * 32);
        // The sinks are moved next to the window, and are the rows that were appended all the same.
        let decoded = sinks.decoded.overall();
        assert_eq!((decoded.rows, decoded.moved_rows), (2 * 2 * 32, 2 * 2 * 4));
        assert!(decoded.keys.unwrap() < 1e-5 && decoded.values == Some(0.0), "{decoded:?}");
        assert_eq!(window.decoded.overall().keys, Some(0.0));
    }

    #[test]
    fn one_thread_and_two_say_the_same() {
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| evaluated::<Quantized>("format = 'q4_0'"))
        };
        let (one, two) = (on(1), on(2));
        assert_eq!((&one.retained, &one.decoded), (&two.retained, &two.decoded));
        // The cache's own sums depend on how its keys are shared among threads.
        let error = |of: &Evaluation| of.outputs.overall().relative_l2.unwrap();
        assert!((error(&one) - error(&two)).abs() < 1e-6, "{} and {}", error(&one), error(&two));
    }

    #[test]
    fn a_short_reference_is_refused() {
        let mut source = Toy::new(geometry(2, 1, 4, 4), 1);
        let reference = DenseReference::build(&mut source, 9).unwrap();
        let mut cache = Contiguous::new(Default::default(), source.geometry()).unwrap();
        let seq = cache.open().unwrap();
        step(&mut cache, &mut source, &[(seq, 0..8)], Attention::Skipped).unwrap();
        let error = evaluate(&mut cache, seq, &mut source, &reference, 2, 4).unwrap_err();
        assert_eq!(error, EvaluateError::Quality(QualityError::TooShort { held: 9, needed: 10 }));
        cache.close(seq).unwrap();
        let closed = evaluate(&mut cache, seq, &mut source, &reference, 1, 4).unwrap_err();
        assert_eq!(closed, EvaluateError::Source(CacheError::Closed { seq }));
    }
}
