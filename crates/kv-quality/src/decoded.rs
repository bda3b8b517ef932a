//! Errors of the keys and values that a cache decodes.

use std::borrow::Cow;
use std::ops::Range;

use kv_core::{Geometry, Rope, View};
use kv_kernels::rotate_row;
use serde::{Deserialize, Serialize};

use crate::dense::check_finite;
use crate::estimate::WindowSum;
use crate::{DenseReference, QualityError};

/// Sums up how far the rows that a cache holds are from those that were appended. Rows that it does not hold do not count.
///
/// A cache that keeps some early tokens next to a window may show their keys *moved*: rotated by as many positions as they
/// are apart from the window, because RoPE composes. A view does not say so. Its held rows, closed up against the newest, say
/// how far each would be moved. If the rows with a gap behind them are closer, in sum, to their exact keys moved by that much
/// than to the exact keys as they are, the former are what they are compared with. The choice is made once for each view.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedErrors {
    layers: Vec<Sums>,
}

/// How far decoded rows are from those appended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RowErrors {
    /// `√(Σ‖k − k'‖² / Σ‖k‖²)` over the keys held. `None` if all of the exact keys are zero.
    pub keys: Option<f64>,
    /// The same over the values held.
    pub values: Option<f64>,
    /// Rows compared: tokens times KV heads, times layers if it is of several.
    pub rows: usize,
    /// The rows among them whose keys the cache has moved to other positions.
    pub moved_rows: usize,
}

/// Sums over rows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sums {
    keys: Difference,
    values: Difference,
    rows: usize,
    moved_rows: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Difference {
    squares: f64,
    differences: f64,
}

impl DecodedErrors {
    /// Nothing yet, for so many layers.
    pub fn new(layers: usize) -> DecodedErrors {
        DecodedErrors { layers: vec![Sums::default(); layers] }
    }

    /// Adds what a cache shows of one KV head of one layer.
    ///
    /// # Errors
    /// [`QualityError::Layer`], [`QualityError::View`], [`QualityError::NotFinite`], or [`QualityError::TooShort`] if the view
    /// names a position that the reference does not have; nothing is added then.
    ///
    /// # Panics
    /// If there is no such head.
    pub fn add(&mut self, reference: &DenseReference, layer: usize, kv_head: usize, view: &View) -> Result<(), QualityError> {
        let layers = self.layers.len();
        let sums = self.layers.get_mut(layer).ok_or(QualityError::Layer { layer, layers })?;
        check(reference, layer, view)?;
        let Geometry { key_dim, value_dim, ref rope, .. } = *reference.geometry();
        let key = |row: usize| &view.keys[row * key_dim..][..key_dim];
        let value = |row: usize| &view.values[row * value_dim..][..value_dim];

        let (mut as_they_are, mut moved, mut moved_rows) = (Difference::default(), Difference::default(), 0);
        let mut turns = Turns { rope, shift: 0, turns: vec![] };
        for (row, shift) in shifts(&view.positions) {
            let exact = reference.key(layer, kv_head, view.positions[row]);
            if shift == 0 {
                sums.keys.add(exact, key(row));
            } else {
                as_they_are.add(exact, key(row));
                moved.add(&turns.moved(exact, shift), key(row));
                moved_rows += 1;
            }
        }
        if moved.differences < as_they_are.differences {
            sums.keys.merge(moved);
            sums.moved_rows += moved_rows;
        } else {
            sums.keys.merge(as_they_are);
        }
        for (row, position) in view.positions.iter().enumerate() {
            sums.values.add(reference.value(layer, kv_head, *position), value(row));
        }
        sums.rows += view.positions.len();
        Ok(())
    }

    /// The errors of each layer.
    pub fn layers(&self) -> Vec<RowErrors> {
        self.layers.iter().map(Sums::errors).collect()
    }

    /// The errors over all layers.
    pub fn overall(&self) -> RowErrors {
        self.sums(0..self.layers.len()).errors()
    }

    /// Over some layers.
    pub(crate) fn sums(&self, layers: Range<usize>) -> Sums {
        let mut all = Sums::default();
        for layer in &self.layers[layers] {
            all.keys.merge(layer.keys);
            all.values.merge(layer.values);
            all.rows += layer.rows;
            all.moved_rows += layer.moved_rows;
        }
        all
    }
}

fn check(reference: &DenseReference, layer: usize, view: &View) -> Result<(), QualityError> {
    let Geometry { key_dim, value_dim, .. } = *reference.geometry();
    let positions = view.positions.len();
    for (what, values, dim) in [("keys", &view.keys, key_dim), ("values", &view.values, value_dim)] {
        if values.len() != positions * dim {
            return Err(QualityError::View { layer, what, positions, values: values.len() });
        }
    }
    check_finite("decoded keys", layer, &view.keys)?;
    check_finite("decoded values", layer, &view.values)?;
    match view.positions.iter().find(|position| **position >= reference.positions()) {
        Some(position) => Err(QualityError::TooShort { held: reference.positions(), needed: position + 1 }),
        None => Ok(()),
    }
}

/// For each row, in the order of the positions, how far it would be moved if all rows were closed up against the newest.
fn shifts(positions: &[usize]) -> Vec<(usize, i64)> {
    let mut rows: Vec<usize> = (0..positions.len()).collect();
    rows.sort_by_key(|row| positions[*row]);
    let Some(newest) = rows.last().map(|row| positions[*row]) else { return vec![] };
    let first = newest as i64 + 1 - rows.len() as i64;
    rows.iter().enumerate().map(|(rank, row)| (*row, first + rank as i64 - positions[*row] as i64)).collect()
}

/// Rotates keys, and remembers by how much: neighbors are moved alike.
struct Turns<'a> {
    rope: &'a Rope,
    shift: i64,
    turns: Vec<(f32, f32)>,
}

impl Turns<'_> {
    fn moved<'k>(&mut self, key: &'k [f32], shift: i64) -> Cow<'k, [f32]> {
        if self.rope.rotated() == 0 {
            return Cow::Borrowed(key);
        }
        if self.shift != shift || self.turns.is_empty() {
            (self.shift, self.turns) = (shift, self.rope.turns(shift));
        }
        let mut key = key.to_vec();
        rotate_row(&mut key, &self.turns);
        Cow::Owned(key)
    }
}

impl Difference {
    fn add(&mut self, exact: &[f32], decoded: &[f32]) {
        for (exact, decoded) in exact.iter().zip(decoded) {
            let (exact, decoded) = (f64::from(*exact), f64::from(*decoded));
            self.squares += exact * exact;
            self.differences += (exact - decoded) * (exact - decoded);
        }
    }

    fn merge(&mut self, other: Difference) {
        self.squares += other.squares;
        self.differences += other.differences;
    }

    fn square(&self) -> WindowSum {
        WindowSum { sum: self.differences, weight: self.squares }
    }

    fn relative(&self) -> Option<f64> {
        (self.squares > 0.0).then(|| (self.differences / self.squares).sqrt())
    }
}

impl Sums {
    /// The square of the keys' relative error.
    pub(crate) fn keys(&self) -> WindowSum {
        self.keys.square()
    }

    /// The same of the values.
    pub(crate) fn values(&self) -> WindowSum {
        self.values.square()
    }

    fn errors(&self) -> RowErrors {
        let Sums { keys, values, rows, moved_rows } = *self;
        RowErrors { keys: keys.relative(), values: values.relative(), rows, moved_rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Toy, geometry};

    fn reference() -> DenseReference {
        DenseReference::build(&mut Toy::new(geometry(2, 1, 4, 2), 3), 40).unwrap()
    }

    /// What a cache shows that holds these positions exactly.
    fn view(reference: &DenseReference, positions: &[usize]) -> View {
        View {
            positions: positions.to_vec(),
            keys: positions.iter().flat_map(|at| reference.key(1, 0, *at).to_vec()).collect(),
            values: positions.iter().flat_map(|at| reference.value(1, 0, *at).to_vec()).collect(),
        }
    }

    fn errors(reference: &DenseReference, view: &View) -> RowErrors {
        let mut errors = DecodedErrors::new(2);
        errors.add(reference, 1, 0, view).unwrap();
        assert_eq!(errors.layers()[1], errors.overall());
        errors.overall()
    }

    #[test]
    fn exact_rows_have_no_error_and_scaled_ones_the_scale() {
        let reference = reference();
        let mut view = view(&reference, &[2, 5, 38, 39]);
        let exact = RowErrors { keys: Some(0.0), values: Some(0.0), rows: 4, moved_rows: 0 };
        assert_eq!(errors(&reference, &view), exact);
        view.keys.iter_mut().for_each(|key| *key *= 0.5);
        view.values.iter_mut().for_each(|value| *value = 0.0);
        assert_eq!(errors(&reference, &view), RowErrors { keys: Some(0.5), values: Some(1.0), ..exact });
    }

    #[test]
    fn moved_keys_are_compared_where_they_are() {
        let reference = reference();
        // Two sinks are moved to 35 and 36, next to the window; the order of the rows does not matter.
        let mut moved = view(&reference, &[38, 0, 37, 1, 39]);
        let turns = reference.geometry().rope.turns(35);
        [1, 3].into_iter().for_each(|row| rotate_row(&mut moved.keys[row * 4..][..4], &turns));
        let found = errors(&reference, &moved);
        assert!(found.keys.unwrap() < 1e-6 && found.moved_rows == 2, "{found:?}");
        // Moved by another distance, they are wrong.
        let turns = reference.geometry().rope.turns(3);
        [1, 3].into_iter().for_each(|row| rotate_row(&mut moved.keys[row * 4..][..4], &turns));
        assert!(errors(&reference, &moved).keys.unwrap() > 0.1);
    }

    #[test]
    fn a_hostile_view_is_refused() {
        let reference = reference();
        let mut errors = DecodedErrors::new(2);
        let good = view(&reference, &[0, 1]);
        let mut add = |change: fn(&mut View)| {
            let mut view = good.clone();
            change(&mut view);
            errors.add(&reference, 1, 0, &view)
        };
        assert_eq!(add(|view| view.positions[1] = 40), Err(QualityError::TooShort { held: 40, needed: 41 }));
        assert!(matches!(add(|view| view.keys.truncate(7)), Err(QualityError::View { what: "keys", positions: 2, values: 7, .. })));
        assert!(matches!(add(|view| view.values[0] = f32::NAN), Err(QualityError::NotFinite { .. })));
        // A position twice is no reason to panic.
        assert_eq!(add(|view| view.positions[1] = 0), Ok(()));
        assert_eq!(errors.add(&reference, 2, 0, &good), Err(QualityError::Layer { layer: 2, layers: 2 }));
    }
}
