//! Measurements of another engine, drawn next to kvlab's.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::front::NEXT_TO_NOTHING;
use crate::metric::metric;
use crate::peer_lines::DRAWN;
use crate::spreadsheet::{as_text, of_text};
use crate::table::{number, table};
use crate::{Metric, ReportError};

/// The metrics that a chart has of another engine: time per output token, time to first token, and the cache's bytes.
pub const PEER_METRICS: [&str; 3] = [DRAWN[0].1, DRAWN[1].1, DRAWN[2].1];

const HEAP: &str = "heap_live_bytes";

/// A measurement of another engine, at one sequence length.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    /// Its name in the legend.
    pub peer: String,
    /// Tokens in the sequence.
    pub seq_len: usize,
    /// One of [`PEER_METRICS`].
    pub metric: &'static str,
    /// The value, in the unit of its metric.
    pub value: f64,
    /// Where it lies with 95 %, if that is known.
    pub interval: Option<(f64, f64)>,
}

/// The measurements of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Peers {
    /// Those that charts have.
    pub peers: Vec<Peer>,
    /// What else the file has, in words.
    pub left_out: BTreeSet<String>,
}

/// Reads a CSV in the columns of `metrics.csv`, one row per value: `label`, `seq_len`, `metric` and `value`, and, if they are there,
/// `workload`, `batch`, `interval_low` and `interval_high`. Of other workloads than `decode`, other batches than 1 and other metrics
/// than [`PEER_METRICS`], what is left out is told. A table with the columns `peer`, `seq_len`, `tpot_ms_p50` and `ttft_ms`, one row
/// per length, is read as well.
///
/// # Errors
/// [`ReportError::Csv`] names the row and the column, [`ReportError::Peer`] a value that cannot be drawn.
pub fn read_peers(csv: &[u8]) -> Result<Peers, ReportError> {
    let mut reader = csv::Reader::from_reader(csv);
    let is_wide = reader.headers()?.iter().any(|column| column == "peer");
    let mut read = Peers { peers: vec![], left_out: BTreeSet::new() };
    if is_wide {
        for row in reader.deserialize() {
            let Wide { peer, seq_len, tpot_ms_p50, ttft_ms } = row?;
            let value = |(metric, value): (&'static str, Option<f64>)| {
                Some(Peer { peer: of_text(&peer).to_owned(), seq_len, metric, value: value?, interval: None })
            };
            read.peers.extend([("tpot_ms_p50", tpot_ms_p50), ("ttft_ms", ttft_ms)].into_iter().filter_map(value));
        }
    } else {
        for row in reader.deserialize() {
            match drawn(row?) {
                Ok(peer) => read.peers.push(peer),
                Err(why) => drop(read.left_out.insert(why)),
            }
        }
    }
    match read.peers.iter().find(|peer| !is_drawable(peer)) {
        Some(Peer { peer, seq_len, metric, value, .. }) => Err(ReportError::Peer(format!(
            "{peer} at {seq_len} tokens has a {metric} of {value}: length and value must be positive, and an interval must hold the value"
        ))),
        None => Ok(read),
    }
}

/// Refuses measurements of which two have the same name, length and metric: one point of a line has one value.
///
/// # Errors
/// [`ReportError::Peer`] names them.
pub fn require_distinct(peers: &[Peer]) -> Result<(), ReportError> {
    let mut known = BTreeSet::new();
    match peers.iter().find(|peer| !known.insert((&peer.peer, peer.seq_len, peer.metric))) {
        Some(Peer { peer, seq_len, metric, .. }) => Err(ReportError::Peer(format!(
            "{peer} at {seq_len} tokens has more than one {metric}: give each engine and run a name of its own"
        ))),
        None => Ok(()),
    }
}

/// What [`read_peers`] reads, in the columns of `metrics.csv` that another engine can have.
pub fn peers_csv(peers: &[Peer]) -> Vec<u8> {
    let row = |peer: &Peer| {
        let (low, high) = peer.interval.unzip();
        vec![
            as_text(&peer.peer),
            "decode".into(),
            peer.seq_len.to_string(),
            "1".into(),
            peer.metric.to_owned(),
            metric(peer.metric).map(|metric: &Metric| metric.unit.to_string()).unwrap_or_default(),
            number(Some(peer.value)),
            number(low),
            number(high),
        ]
    };
    let columns = ["label", "workload", "seq_len", "batch", "metric", "unit", "value", "interval_low", "interval_high"];
    table(&columns, peers.iter().map(row))
}

/// A row of a table with a column for each metric.
#[derive(Deserialize)]
struct Wide {
    peer: String,
    seq_len: usize,
    tpot_ms_p50: Option<f64>,
    ttft_ms: Option<f64>,
}

/// A row of a table like `metrics.csv`.
#[derive(Deserialize)]
struct Long {
    label: String,
    workload: Option<String>,
    seq_len: usize,
    batch: Option<usize>,
    metric: String,
    value: Option<f64>,
    interval_low: Option<f64>,
    interval_high: Option<f64>,
}

/// The measurement, or what the row has instead.
fn drawn(row: Long) -> Result<Peer, String> {
    if let Some(workload) = row.workload.filter(|workload| workload != "decode") {
        return Err(format!("the workload {workload}"));
    }
    if let Some(batch) = row.batch.filter(|batch| *batch != 1) {
        return Err(format!("batches of {batch}"));
    }
    let id = of_text(&row.metric);
    let metric = PEER_METRICS.into_iter().find(|known| *known == id).ok_or_else(|| format!("the metric {id}"))?;
    let value = row.value.ok_or_else(|| format!("rows of {metric} without a value"))?;
    if metric == HEAP && value < NEXT_TO_NOTHING {
        return Err("bytes of caches that hold nothing".into());
    }
    // One end alone is no interval, and leaves a line that nothing can be drawn of.
    let interval = match (row.interval_low, row.interval_high) {
        (None, None) => None,
        (low, high) => Some((low.unwrap_or(f64::NAN), high.unwrap_or(f64::NAN))),
    };
    Ok(Peer { peer: of_text(&row.label).to_owned(), seq_len: row.seq_len, metric, value, interval })
}

/// Whether a logarithmic axis can show it.
fn is_drawable(peer: &Peer) -> bool {
    let (low, high) = peer.interval.unwrap_or((peer.value, peer.value));
    peer.seq_len > 0 && low > 0.0 && low <= peer.value && peer.value <= high && high.is_finite()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, metric: &'static str, value: f64) -> Peer {
        Peer { peer: name.into(), seq_len: 128, metric, value, interval: None }
    }

    #[test]
    fn a_table_with_a_column_for_each_metric_is_read_and_an_empty_time_is_none() {
        let read = read_peers(b"peer,rounds,seq_len,ttft_ms,tpot_ms_p50\nengine,3,128,,4.5\n").unwrap();
        assert_eq!((read.peers, read.left_out.len()), (vec![peer("engine", "tpot_ms_p50", 4.5)], 0));
    }

    #[test]
    fn another_run_is_a_peer_and_what_no_chart_has_is_told() {
        let results = crate::example_quality::results();
        let read = read_peers(&crate::metrics_csv(&results)).unwrap();
        let row = results.rows.iter().find(|row| row.value(HEAP).is_some_and(|bytes| bytes >= NEXT_TO_NOTHING)).unwrap();
        let of =
            |id: &str| read.peers.iter().find(|peer| peer.peer == row.cell.label && peer.seq_len == row.cell.seq_len && peer.metric == id);
        assert_eq!(of("tpot_ms_p50").unwrap().interval, row.values["tpot_ms_p50"].interval);
        assert_eq!(of(HEAP).map(|peer| peer.value), row.value(HEAP));
        for left_out in ["the metric kld_mean", "bytes of caches that hold nothing"] {
            assert!(read.left_out.contains(left_out), "{left_out}: {:?}", read.left_out);
        }
        let others =
            b"label,workload,seq_len,batch,metric,value\na,serve,128,1,ttft_ms,2\na,decode,128,4,ttft_ms,2\na,decode,128,1,ttft_ms,\n";
        let left_out: Vec<String> = read_peers(others).unwrap().left_out.into_iter().collect();
        assert_eq!(left_out, ["batches of 4", "rows of ttft_ms without a value", "the workload serve"]);
    }

    #[test]
    fn a_point_has_one_value() {
        let peers = [peer("a", "ttft_ms", 1.0), peer("a", "tpot_ms_p50", 1.0), peer("b", "ttft_ms", 1.0)];
        assert!(require_distinct(&peers).is_ok());
        let error = require_distinct(&[&peers[..], &peers[..1]].concat()).unwrap_err().to_string();
        assert!(error.starts_with("a at 128 tokens has more than one ttft_ms"), "{error}");
    }

    #[test]
    fn what_is_written_is_read() {
        for name in ["a, \"b\"", "=1+1", "'=1+1", "'quoted'"] {
            let peers = vec![Peer { interval: Some((1.0, 1.5)), ..peer(name, "tpot_ms_p50", 1.25) }, peer(name, HEAP, 8192.0)];
            assert_eq!(read_peers(&peers_csv(&peers)).unwrap().peers, peers, "{name}");
        }
    }

    #[test]
    fn a_wrong_column_or_value_is_named() {
        let error = read_peers(b"peer,seq_len,tpot_ms_p50,ttft_ms\nengine,many,1,1\n").unwrap_err();
        assert!(std::error::Error::source(&error).is_some_and(|cause| cause.to_string().contains("invalid digit")), "{error:?}");
        assert!(read_peers(b"engine\n1\n").is_err());
        for (row, why) in [
            ("0,1,,", "at 0 tokens"),
            ("8,-1,,", "of -1"),
            ("8,NaN,,", "of NaN"),
            ("8,1,0,2", "positive"),
            ("8,1,2,1.5", "interval"),
            ("8,5,1,2", "hold"),
            ("8,1,1,", "hold"),
        ] {
            let csv = format!("label,seq_len,value,interval_low,interval_high,metric\nengine,{row},ttft_ms\n");
            let error = read_peers(csv.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("engine"), "{row}: {error}");
        }
    }
}
