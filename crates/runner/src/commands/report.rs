//! `report`: the charts and the page again, from stored results.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kv_report::{Peer, Results};

use super::print;
use crate::screen::printable;
use crate::{Problem, exit, sweep};

pub(crate) fn report(folder: &Path, peers: &[PathBuf]) -> Result<ExitCode, Problem> {
    let stored = |name: &str| read(&folder.join(name), "give the folder of a finished or interrupted run");
    let results: Results = serde_json::from_slice(&stored("results.json")?)
        .map_err(|error| Problem::new(format!("`{}` holds no results", folder.join("results.json").display())).caused_by(error))?;
    let samples = kv_report::read_samples(&stored("samples.csv")?)
        .map_err(|error| Problem::new(format!("`{}` holds no samples", folder.join("samples.csv").display())).caused_by(error))?;
    let peers = peers.iter().map(|file| read_peers(file)).collect::<Result<Vec<_>, _>>()?.concat();
    let page = sweep::write_report(&results, &samples, &peers, folder)?;
    print(&format!("report: {}\n", printable(&page.display().to_string())))?;
    Ok(exit::OK)
}

fn read_peers(file: &Path) -> Result<Vec<Peer>, Problem> {
    const HELP: &str =
        "one row per length, with the columns peer, seq_len, tpot_ms_p50 and ttft_ms; tests/peers/README.md makes such a file";
    let unusable = |reason: &str| Problem::new(format!("`{}` holds no measurements of a peer{reason}", file.display())).help(HELP);
    let peers = kv_report::read_peers(&read(file, HELP)?).map_err(|error| unusable("").caused_by(error))?;
    let is_drawable =
        |peer: &Peer| peer.seq_len > 0 && [peer.tpot_ms_p50, peer.ttft_ms].into_iter().flatten().all(|ms| ms > 0.0 && ms.is_finite());
    match peers.iter().position(|peer| !is_drawable(peer)) {
        _ if peers.is_empty() => Err(unusable(": it has no rows")),
        Some(row) => Err(unusable(&format!(": row {} has a length or a time that is not positive", row + 1))),
        None => Ok(peers),
    }
}

fn read(path: &Path, help: &str) -> Result<Vec<u8>, Problem> {
    std::fs::read(path).map_err(|error| Problem::new(format!("cannot read `{}`", path.display())).caused_by(error).help(help))
}
