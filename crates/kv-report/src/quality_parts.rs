//! Numbers of parts of cells: by depth of a text, and by place of planted needles.

use crate::{Protocol, QualityPoint, Results, Status};

/// What an instance has by parts, at one length.
pub(crate) struct Parts<'a> {
    pub(crate) label: &'a str,
    pub(crate) seq_len: usize,
    pub(crate) points: Vec<&'a QualityPoint>,
}

/// Every instance that has points that a chart wants, at the longest length at which it has them, with one sequence.
pub(crate) fn parts<'a>(results: &'a Results, protocol: Protocol, wants: impl Fn(&QualityPoint) -> bool) -> Vec<Parts<'a>> {
    let mut all: Vec<Parts<'a>> = vec![];
    for cell in results.run.cells.iter().filter(|cell| cell.batch == 1) {
        let visits = results.visits.iter().filter(|visit| visit.cell == cell.id && visit.status == Status::Ok);
        let of_protocol = visits.flat_map(|visit| &visit.quality).filter(|point| point.protocol == protocol && point.value.is_finite());
        let points: Vec<&QualityPoint> = of_protocol.filter(|point| wants(point)).collect();
        if points.is_empty() {
            continue;
        }
        let found = Parts { label: &cell.label, seq_len: cell.seq_len, points };
        match all.iter_mut().find(|other| other.label == cell.label) {
            Some(other) if other.seq_len < cell.seq_len => *other = found,
            Some(_) => {}
            None => all.push(found),
        }
    }
    all
}

/// The length that all have, or `None` if they differ.
pub(crate) fn same_length(parts: &[Parts<'_>]) -> Option<usize> {
    let first = parts.first()?.seq_len;
    parts.iter().all(|part| part.seq_len == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example_quality;

    #[test]
    fn the_longest_length_counts() {
        let mut results = example_quality::results();
        let all = parts(&results, Protocol::Planted, |_| true);
        assert_eq!((all.len(), same_length(&all)), (8, Some(2048)));
        assert_eq!(all[0].points.len(), 16);
        results.visits.retain(|visit| visit.cell != "contiguous f32 2048");
        let all = parts(&results, Protocol::Planted, |_| true);
        assert_eq!((all.len(), same_length(&all), all[2].seq_len), (8, None, 1024));
        assert!(parts(&results, Protocol::Rows, |_| true).is_empty());
    }
}
