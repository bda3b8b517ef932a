//! Sequences beyond the model's context.

use std::collections::BTreeSet;
use std::f32::consts::SQRT_2;

use kv_core::{Geometry, Guarantee, KvCache, Rows, SeqId};

use super::attention::compare_with_view;
use crate::driver::{difference, step_with};
use crate::failure::ensure;
use crate::{Failure, Outcome, Subject, Text, Verdict, fill};

/// The longest context tried. A sequence is three times as long.
const LONGEST: usize = 1024;

/// A cache that reaches beyond a context shows no query a key that is as far away as the context is long, and attends to what
/// it shows. This is checked for the shortest context that it reaches beyond.
///
/// # Errors
/// A failure names the context, the position and the key.
pub fn reach_holds(subject: &Subject) -> Outcome {
    let geometry = Geometry { layers: 1, ..subject.geometry().clone() };
    let mut cache = subject.build_for(&geometry)?;
    let beyond = |context: &usize| cache.reach(*context).is_none_or(|reach| reach > *context);
    let Some(context) = (1..=LONGEST).find(beyond) else {
        return Ok(Verdict::Skipped(format!("for no context of up to {LONGEST} tokens does it reach beyond")));
    };
    let tokens = cache.reach(context).unwrap_or(usize::MAX).min(3 * context + 8);
    let text = Text::new(&geometry, 40, tokens);
    let seq = cache.open()?;
    let mut seen = 0;
    // Around the end of the context, and around every multiple of it.
    let ends: BTreeSet<usize> = (1..=3).flat_map(|times| [0, 1, 7].map(|more| times * context + more)).collect();
    for end in ends.into_iter().filter(|end| *end <= tokens) {
        fill(cache.as_mut(), seq, &text, seen..end - 1, 50)?;
        seen = end;
        let mut worst = None;
        step_with(cache.as_mut(), seq, &text, end - 1..end, |cache, layer, out: &Rows| {
            worst = compare_with_view(cache, seq, &text, layer, end - 1, out);
        })?;
        ensure!(
            worst.is_none(),
            "`attend` must read what `view` shows at any position",
            "beyond a context of {context} tokens, `attend` at position {} differs from dense attention over `view` by {}",
            end - 1,
            worst.unwrap_or_default().1
        );
        distances_are_below(cache.as_ref(), seq, &text, context)?;
    }
    Ok(Verdict::Passed)
}

/// Looks for the place of each key that was further away when it was appended: rotated there, it is the one that is shown.
fn distances_are_below(cache: &dyn KvCache, seq: SeqId, text: &Text, context: usize) -> Result<(), Failure> {
    // Allows for the rounding when a key is rotated. It adds up the errors of a plane's two values to at most √2 times one.
    const ROTATION: f32 = 1e-5;
    let bound = match cache.guarantee() {
        Guarantee::Lossy(bound) | Guarantee::Evicts(Some(bound)) => bound.keys,
        _ => 0.0,
    };
    let allowed = 1.01 * SQRT_2 * bound + ROTATION;
    let Geometry { kv_heads, key_dim, .. } = text.geometry;
    let newest = cache.seen(seq)? - 1;
    for kv_head in 0..kv_heads {
        let view = cache.view(seq, 0, kv_head)?;
        for (position, key) in view.positions.iter().zip(view.keys.chunks_exact(key_dim)) {
            if newest - position < context {
                continue;
            }
            let moved = Text { geometry: text.geometry.clone(), tokens: vec![text.tokens[*position]; newest + 1] };
            let at = |place: usize| moved.view(0, kv_head, &[place]).keys;
            let largest = at(0).iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let error = (newest + 1 - context..=newest).map(|place| difference(key, &at(place)) / largest).fold(f32::INFINITY, f32::min);
            ensure!(
                error <= allowed,
                "answer `Some(context)` from `reach`, or move what is kept to within the context of the newest query",
                "the cache reaches beyond a context of {context} tokens, but the query at position {newest} sees the key of position {position}, at none of the last {context} positions (off by {error} of its largest value)"
            );
        }
    }
    Ok(())
}
