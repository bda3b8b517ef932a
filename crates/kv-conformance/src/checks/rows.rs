//! What a cache holds beside what was appended.

use kv_core::{ErrorBound, Guarantee, KvCache, SeqId};

use crate::driver::difference;
use crate::failure::ensure;
use crate::{Failure, Text};

/// Compares the rows that a sequence holds in layer 0 with those of the text: all of them unless the cache evicts, each
/// within the bound of the guarantee, and some of them rounded if it is lossy. `chunk` is named in the failure.
pub(super) fn rows_are_those_appended(cache: &dyn KvCache, seq: SeqId, text: &Text, chunk: usize) -> Result<(), Failure> {
    // Rotating a sink's key rounds it.
    const ROTATION: f32 = 1e-5;
    let geometry = &text.geometry;
    let (bound, keeps_all) = match cache.guarantee() {
        Guarantee::Exact => (None, true),
        Guarantee::Lossy(bound) => (Some(bound), true),
        Guarantee::Evicts(bound) => (bound, false),
        _ => return Ok(()),
    };
    let keeps_all = keeps_all && !cache.recomputes();
    let seen = cache.seen(seq)?;
    let allowed = bound.unwrap_or(ErrorBound::of_rows(ROTATION, 0.0));
    let mut rounded = false;
    for kv_head in 0..geometry.kv_heads {
        let view = cache.view(seq, 0, kv_head)?;
        if keeps_all {
            let mut positions = view.positions.clone();
            positions.sort_unstable();
            let mend = "only an evicting cache may forget; look at the block, group or table that ends where the first is missing";
            let missing =
                (0..seen).zip(&positions).find(|(expected, position)| expected != *position).map_or(positions.len(), |(at, _)| at);
            ensure!(
                positions.len() == seen && missing == seen,
                mend,
                "of {seen} tokens in steps of {chunk} {} are held, and position {missing} is the first that is not as expected",
                positions.len()
            );
        }
        let original = text.view(0, kv_head, &view.positions);
        for (row, position) in view.positions.iter().enumerate() {
            let rows = |of: &[f32], dim: usize| of[row * dim..(row + 1) * dim].to_vec();
            let (key, original_key) = (rows(&view.keys, geometry.key_dim), rows(&original.keys, geometry.key_dim));
            let (value, original_value) = (rows(&view.values, geometry.value_dim), rows(&original.values, geometry.value_dim));
            rounded |= key != original_key || value != original_value;
            let moved = *position + 1 < view.positions.len() && view.positions.len() < seen;
            let together = row.saturating_sub(allowed.key_tokens - 1)..(row + allowed.key_tokens).min(view.positions.len());
            let largest_key = largest(&original.keys[together.start * geometry.key_dim..together.end * geometry.key_dim]);
            let key_error = if moved {
                plane_error(geometry.rope.rotated() / 2, &key, &original_key) / largest_key
            } else {
                difference(&key, &original_key) / largest_key
            };
            let value_error = difference(&value, &original_value) / largest(&original_value);
            let mend = "a row must be encoded once, from what was appended, and the bound of `guarantee` must be its format's";
            ensure!(
                key_error <= allowed.keys * 1.01 + ROTATION,
                mend,
                "the key at position {position} is {key_error} of its largest off, {} is promised",
                allowed.keys
            );
            ensure!(
                value_error <= allowed.values * 1.01,
                mend,
                "the value at position {position} is {value_error} of its largest off, {} is promised",
                allowed.values
            );
        }
    }
    let quantised_nothing = bound.is_some() && !rounded;
    let mend = "a token must be encoded when it leaves the tail, in single steps as well as in chunks";
    ensure!(!quantised_nothing, mend, "of {seen} tokens in steps of {chunk} none was rounded, though the guarantee is lossy");
    Ok(())
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()))
}

/// The error of each rotation plane's length, and of the values that are not turned: what is left of a key's
/// error when it may have been moved.
fn plane_error(planes: usize, row: &[f32], original: &[f32]) -> f32 {
    let lengths = |row: &[f32]| -> Vec<f32> {
        let turned = (0..planes).map(|plane| row[plane].hypot(row[plane + planes]));
        turned.chain(row[2 * planes..].iter().copied()).collect()
    };
    // Two errors in a plane add up to √2 of one.
    difference(&lengths(row), &lengths(original)) / std::f32::consts::SQRT_2
}
