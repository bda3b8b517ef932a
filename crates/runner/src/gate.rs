//! The conformance gate: a strategy proves itself before a number about it is printed.

use std::collections::BTreeMap;

use kv_conformance::{Subject, report};
use kv_core::Geometry;

use crate::plan::Cell;

/// The instances that failed, by label, with the checks they failed.
pub(crate) type Rejected = BTreeMap<String, String>;

/// Holds every instance of the plan against the suite, on a small model with rows of the real model's shape.
pub(crate) fn rejected(cells: &[Cell], geometry: &Geometry) -> Rejected {
    let small = Geometry { layers: 3, heads: 6, kv_heads: 2, ..geometry.clone() };
    let mut checked = BTreeMap::new();
    for cell in cells {
        checked.entry(cell.label.clone()).or_insert_with(|| {
            let outcomes = report(&Subject::new(cell.strategy, cell.config.clone(), small.clone()));
            let failures: Vec<String> =
                outcomes.into_iter().filter_map(|(check, outcome)| Some(format!("{}: {}", check.name, outcome.err()?.what))).collect();
            failures.join("; ")
        });
    }
    checked.retain(|_, failures| !failures.is_empty());
    checked
}
