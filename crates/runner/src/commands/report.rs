//! `report`: the charts and the page again, from stored results.

use std::path::Path;
use std::process::ExitCode;

use kv_report::Results;

use super::print;
use crate::{Problem, exit, sweep};

pub(crate) fn report(folder: &Path) -> Result<ExitCode, Problem> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|error| {
            Problem::new(format!("cannot read `{}`", path.display()))
                .caused_by(error)
                .help("give the folder of a finished or interrupted run")
        })
    };
    let results: Results = serde_json::from_slice(&read("results.json")?)
        .map_err(|error| Problem::new(format!("`{}` holds no results", folder.join("results.json").display())).caused_by(error))?;
    let samples = kv_report::read_samples(&read("samples.csv")?)
        .map_err(|error| Problem::new(format!("`{}` holds no samples", folder.join("samples.csv").display())).caused_by(error))?;
    let page = sweep::write_report(&results, &samples, folder)?;
    print(&format!("report: {}\n", page.display()));
    Ok(exit::OK)
}
