//! Measurements of another engine, drawn next to kvlab's.

use serde::Deserialize;

use crate::ReportError;
use crate::spreadsheet::{as_text, of_text};
use crate::table::table;

/// One measurement of another engine, at one sequence length.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Peer {
    /// Its name in the legend.
    pub peer: String,
    /// Tokens in the sequence.
    pub seq_len: usize,
    /// Median time of a decode step at that length, in milliseconds.
    pub tpot_ms_p50: Option<f64>,
    /// Time from a prompt of that length to the first token, in milliseconds.
    pub ttft_ms: Option<f64>,
}

/// Reads a CSV with the columns `peer`, `seq_len`, `tpot_ms_p50` and `ttft_ms`. Other columns are ignored.
///
/// # Errors
/// [`ReportError::Csv`] names the row and the column.
pub fn read_peers(csv: &[u8]) -> Result<Vec<Peer>, ReportError> {
    let named = |peer: Peer| Peer { peer: of_text(&peer.peer).to_owned(), ..peer };
    csv::Reader::from_reader(csv).deserialize().map(|row| Ok(named(row?))).collect()
}

/// What [`read_peers`] reads.
pub fn peers_csv(peers: &[Peer]) -> Vec<u8> {
    let time = |ms: Option<f64>| ms.map(|ms| format!("{ms:.4}")).unwrap_or_default();
    let row = |peer: &Peer| vec![as_text(&peer.peer), peer.seq_len.to_string(), time(peer.ttft_ms), time(peer.tpot_ms_p50)];
    table(&["peer", "seq_len", "ttft_ms", "tpot_ms_p50"], peers.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_columns_are_ignored_and_an_empty_time_is_none() {
        let peers = read_peers(b"peer,rounds,seq_len,ttft_ms,tpot_ms_p50\nengine,3,128,,4.5\n").unwrap();
        assert_eq!(peers, [Peer { peer: "engine".into(), seq_len: 128, tpot_ms_p50: Some(4.5), ttft_ms: None }]);
    }

    #[test]
    fn what_is_written_is_read() {
        for name in ["a, \"b\"", "=1+1", "'=1+1", "'quoted'"] {
            let peers = [Peer { peer: name.into(), seq_len: 8, tpot_ms_p50: Some(1.25), ttft_ms: None }];
            assert_eq!(read_peers(&peers_csv(&peers)).unwrap(), peers, "{name}");
        }
    }

    #[test]
    fn a_wrong_column_is_named() {
        let error = read_peers(b"peer,seq_len,tpot_ms_p50,ttft_ms\nengine,many,1,1\n").unwrap_err();
        assert!(std::error::Error::source(&error).is_some_and(|cause| cause.to_string().contains("invalid digit")), "{error:?}");
        assert!(read_peers(b"engine\n1\n").is_err());
    }
}
