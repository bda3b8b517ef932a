//! Rotary position embedding of a step's keys and queries.

use burn::tensor::TensorData;
use kv_core::{Rope, Tensor, device};

/// Cosines and sines of a step's positions, computed once for all layers.
pub(crate) struct Rotary {
    /// `[tokens, 1, planes]`
    cosines: Tensor<3>,
    /// `[tokens, 1, planes]`
    sines: Tensor<3>,
    planes: usize,
}

const DIM: usize = 2;

impl Rotary {
    pub(crate) fn new(rope: &Rope, positions: &[usize]) -> Rotary {
        let planes = rope.inverse_frequencies().len();
        let mut cosines = Vec::with_capacity(positions.len() * planes);
        let mut sines = Vec::with_capacity(positions.len() * planes);
        for position in positions {
            for (sine, cosine) in rope.turns(*position as i64) {
                cosines.push(cosine);
                sines.push(sine);
            }
        }
        let tensor = |values| Tensor::from_data(TensorData::new(values, [positions.len(), 1, planes]), &device());
        Rotary { cosines: tensor(cosines), sines: tensor(sines), planes }
    }

    /// Turns rows `[tokens, heads, dim]`, in planes `(i, i + planes)`; values past `2 · planes` stay.
    pub(crate) fn apply(&self, rows: Tensor<3>) -> Tensor<3> {
        let [.., dim] = rows.dims();
        let planes = self.planes;
        if planes == 0 {
            return rows;
        }
        let first = rows.clone().narrow(DIM, 0, planes);
        let second = rows.clone().narrow(DIM, planes, planes);
        let (cosines, sines) = (&self.cosines, &self.sines);
        let turned_first = first.clone() * cosines.clone() - second.clone() * sines.clone();
        let turned_second = second * cosines.clone() + first * sines.clone();
        let mut parts = vec![turned_first, turned_second];
        if dim > 2 * planes {
            parts.push(rows.narrow(DIM, 2 * planes, dim - 2 * planes));
        }
        Tensor::cat(parts, DIM)
    }
}
