//! Rotary position embedding of a step's keys and queries.

use kv_core::Rope;
use rayon::prelude::*;

use crate::activations::WORTH_SHARING;

/// Sines and cosines of a step's positions, computed once for all layers.
pub(crate) struct Rotary {
    /// `[tokens, planes]`, sine and cosine.
    turns: Vec<(f32, f32)>,
    planes: usize,
}

impl Rotary {
    pub(crate) fn new(rope: &Rope, positions: &[usize]) -> Rotary {
        let planes = rope.inverse_frequencies().len();
        let turns = positions.iter().flat_map(|position| rope.turns(*position as i64)).collect();
        Rotary { turns, planes }
    }

    /// Turns rows `[tokens, heads, dim]`, in planes `(i, i + planes)`; values past `2 · planes` stay.
    pub(crate) fn apply(&self, rows: &mut [f32], heads: usize, dim: usize) {
        let planes = self.planes;
        if planes == 0 {
            return;
        }
        let turn = |(token, turns): (&mut [f32], &[(f32, f32)])| {
            for head in token.chunks_exact_mut(dim) {
                let (first, rest) = head.split_at_mut(planes);
                for ((a, b), (sine, cosine)) in first.iter_mut().zip(rest).zip(turns) {
                    (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
                }
            }
        };
        if rows.len() < WORTH_SHARING {
            rows.chunks_exact_mut(heads * dim).zip(self.turns.chunks_exact(planes)).for_each(turn);
        } else {
            rows.par_chunks_exact_mut(heads * dim).zip(self.turns.par_chunks_exact(planes)).for_each(turn);
        }
    }
}
