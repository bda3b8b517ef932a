//! What several sequences show of a cache's attention.

use std::ops::Range;

use crate::estimate::WindowSum;
use crate::{Estimate, Evaluation};

/// What evaluations of one cache on several sequences amount to.
///
/// The queries of neighboring tokens see nearly the same rows, and the heads and layers of a model are always the same ones. So
/// the sequences are the independent observations, and all intervals are over them. One sequence has none.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionSummary {
    /// Over all layers.
    pub overall: AttentionStatistics,
    /// Of each layer.
    pub layers: Vec<AttentionStatistics>,
}

/// Statistics over some layers and all heads, steps and sequences. `None` where there is nothing to divide by.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionStatistics {
    /// See [`OutputError::relative_l2`](crate::OutputError::relative_l2).
    pub relative_l2: Option<Estimate>,
    /// See [`OutputError::cosine`](crate::OutputError::cosine).
    pub cosine: Option<Estimate>,
    /// See [`RowErrors::keys`](crate::RowErrors::keys).
    pub keys: Option<Estimate>,
    /// See [`RowErrors::values`](crate::RowErrors::values).
    pub values: Option<Estimate>,
    /// See [`Retained::mass`](crate::Retained::mass).
    pub mass: Option<Estimate>,
    /// See [`Retained::top_k_recall`](crate::Retained::top_k_recall).
    pub top_k_recall: Option<Estimate>,
    /// Outputs compared: sequences times steps, heads and layers.
    pub outputs: usize,
}

impl AttentionSummary {
    /// Of evaluations on sequences that have nothing in common, of caches of one shape.
    pub fn of(sequences: &[Evaluation]) -> AttentionSummary {
        let layers = sequences.iter().map(|sequence| sequence.outputs.layers().len()).min().unwrap_or(0);
        AttentionSummary {
            overall: AttentionStatistics::of(sequences, 0..layers),
            layers: (0..layers).map(|layer| AttentionStatistics::of(sequences, layer..layer + 1)).collect(),
        }
    }
}

impl AttentionStatistics {
    fn of(sequences: &[Evaluation], layers: Range<usize>) -> AttentionStatistics {
        let ratio = |of: &dyn Fn(&Evaluation) -> WindowSum| {
            let windows: Vec<WindowSum> = sequences.iter().map(of).collect();
            windows.iter().any(|window| window.weight > 0.0).then(|| Estimate::of_ratio(&windows))
        };
        let outputs = |sequence: &Evaluation| sequence.outputs.sums(layers.clone());
        let decoded = |sequence: &Evaluation| sequence.decoded.sums(layers.clone());
        let retained = |sequence: &Evaluation| sequence.retained.sums(layers.clone());
        let within = |least: f64, most: f64| move |estimate: Estimate| estimate.within(least, most);
        AttentionStatistics {
            relative_l2: ratio(&|sequence| outputs(sequence).relative_square()).map(Estimate::root),
            cosine: ratio(&|sequence| outputs(sequence).cosine()).map(within(-1.0, 1.0)),
            keys: ratio(&|sequence| decoded(sequence).keys()).map(Estimate::root),
            values: ratio(&|sequence| decoded(sequence).values()).map(Estimate::root),
            mass: ratio(&|sequence| retained(sequence).mass()).map(within(0.0, 1.0)),
            top_k_recall: ratio(&|sequence| retained(sequence).recall()).map(within(0.0, 1.0)),
            outputs: sequences.iter().map(|sequence| outputs(sequence).rows()).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use kv_core::{Rows, View};

    use super::*;
    use crate::toy::{Toy, geometry};
    use crate::{DecodedErrors, DenseReference, OutputErrors, RetainedMass};

    /// A sequence with an output in each of two layers: the first is off by `error`, the second by nothing.
    fn sequence(error: f32, mass: f64) -> Evaluation {
        let row = |first: f32| Rows::new([1, 1, 2], vec![first, 0.0]);
        let mut outputs = OutputErrors::new(2);
        outputs.add(0, &row(1.0), &row(1.0 + error)).unwrap();
        outputs.add(1, &row(1.0), &row(1.0)).unwrap();
        let mut retained = RetainedMass::new(2, 1, 1).unwrap();
        retained.add(0, 0, &[mass, 1.0 - mass], &[0]).unwrap();
        retained.add(1, 0, &[0.5, 0.5], &[0, 1]).unwrap();
        Evaluation { outputs, retained, decoded: DecodedErrors::new(2), steps: 1 }
    }

    #[test]
    fn sequences_are_the_observations() {
        let AttentionSummary { overall, layers } = AttentionSummary::of(&[sequence(0.25, 0.5), sequence(0.5, 0.75)]);
        assert_eq!((overall.outputs, layers.len(), layers[0].outputs), (4, 2, 2));
        let error = layers[0].relative_l2.unwrap();
        let square = (0.0625 + 0.25) / 2.0;
        assert!((error.value - f64::sqrt(square)).abs() < 1e-12, "{error:?}");
        // Of the two squares, the standard error is half of their difference.
        assert!((error.standard_error.unwrap() - 0.09375 * 0.5 / f64::sqrt(square)).abs() < 1e-12, "{error:?}");
        assert_eq!(layers[1].relative_l2.unwrap().interval, Some((0.0, 0.0)));
        assert_eq!((layers[0].mass.unwrap().value, overall.mass.unwrap().value), (0.625, 0.8125));
        let (low, high) = overall.mass.unwrap().interval.unwrap();
        assert!(low < 0.7 && high == 1.0, "with one degree of freedom it is wide, and a share is at most 1: {low} to {high}");
        assert_eq!(overall.cosine.unwrap().value, 1.0);
        assert_eq!((overall.keys, overall.values), (None, None), "no rows were decoded");
    }

    #[test]
    fn one_sequence_has_no_interval_and_agrees_with_its_parts() {
        let one = sequence(0.25, 0.5);
        let AttentionSummary { overall, .. } = AttentionSummary::of(std::slice::from_ref(&one));
        assert_eq!(overall.relative_l2.unwrap().interval, None);
        assert_eq!(overall.relative_l2.map(|error| error.value), one.outputs.overall().relative_l2);
        assert_eq!(overall.top_k_recall.map(|recall| recall.value), one.retained.overall().top_k_recall);
        assert_eq!(AttentionSummary::of(&[]).overall.relative_l2, None);
    }

    #[test]
    fn decoded_rows_count_by_their_size() {
        let mut toy = Toy::new(geometry(2, 1, 4, 2), 3);
        let reference = DenseReference::build(&mut toy, 8).unwrap();
        let off_by = |share: f32| {
            let decode = |row: &[f32]| row.iter().map(|value| value * (1.0 + share)).collect();
            let view = View { positions: vec![3], keys: decode(reference.key(0, 0, 3)), values: reference.value(0, 0, 3).to_vec() };
            let mut evaluation = sequence(0.0, 1.0);
            evaluation.decoded.add(&reference, 0, 0, &view).unwrap();
            evaluation
        };
        let AttentionSummary { overall, .. } = AttentionSummary::of(&[off_by(0.5), off_by(0.5)]);
        let (low, high) = overall.keys.unwrap().interval.unwrap();
        assert!((low - 0.5).abs() < 1e-6 && (high - 0.5).abs() < 1e-6, "{low} to {high}");
        assert_eq!(overall.values.unwrap().value, 0.0);
    }
}
