//! The lines of other engines in charts.

use crate::charts::Line;
use crate::{Chart, Series};

/// The charts in which other engines are drawn beside kvlab's lines.
const WITH_PEERS: [&str; 3] = ["latency", "ttft", "memory"];

/// The lines of other engines in a chart, with their places among its series. There every other line has the style of one of
/// `lines`, and theirs follow. A name does not tell: it may begin as a strategy's does.
pub(crate) fn peer_lines<'a>(chart: &'a Chart, lines: &[Line]) -> impl Iterator<Item = (usize, &'a Series)> {
    let first = if WITH_PEERS.contains(&chart.name) { lines.len() } else { usize::MAX };
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
}
