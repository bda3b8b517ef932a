//! What an exact cache differs from itself by, when sums are taken in another order.

use kv_model::{Fresh, Sequence, StepInput};
use kv_quality::{Divergence, Divergences};

use super::{Reader, in_words};
use crate::recording::exact_cache;

/// Steps that are compared.
const STEPS: usize = 16;

/// The mean KL divergence of an exact cache on all threads from one on another number of threads, step by step.
pub(super) fn of(reader: &Reader<'_>) -> Result<f64, String> {
    let Some(text) = reader.texts.first() else { return Err("there is no text".into()) };
    let other = if rayon::current_num_threads() == 1 { 2 } else { 1 };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(other).build().map_err(in_words)?;
    let (seq_len, steps) = (reader.task.seq_len, STEPS.min(reader.task.steps));
    let mut divergences = Divergences::new(STEPS, &[]).map_err(in_words)?;
    let filled = || {
        let geometry = &reader.decoder.config().geometry;
        let mut cache = exact_cache(geometry, seq_len + steps).map_err(|problem| problem.line())?;
        let mut sequence = Sequence::open(cache.as_mut()).map_err(in_words)?;
        reader.replay(cache.as_mut(), &mut sequence, text, false)?;
        Ok::<_, String>((cache, sequence))
    };
    let (mut here, mut there) = (filled()?, filled()?);
    for step in 0..steps {
        let position = seq_len + step;
        let tokens = &text.window.tokens[position..position + 2];
        let logits = |(cache, sequence): &mut (Box<dyn kv_core::KvCache>, Sequence)| {
            let input = StepInput { sequence, fresh: Fresh::Tokens(&tokens[..1]) };
            reader.decoder.step(cache.as_mut(), &mut [input]).map_err(in_words)
        };
        let reference = logits(&mut here)?;
        let candidate = pool.install(|| logits(&mut there))?;
        let divergence = Divergence::between(&reference[0], &candidate[0], tokens[1]).map_err(in_words)?;
        divergences.add(0, step, divergence).map_err(in_words)?;
    }
    Ok(divergences.summary().map_err(in_words)?.overall.kl_mean.value)
}
