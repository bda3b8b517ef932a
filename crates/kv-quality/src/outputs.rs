//! Errors of attention outputs.

use std::ops::Range;

use kv_core::Rows;
use serde::{Deserialize, Serialize};

use crate::QualityError;
use crate::dense::check_finite;
use crate::estimate::WindowSum;

/// Sums up how far a candidate's attention outputs are from the reference's, layer by layer.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputErrors {
    layers: Vec<Sums>,
}

/// How far outputs are from the reference's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OutputError {
    /// `√(Σ‖o − o'‖² / Σ‖o‖²)` over all rows, with the reference's rows `o` and the candidate's `o'`. `None` if all of the
    /// reference's are zero.
    pub relative_l2: Option<f64>,
    /// The mean cosine of the angle between `o` and `o'`, over tokens and heads. It is 1 for two zero rows and 0 for a zero
    /// and another one. `None` without rows.
    pub cosine: Option<f64>,
    /// Rows compared: tokens times heads, times layers if it is of several.
    pub rows: usize,
    /// The rows among them that are zero on at least one side.
    pub zero_rows: usize,
}

/// Sums over rows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sums {
    differences: f64,
    squares: f64,
    cosines: f64,
    rows: usize,
    zero_rows: usize,
}

impl OutputErrors {
    /// Nothing yet, for so many layers.
    pub fn new(layers: usize) -> OutputErrors {
        OutputErrors { layers: vec![Sums::default(); layers] }
    }

    /// Adds outputs of one layer.
    ///
    /// # Shapes
    /// - reference, candidate: `[tokens, heads, value_dim]`
    ///
    /// # Errors
    /// [`QualityError::Layer`], [`QualityError::Shape`], [`QualityError::NotFinite`]; nothing is added then.
    pub fn add(&mut self, layer: usize, reference: &Rows, candidate: &Rows) -> Result<(), QualityError> {
        let layers = self.layers.len();
        let sums = self.layers.get_mut(layer).ok_or(QualityError::Layer { layer, layers })?;
        if reference.dims() != candidate.dims() {
            return Err(QualityError::Shape { what: "outputs", reference: reference.dims(), candidate: candidate.dims() });
        }
        check_finite("dense outputs", layer, reference.values())?;
        check_finite("the candidate's outputs", layer, candidate.values())?;
        let [tokens, heads, _] = reference.dims();
        for (token, head) in (0..tokens).flat_map(|token| (0..heads).map(move |head| (token, head))) {
            sums.add(reference.row(token, head), candidate.row(token, head));
        }
        Ok(())
    }

    /// The errors of each layer.
    pub fn layers(&self) -> Vec<OutputError> {
        self.layers.iter().map(Sums::error).collect()
    }

    /// The errors over all layers.
    pub fn overall(&self) -> OutputError {
        self.sums(0..self.layers.len()).error()
    }

    /// Over some layers.
    pub(crate) fn sums(&self, layers: Range<usize>) -> Sums {
        let mut all = Sums::default();
        for layer in &self.layers[layers] {
            all.differences += layer.differences;
            all.squares += layer.squares;
            all.cosines += layer.cosines;
            all.rows += layer.rows;
            all.zero_rows += layer.zero_rows;
        }
        all
    }
}

impl Sums {
    fn add(&mut self, reference: &[f32], candidate: &[f32]) {
        let (mut squares, mut candidate_squares, mut product) = (0.0, 0.0, 0.0);
        for (a, b) in reference.iter().zip(candidate) {
            let (a, b) = (f64::from(*a), f64::from(*b));
            squares += a * a;
            candidate_squares += b * b;
            product += a * b;
            self.differences += (a - b) * (a - b);
        }
        self.squares += squares;
        self.rows += 1;
        self.zero_rows += usize::from(squares == 0.0 || candidate_squares == 0.0);
        self.cosines += match (squares == 0.0, candidate_squares == 0.0) {
            (true, true) => 1.0,
            (false, false) => product / (squares * candidate_squares).sqrt(),
            _ => 0.0,
        };
    }

    /// The square of the relative error.
    pub(crate) fn relative_square(&self) -> WindowSum {
        WindowSum { sum: self.differences, weight: self.squares }
    }

    pub(crate) fn cosine(&self) -> WindowSum {
        WindowSum { sum: self.cosines, weight: self.rows as f64 }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    fn error(&self) -> OutputError {
        let relative_l2 = (self.squares > 0.0).then(|| (self.differences / self.squares).sqrt());
        let cosine = (self.rows > 0).then(|| self.cosines / self.rows as f64);
        OutputError { relative_l2, cosine, rows: self.rows, zero_rows: self.zero_rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[f32]) -> Rows {
        Rows::new([1, values.len() / 2, 2], values.to_vec())
    }

    #[test]
    fn known_errors() {
        let mut errors = OutputErrors::new(2);
        // Two heads: turned by 90° and of the same direction, twice as long.
        errors.add(0, &rows(&[3.0, 4.0, 1.0, 0.0]), &rows(&[4.0, -3.0, 2.0, 0.0])).unwrap();
        errors.add(1, &rows(&[0.0, 2.0]), &rows(&[0.0, 2.0])).unwrap();
        let [first, second] = errors.layers()[..] else { panic!() };
        assert_eq!(first.relative_l2, Some((51.0f64 / 26.0).sqrt()));
        assert_eq!((first.cosine, first.rows, first.zero_rows), (Some(0.5), 2, 0));
        assert_eq!((second.relative_l2, second.cosine), (Some(0.0), Some(1.0)));
        let all = errors.overall();
        assert_eq!((all.relative_l2, all.rows), (Some((51.0f64 / 30.0).sqrt()), 3));
        assert!((all.cosine.unwrap() - 2.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn rows_of_zeros() {
        let mut errors = OutputErrors::new(1);
        assert_eq!(errors.overall(), OutputError { relative_l2: None, cosine: None, rows: 0, zero_rows: 0 });
        errors.add(0, &rows(&[0.0, 0.0, 0.0, 0.0]), &rows(&[0.0, 0.0, 1.0, 0.0])).unwrap();
        assert_eq!(errors.overall(), OutputError { relative_l2: None, cosine: Some(0.5), rows: 2, zero_rows: 2 });
    }

    #[test]
    fn what_cannot_be_compared_changes_nothing() {
        let mut errors = OutputErrors::new(1);
        let one = rows(&[1.0, 0.0]);
        assert_eq!(errors.add(1, &one, &one), Err(QualityError::Layer { layer: 1, layers: 1 }));
        assert!(matches!(errors.add(0, &one, &rows(&[1.0; 4])), Err(QualityError::Shape { .. })));
        let nan = errors.add(0, &one, &rows(&[1.0, f32::NAN])).unwrap_err();
        assert_eq!(nan.to_string(), "the candidate's outputs of layer 0 hold NaN, which is not finite");
        assert_eq!(errors, OutputErrors::new(1));
    }
}
