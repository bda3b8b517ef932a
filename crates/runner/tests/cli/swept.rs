//! Running a config and reading the tables that it leaves.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use crate::run;

/// A row of a table by the names of its columns.
pub(super) type Row = BTreeMap<String, String>;
pub(super) type Rows = Vec<Row>;

/// Runs a config in this folder, without the conformance suite, into `report` beside it.
pub(super) fn sweep(folder: &Path, config: &str, arguments: &[&str]) -> Output {
    let path = folder.join("sweep.toml");
    std::fs::write(&path, config).unwrap();
    let out = folder.join("report");
    run(&[&[path.to_str().unwrap(), "--unchecked", "--out", out.to_str().unwrap()], arguments].concat())
}

pub(super) fn table(path: &Path) -> Rows {
    csv::Reader::from_path(path).unwrap().deserialize().map(Result::unwrap).collect()
}

pub(super) fn number(row: &Row, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{} has no {column}: {row:?}", row["label"]))
}
