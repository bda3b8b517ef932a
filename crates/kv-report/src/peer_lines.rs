//! The lines of other engines in charts.

use crate::charts::{Line, MIB};
use crate::{Chart, Interval, Peer, Series};

/// The charts in which other engines are drawn beside kvlab's lines, the metric that each shows, and its unit along y.
pub(crate) const DRAWN: [(&str, &str, f64); 3] =
    [("latency", "tpot_ms_p50", 1.0), ("ttft", "ttft_ms", 1.0), ("memory", "heap_live_bytes", MIB)];

/// Adds a line for each engine to the charts of its metrics, in the styles that follow those of kvlab's lines. An engine has the same
/// style in every chart.
pub(crate) fn add_peers(charts: &mut [Chart], peers: &[Peer], lines: &[Line]) {
    let mut labels: Vec<&str> = vec![];
    for peer in peers {
        if !labels.contains(&peer.peer.as_str()) {
            labels.push(&peer.peer);
        }
    }
    for (index, label) in labels.into_iter().enumerate() {
        // Another run of kvlab has lines of the same names.
        let is_taken = lines.iter().any(|line| line.label == label || line.name == label);
        let name = if is_taken { format!("{label} (peer)") } else { label.to_owned() };
        for (chart, metric, unit) in DRAWN {
            let mut of_peer: Vec<&Peer> = peers.iter().filter(|peer| peer.peer == label && peer.metric == metric).collect();
            of_peer.sort_by_key(|peer| peer.seq_len);
            let x = |peer: &Peer| peer.seq_len as f64;
            let interval = |peer: &&Peer| peer.interval.map(|(low, high)| Interval { x: x(peer), low: low / unit, high: high / unit });
            let points: Vec<(f64, f64)> = of_peer.iter().map(|peer| (x(peer), peer.value / unit)).collect();
            let intervals = of_peer.iter().filter_map(interval).collect();
            if let Some(chart) = charts.iter_mut().find(|other| other.name == chart && !points.is_empty()) {
                chart.series.push(Series { name: name.clone(), style: lines.len() + index, points, intervals });
            }
        }
    }
}

/// The lines of other engines in a chart, with their places among its series. There every other line has the style of one of
/// `lines`, and theirs follow. A name does not tell: it may begin as a strategy's does.
pub(crate) fn peer_lines<'a>(chart: &'a Chart, lines: &[Line]) -> impl Iterator<Item = (usize, &'a Series)> {
    let first = if DRAWN.iter().any(|(name, ..)| *name == chart.name) { lines.len() } else { usize::MAX };
    chart.series.iter().enumerate().filter(move |(_, series)| series.style >= first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::charts::lines;
    use crate::{charts, example};

    #[test]
    fn a_peer_is_found_by_its_style_whatever_its_name() {
        let results = example::results();
        let lines = lines(&results);
        let mut all = charts(&results, &[]);
        for (index, name) in ["engine", "contiguous, elsewhere"].into_iter().enumerate() {
            let style = lines.len() + index;
            all[0].series.push(Series { name: name.into(), style, points: vec![(128.0, 1.0)], intervals: vec![] });
        }
        let found = |chart: &Chart| peer_lines(chart, &lines).map(|(place, series)| (place, series.name.clone())).collect::<Vec<_>>();
        assert_eq!(found(&all[0]), [(1, "engine".to_owned()), (2, "contiguous, elsewhere".to_owned())]);
        assert!(all[1..].iter().all(|chart| found(chart).is_empty()), "the others have no such line");
    }

    #[test]
    fn an_engine_has_one_style_in_the_units_of_the_charts_and_a_name_of_its_own() {
        let results = example::results();
        let lines = lines(&results);
        let peer = |metric, value, interval| Peer { peer: lines[0].label.clone(), seq_len: 128, metric, value, interval };
        let all = charts(&results, &[peer("tpot_ms_p50", 2.0, Some((1.0, 3.0))), peer("heap_live_bytes", 2.0 * MIB, None)]);
        let of = |name: &str| {
            let chart = all.iter().find(|chart| chart.name == name).unwrap();
            peer_lines(chart, &lines).map(|(_, series)| series.clone()).collect::<Vec<_>>()
        };
        let (latency, memory) = (of("latency").remove(0), of("memory").remove(0));
        assert_eq!((latency.name.clone(), latency.style), (format!("{} (peer)", lines[0].label), memory.style));
        assert_eq!((latency.intervals[0].low, latency.intervals[0].high), (1.0, 3.0));
        assert_eq!(memory.points, [(128.0, 2.0)]);
        assert!(of("ttft").is_empty());
    }
}
