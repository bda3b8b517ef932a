//! What an exact cache differs from itself by, when sums are taken in another order.

use kv_core::KvCache;
use kv_model::{Fresh, Sequence, StepInput};
use kv_quality::{Divergence, Divergences};
use kv_script::{Attention, chunks};

use super::{Reader, in_words};
use crate::recording::exact_cache;

/// Tokens from the beginning of the text that are fed in chunks, and how many at once.
const TOKENS: usize = 256;
const CHUNK: usize = 32;
/// Steps after the prompt.
const STEPS: usize = 16;

/// An exact cache that holds a part of the text.
struct Exact {
    cache: Box<dyn KvCache>,
    sequence: Sequence,
}

/// The mean KL divergence of an exact cache on all threads from one on another number of threads, step by step: while the
/// beginning of the text is read, and after the prompt.
pub(super) fn of(reader: &Reader<'_>) -> Result<f64, String> {
    let Some(text) = reader.texts.first() else { return Err("there is no text".into()) };
    let other = if rayon::current_num_threads() == 1 { 2 } else { 1 };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(other).build().map_err(in_words)?;
    let (seq_len, steps) = (reader.task.seq_len, STEPS.min(reader.task.steps));
    let beginning = TOKENS.min(seq_len);
    let mut divergences = Divergences::new(beginning + steps + 1, &[]).map_err(in_words)?;
    let vocabulary = reader.decoder.config().vocabulary;
    let mut compare = |here: &mut Exact, there: &mut Exact, positions: std::ops::Range<usize>, depth: usize| -> Result<(), String> {
        let tokens = &text.window.tokens[positions.start..positions.end + 1];
        let logits = |exact: &mut Exact| {
            let input = StepInput { sequence: &mut exact.sequence, fresh: Fresh::Tokens(&tokens[..positions.len()]) };
            reader.decoder.step_each(exact.cache.as_mut(), &mut [input]).map_err(in_words)
        };
        let reference = logits(here)?;
        let candidate = pool.install(|| logits(there))?;
        let rows = reference[0].chunks_exact(vocabulary).zip(candidate[0].chunks_exact(vocabulary));
        for (at, ((reference, candidate), next)) in rows.zip(&tokens[1..]).enumerate() {
            let divergence = Divergence::between(reference, candidate, *next).map_err(in_words)?;
            divergences.add(0, depth + at, divergence).map_err(in_words)?;
        }
        reader.channel.progress(depth, beginning + steps);
        Ok(())
    };

    let (mut here, mut there) = (empty(reader, beginning)?, empty(reader, beginning)?);
    for positions in chunks(0..beginning, CHUNK) {
        let depth = positions.start;
        compare(&mut here, &mut there, positions, depth)?;
    }
    let filled = || -> Result<Exact, String> {
        let mut exact = empty(reader, seq_len + steps)?;
        let prompt = &text.window.tokens[..seq_len];
        reader.replay(exact.cache.as_mut(), &mut exact.sequence, prompt, &text.recording, Attention::Skipped)?;
        Ok(exact)
    };
    let (mut here, mut there) = (filled()?, filled()?);
    for step in 0..steps {
        compare(&mut here, &mut there, seq_len + step..seq_len + step + 1, beginning + step)?;
    }
    Ok(divergences.summary().map_err(in_words)?.overall.kl_mean.value)
}

fn empty(reader: &Reader<'_>, tokens: usize) -> Result<Exact, String> {
    let mut cache = exact_cache(&reader.decoder.config().geometry, tokens).map_err(|problem| problem.line())?;
    let sequence = Sequence::open(cache.as_mut()).map_err(in_words)?;
    Ok(Exact { cache, sequence })
}
