//! What tests of workloads that are scripts of their own share.

use std::process::Output;

use tempfile::TempDir;

use super::swept::{Row, sweep, table};
use crate::{text, words};

/// What a run left.
pub(super) struct Ran {
    pub(super) folder: TempDir,
    pub(super) output: Output,
}

/// A config of one launch and round with the shape `tiny` of two layers.
pub(super) fn config(workload: &str, section: &str, strategies: &[(&str, &str)]) -> String {
    let strategy = |(label, rest): &(&str, &str)| format!("[[strategy]]\nlabel = '{label}'\n{rest}\n");
    format!(
        "[model]\npreset = 'tiny'\nlayers = 2\n[sweep]\nworkloads = ['{workload}']\nlaunches = 1\nrounds = 1\nprefill_chunk = 32\n\
         [{workload}]\n{section}\n{}",
        strategies.iter().map(strategy).collect::<String>()
    )
}

/// Runs a config, with its files beside it.
pub(super) fn ran(config: &str, files: &[(&str, &[u8])]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, bytes)| std::fs::write(folder.path().join(name), bytes).unwrap());
    let output = sweep(folder.path(), config, &[]);
    Ran { folder, output }
}

impl Ran {
    /// The same, if everything was measured.
    #[track_caller]
    pub(super) fn well(self) -> Ran {
        assert!(self.output.status.success(), "{}", text(&self.output.stderr));
        self
    }

    /// What was said of a run that was refused.
    #[track_caller]
    pub(super) fn refusal(&self) -> String {
        let message = text(&self.output.stderr);
        assert_eq!(self.output.status.code(), Some(1), "{message}");
        words(&message)
    }

    pub(super) fn report(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("report").join(name)
    }

    /// The row of a label in `results.csv`.
    pub(super) fn row(&self, label: &str) -> Row {
        table(&self.report("results.csv")).into_iter().find(|row| row["label"] == label).unwrap()
    }

    /// The numbers of a label in `workload.csv`, with their places.
    pub(super) fn along(&self, label: &str, variant: &str, metric: &str) -> Vec<(f64, f64)> {
        let is_meant = |row: &Row| row["label"] == label && row["variant"] == variant && row["metric"] == metric;
        let number = |row: &Row, column: &str| row[column].parse::<f64>().unwrap();
        table(&self.report("workload.csv"))
            .iter()
            .filter(|row| is_meant(row))
            .map(|row| (number(row, "at"), number(row, "value")))
            .collect()
    }

    /// The number of a label in `workload.csv` that it has at a place.
    #[track_caller]
    pub(super) fn at(&self, label: &str, variant: &str, metric: &str, place: f64) -> f64 {
        let all = self.along(label, variant, metric);
        all.iter().find(|(at, _)| *at == place).unwrap_or_else(|| panic!("{label}: no {metric} at {place} in {all:?}")).1
    }
}
