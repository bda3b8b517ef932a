//! Runs a plan cell by cell and writes the results to disk after each.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use kv_model::Decoder;
use kv_report::{Peer, Results, Sample, charts};

use crate::Problem;
use crate::cell::{self, Setting};
use crate::gate::Rejected;
use crate::plan::Plan;
use crate::progress::{self, Progress};

/// Whether Ctrl-C was pressed.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes the first Ctrl-C finish the current cell and the second one stop immediately.
///
/// # Errors
/// A [`Problem`] if the handler cannot be installed.
pub(crate) fn handle_interrupts() -> Result<(), Problem> {
    let handler = || {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        progress::say("\nfinishing the current cell; results so far are kept. Press Ctrl-C again to stop immediately.");
    };
    ctrlc::set_handler(handler).map_err(|error| Problem::new("cannot handle Ctrl-C").caused_by(error))
}

/// Whether Ctrl-C was pressed since the start.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Checks that files can be written to a folder, or to where it will be made; leaves nothing behind.
///
/// # Errors
/// A [`Problem`] that names the folder.
pub(crate) fn check_writable(folder: &Path) -> Result<(), Problem> {
    // Of a relative path the last ancestor is empty: the folder one is in.
    let here = |path: &Path| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() };
    let there = folder.ancestors().map(here).find(|path| path.exists()).unwrap_or_else(|| ".".into());
    let written = if there.is_dir() { tempfile::tempfile_in(&there).map(|_| ()) } else { Err(ErrorKind::NotADirectory.into()) };
    written.map_err(|error| {
        Problem::new(format!("the report cannot be written to `{}`: no file can be created in `{}`", folder.display(), there.display()))
            .caused_by(error)
            .help("`--out FOLDER` puts it elsewhere; the folder is made if it does not exist")
    })
}

/// Measures every cell into `results` and writes the tables to `folder` after each. Cells of a rejected instance
/// are not timed. They become rows with the reason.
///
/// # Errors
/// A [`Problem`] if the folder cannot be written. A failing cell is a row, not an error.
pub(crate) fn run(
    plan: &Plan,
    decoder: &Decoder,
    model: &str,
    seed: u64,
    rejected: &Rejected,
    results: &mut Results,
    folder: &Path,
) -> Result<Vec<Sample>, Problem> {
    let setting = Setting { decoder, model, plan, seed, rejected };
    let threads = rayon::current_num_threads();
    let estimates: Vec<f64> = plan.cells.iter().map(|cell| cell.estimated_seconds(decoder.config(), plan, threads)).collect();
    let mut progress = Progress::new(&estimates);
    let mut samples = vec![];
    for (cell, estimate) in plan.cells.iter().zip(estimates) {
        if interrupted() {
            break;
        }
        progress.start(&cell.label, cell.seq_len);
        // Runs on a thread of the pool. From outside, every attention and matrix product would first be handed to one.
        let outcome = rayon::scope(|_| cell::run(&setting, cell));
        progress.finish(&outcome.row, estimate);
        results.rows.push(outcome.row);
        samples.extend(outcome.samples);
        results.complete = results.rows.len() == plan.cells.len();
        write_tables(results, &samples, folder)?;
    }
    progress.clear();
    Ok(samples)
}

/// Writes `results.csv`, `samples.csv` and `results.json`.
///
/// # Errors
/// A [`Problem`] that names the file.
pub(crate) fn write_tables(results: &Results, samples: &[Sample], folder: &Path) -> Result<(), Problem> {
    let unwritable = |error| Problem::new("cannot convert the results").caused_by(error);
    write(&folder.join("results.csv"), &kv_report::results_csv(&results.rows).map_err(unwritable)?)?;
    write(&folder.join("samples.csv"), &kv_report::samples_csv(samples).map_err(unwritable)?)?;
    let json = serde_json::to_vec_pretty(results).map_err(|error| Problem::new("cannot convert the results").caused_by(error))?;
    write(&folder.join("results.json"), &json)
}

/// Draws the charts and the page, and returns the page's path.
///
/// # Errors
/// A [`Problem`] that names the file or the chart.
pub(crate) fn write_report(results: &Results, samples: &[Sample], peers: &[Peer], folder: &Path) -> Result<PathBuf, Problem> {
    let undrawn = |error| Problem::new("cannot draw the report").caused_by(error);
    let charts = charts(results, samples, peers);
    for chart in &charts {
        write(&folder.join(format!("{}.png", chart.name)), &kv_report::png(chart).map_err(undrawn)?)?;
    }
    let page = folder.join("index.html");
    write(&page, kv_report::html(results, &charts).map_err(undrawn)?.as_bytes())?;
    Ok(page)
}

/// Writes a temporary file and renames it, so that an interruption leaves either the old file or the new one.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Problem> {
    let unfinished = path.with_extension("unfinished");
    let written = std::fs::write(&unfinished, bytes).and_then(|()| std::fs::rename(&unfinished, path));
    written.map_err(|error| Problem::new(format!("cannot write `{}`", path.display())).caused_by(error))
}
