//! `report`: the charts and the page again, from stored results.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kv_report::{Build, CellRecord, Edition, Level, PEER_METRICS, Pass, Peer, Peers, Results, RunState, Status, require_distinct};

use super::print;
use crate::files::write_durably;
use crate::invisible::{hidden, written_out};
use crate::overview_folder::Models;
use crate::progress::say;
use crate::run_folder::Left;
use crate::screen::printable;
use crate::speed_up_table::speed_up_table;
use crate::table::Format;
use crate::{Problem, exit, overview_folder, run_folder, summary, sweep};

pub(crate) fn report(folder: &Path, peers: &[PathBuf], editions: &[Edition], format: Option<Format>) -> Result<ExitCode, Problem> {
    match overview_folder::read(folder)? {
        Some(models) => report_models(folder, &models, peers, editions, format),
        None => report_run(folder, peers, editions, format),
    }
}

/// The reports of several models, and their overview.
fn report_models(
    folder: &Path,
    models: &Models,
    peers: &[PathBuf],
    editions: &[Edition],
    format: Option<Format>,
) -> Result<ExitCode, Problem> {
    if !peers.is_empty() {
        return Err(one_of_several(folder, models).more_help("A peer's times are drawn beside those of one model."));
    }
    for run in overview_folder::runs(folder, models)? {
        report_run(&run, peers, editions, format)?;
    }
    let overview = overview_folder::overview(folder, models)?;
    overview_folder::draw(folder, &overview)?;
    if let Some(format) = format {
        print(&format!("\n{}", speed_up_table(&overview).text(format)))?;
    }
    print(&format!("overview: {}\n", printable(&folder.join("index.html").display().to_string())))?;
    Ok(exit::OK)
}

/// That a folder holds several models, where the folder of one is needed.
fn one_of_several(folder: &Path, models: &Models) -> Problem {
    let folders: Vec<String> = models.models.iter().map(|entry| folder.join(&entry.name).display().to_string()).collect();
    Problem::new(format!("`{}` holds the runs of several models", folder.display()))
        .help(format!("give the folder of one: {}.", folders.join(", ")))
}

/// The report of a run.
fn report_run(folder: &Path, peers: &[PathBuf], editions: &[Edition], format: Option<Format>) -> Result<ExitCode, Problem> {
    let results = stored(folder)?;
    if results.run.level != Level::Model && !peers.is_empty() {
        let folder = folder.display();
        return Err(Problem::new(format!("`{folder}` has times of caches alone: a peer's are those of a whole model"))
            .help("leave `--peer` out, or run the config without `level = \"attention\"`"));
    }
    let peers = peers.iter().map(|file| read_peers(file)).collect::<Result<Vec<_>, _>>()?.concat();
    require_distinct(&peers)
        .map_err(|error| Problem::new(error.to_string()).help("its column `label` names it; of two files, one can be left out"))?;
    let files = sweep::tables(&results).into_iter().map(|(name, bytes)| (name.to_owned(), bytes));
    for (name, bytes) in files.chain(sweep::draw(&results, &peers, editions)?) {
        let path = folder.join(name);
        write_durably(&path, &bytes).map_err(|error| Problem::new(format!("cannot write `{}`", path.display())).caused_by(error))?;
    }
    if let Some(format) = format {
        print(&summary::tables(&results, format))?;
    }
    print(&format!("report: {}\n", printable(&folder.join("index.html").display().to_string())))?;
    Ok(exit::OK)
}

/// The results in a folder, of this version or an earlier one.
pub(super) fn stored(folder: &Path) -> Result<Results, Problem> {
    const HELP: &str = "give the folder of a finished or interrupted run";
    if let Some(models) = overview_folder::read(folder)? {
        return Err(one_of_several(folder, &models));
    }
    if let Some(left) = run_folder::read(folder)? {
        require_complete(folder, &left)?;
        return Ok(sweep::results(&left.run, &left.visits));
    }
    let path = folder.join("results.json");
    let old = match std::fs::read(&path) {
        Ok(old) => old,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let shown = folder.display();
            return Err(Problem::new(format!("`{shown}` holds no run: neither run.json nor results.json is there")).help(HELP));
        }
        Err(error) => return Err(Problem::new(format!("cannot read `{}`", path.display())).caused_by(error)),
    };
    let samples = read(&folder.join("samples.csv"), HELP)?;
    kv_report::read_old(&old, &samples).map_err(|error| Problem::new(format!("`{}` holds no results", path.display())).caused_by(error))
}

/// Refuses a finished run whose log has lost lines: drawing it again would replace a good report by a poor one.
pub(super) fn require_complete(folder: &Path, left: &Left) -> Result<(), Problem> {
    let has_line = |cell: &CellRecord, pass: Pass| {
        left.visits.iter().any(|visit| {
            visit.cell == cell.id
                && visit.build == Build::Own
                && (visit.pass == pass || (visit.status != Status::Ok && matches!(visit.pass, Pass::Latency | Pass::Memory)))
        }) || left.visits.iter().any(|visit| visit.pass == Pass::Gate && visit.status != Status::Ok && visit.cell == cell.label)
    };
    let is_lost = |cell: &&CellRecord| [Pass::Latency, Pass::Memory].into_iter().any(|pass| !has_line(cell, pass));
    let lost = left.run.cells.iter().filter(is_lost).count();
    if left.run.state != RunState::Finished || lost == 0 {
        return Ok(());
    }
    let path = folder.join("visits.jsonl");
    Err(Problem::new(format!(
        "`{}` has lost lines: {lost} of the {} cells of the finished run are not whole",
        path.display(),
        left.run.cells.len()
    ))
    .help("the report was left as it is; put the whole file back"))
}

fn read_peers(file: &Path) -> Result<Vec<Peer>, Problem> {
    let help = format!(
        "one row per value, with the columns label, seq_len, metric and value, as in a run's metrics.csv, for the metrics {}; tests/peers/README.md makes such a file",
        PEER_METRICS.join(", ")
    );
    let unusable = |reason: &str| Problem::new(format!("`{}` holds no measurements of a peer{reason}", file.display())).help(&help);
    let Peers { peers, left_out } = kv_report::read_peers(&read(file, &help)?).map_err(|error| unusable("").caused_by(error))?;
    let others = left_out.into_iter().collect::<Vec<_>>().join(", ");
    if peers.is_empty() {
        return Err(unusable(&if others.is_empty() { ": it has no rows".into() } else { format!(": it has only {others}") }));
    }
    let is_shown =
        |name: &str| !name.trim().is_empty() && name.trim() == name && !name.chars().any(char::is_control) && hidden(name).is_none();
    if let Some(peer) = peers.iter().find(|peer| !is_shown(&peer.peer)) {
        let name = written_out(&peer.peer);
        return Err(unusable(&format!(
            ": the name `{name}` is empty, begins or ends with white space, or has characters that nobody sees"
        )));
    }
    if !others.is_empty() {
        say(&printable(&format!("{}: no chart of another engine has {others}; left out", file.display())));
    }
    Ok(peers)
}

fn read(path: &Path, help: &str) -> Result<Vec<u8>, Problem> {
    std::fs::read(path).map_err(|error| Problem::new(format!("cannot read `{}`", path.display())).caused_by(error).help(help))
}
