//! What a cache holds beside what was appended.

use kv_core::{ErrorBound, Guarantee, KvCache, SeqId};

use crate::driver::difference;
use crate::failure::ensure;
use crate::{Failure, Text};

/// Compares the rows that a sequence holds in every layer and KV head with those of the text: all of them unless the cache
/// evicts, each within the bound of the guarantee. Returns whether any was rounded. `chunk` is named in the failure.
pub(super) fn rows_are_those_appended(cache: &dyn KvCache, seq: SeqId, text: &Text, chunk: usize) -> Result<bool, Failure> {
    // Allows for the rounding when a sink's key is rotated.
    const ROTATION: f32 = 1e-5;
    let geometry = &text.geometry;
    let (bound, keeps_all) = match cache.guarantee() {
        Guarantee::Exact => (None, true),
        Guarantee::Lossy(bound) => (Some(bound), true),
        Guarantee::Evicts(bound) => (bound, false),
        _ => return Ok(false),
    };
    let keeps_all = keeps_all && !cache.recomputes();
    let seen = cache.seen(seq)?;
    let allowed = bound.unwrap_or(ErrorBound::of_rows(ROTATION, 0.0));
    let mut rounded = false;
    for (layer, kv_head) in (0..geometry.layers).flat_map(|layer| (0..geometry.kv_heads).map(move |kv_head| (layer, kv_head))) {
        let view = cache.view(seq, layer, kv_head)?;
        if keeps_all {
            let mut positions = view.positions.clone();
            positions.sort_unstable();
            let mend = "only an evicting cache may forget; look at the block, group or table that ends where the first is missing";
            let missing =
                (0..seen).zip(&positions).find(|(expected, position)| expected != *position).map_or(positions.len(), |(at, _)| at);
            ensure!(
                positions.len() == seen && missing == seen,
                mend,
                "layer {layer}, KV head {kv_head}: of {seen} tokens in steps of {chunk}, {} are held, and position {missing} is the first unexpected one",
                positions.len()
            );
        }
        let original = text.view(layer, kv_head, &view.positions);
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
            let mend = "encode each row once, from the appended row, and return the bound of its format from `guarantee`";
            ensure!(
                key_error <= allowed.keys * 1.01 + ROTATION,
                mend,
                "layer {layer}: the key at position {position} is off by {key_error} of its largest value; the guarantee is {}",
                allowed.keys
            );
            ensure!(
                value_error <= allowed.values * 1.01,
                mend,
                "layer {layer}: the value at position {position} is off by {value_error} of its largest value; the guarantee is {}",
                allowed.values
            );
        }
    }
    Ok(rounded)
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()))
}

/// The error in the length of each rotation plane and in the values that are not rotated. This part of a key's
/// error does not depend on how far the key was moved.
fn plane_error(planes: usize, row: &[f32], original: &[f32]) -> f32 {
    let lengths = |row: &[f32]| -> Vec<f32> {
        let turned = (0..planes).map(|plane| row[plane].hypot(row[plane + planes]));
        turned.chain(row[2 * planes..].iter().copied()).collect()
    };
    // The errors of a plane's two values add up to at most √2 times one of them.
    difference(&lengths(row), &lengths(original)) / std::f32::consts::SQRT_2
}
