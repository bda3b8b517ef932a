//! How much of the exact attention falls on the positions that a cache holds.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::QualityError;
use crate::estimate::WindowSum;

/// Sums up retained attention mass and top-k recall, by layer and query head.
#[derive(Debug, Clone, PartialEq)]
pub struct RetainedMass {
    top_k: usize,
    /// `[layers][heads]`
    layers: Vec<Vec<Sums>>,
}

/// Means over queries.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Retained {
    /// The share of the exact softmax weights that falls on the positions held. `None` without queries.
    pub mass: Option<f64>,
    /// The share of the `k` positions with the largest exact weights that are held; of all positions where there are fewer.
    /// Of equal weights at the edge, those of earlier positions count. `None` without queries.
    pub top_k_recall: Option<f64>,
    /// Queries: tokens times heads, times layers if it is of several.
    pub queries: usize,
}

/// Sums over queries.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sums {
    mass: f64,
    recall: f64,
    queries: usize,
}

impl RetainedMass {
    /// Nothing yet. Recall is that of the `top_k` largest weights.
    ///
    /// # Errors
    /// [`QualityError::TopK`] if that is 0.
    pub fn new(layers: usize, heads: usize, top_k: usize) -> Result<RetainedMass, QualityError> {
        if top_k == 0 {
            return Err(QualityError::TopK);
        }
        Ok(RetainedMass { top_k, layers: vec![vec![Sums::default(); heads]; layers] })
    }

    /// Adds a query. `weights` are its exact softmax weights over the positions from 0 on, and `held` the positions that
    /// the cache holds in the query's KV head, in any order.
    ///
    /// # Errors
    /// [`QualityError::Layer`]; [`QualityError::TooShort`] if a position held has no weight.
    ///
    /// # Panics
    /// If there is no such head.
    pub fn add(&mut self, layer: usize, head: usize, weights: &[f64], held: &[usize]) -> Result<(), QualityError> {
        let layers = self.layers.len();
        let heads = self.layers.get_mut(layer).ok_or(QualityError::Layer { layer, layers })?;
        let mut is_held = vec![false; weights.len()];
        for &position in held {
            *is_held.get_mut(position).ok_or(QualityError::TooShort { held: weights.len(), needed: position + 1 })? = true;
        }
        let mass: f64 = weights.iter().zip(&is_held).filter(|(_, is_held)| **is_held).map(|(weight, _)| weight).sum();
        let largest = largest(weights, self.top_k);
        let found = largest.iter().filter(|position| is_held[**position]).count();
        let sums = &mut heads[head];
        sums.mass += mass;
        sums.recall += found as f64 / largest.len().max(1) as f64;
        sums.queries += 1;
        Ok(())
    }

    /// The `k` of the recall.
    pub fn top_k(&self) -> usize {
        self.top_k
    }

    /// By layer and query head.
    pub fn heads(&self) -> Vec<Vec<Retained>> {
        self.layers.iter().map(|heads| heads.iter().map(Sums::means).collect()).collect()
    }

    /// By layer.
    pub fn layers(&self) -> Vec<Retained> {
        (0..self.layers.len()).map(|layer| self.sums(layer..layer + 1).means()).collect()
    }

    /// Over all layers and heads.
    pub fn overall(&self) -> Retained {
        self.sums(0..self.layers.len()).means()
    }

    /// Over all heads of some layers.
    pub(crate) fn sums(&self, layers: Range<usize>) -> Sums {
        self.layers[layers].iter().flatten().fold(Sums::default(), |all, head| Sums {
            mass: all.mass + head.mass,
            recall: all.recall + head.recall,
            queries: all.queries + head.queries,
        })
    }
}

impl Sums {
    pub(crate) fn mass(&self) -> WindowSum {
        WindowSum { sum: self.mass, weight: self.queries as f64 }
    }

    pub(crate) fn recall(&self) -> WindowSum {
        WindowSum { sum: self.recall, weight: self.queries as f64 }
    }

    fn means(&self) -> Retained {
        let mean = |sum: f64| (self.queries > 0).then(|| sum / self.queries as f64);
        Retained { mass: mean(self.mass), top_k_recall: mean(self.recall), queries: self.queries }
    }
}

/// The positions of the largest weights, at most `count`, in no particular order.
fn largest(weights: &[f64], count: usize) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..weights.len()).collect();
    if count < positions.len() {
        positions.select_nth_unstable_by(count, |a, b| weights[*b].total_cmp(&weights[*a]).then(a.cmp(b)));
        positions.truncate(count);
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_softmax() {
        // Scores ln 1, ln 2, ln 4, ln 1.
        let weights = [0.125, 0.25, 0.5, 0.125];
        let mut retained = RetainedMass::new(2, 2, 2).unwrap();
        retained.add(0, 0, &weights, &[2, 0]).unwrap();
        retained.add(0, 1, &weights, &[3, 2, 1, 0]).unwrap();
        retained.add(1, 0, &weights, &[]).unwrap();
        let of = |mass, recall, queries| Retained { mass: Some(mass), top_k_recall: Some(recall), queries };
        let none = Retained { mass: None, top_k_recall: None, queries: 0 };
        assert_eq!(retained.heads(), [[of(0.625, 0.5, 1), of(1.0, 1.0, 1)], [of(0.0, 0.0, 1), none]]);
        assert_eq!(retained.layers(), [of(0.8125, 0.75, 2), of(0.0, 0.0, 1)]);
        assert_eq!(retained.overall(), of(1.625 / 3.0, 0.5, 3));
    }

    #[test]
    fn fewer_positions_than_k_and_ties() {
        let mut retained = RetainedMass::new(1, 1, 32).unwrap();
        retained.add(0, 0, &[0.5, 0.5], &[1, 1]).unwrap();
        assert_eq!(retained.overall(), Retained { mass: Some(0.5), top_k_recall: Some(0.5), queries: 1 });
        assert_eq!(largest(&[0.25; 4], 2), [0, 1]);
        let mut found = largest(&[0.1, 0.4, 0.1, 0.4], 3);
        found.sort_unstable();
        assert_eq!(found, [0, 1, 3]);
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(RetainedMass::new(1, 1, 0), Err(QualityError::TopK));
        let mut retained = RetainedMass::new(1, 1, 1).unwrap();
        assert_eq!(retained.add(1, 0, &[1.0], &[0]), Err(QualityError::Layer { layer: 1, layers: 1 }));
        assert_eq!(retained.add(0, 0, &[1.0], &[0, 1]), Err(QualityError::TooShort { held: 1, needed: 2 }));
        assert_eq!(retained.overall().queries, 0);
    }
}
