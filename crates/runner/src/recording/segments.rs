//! The steps in which a prompt is recorded.

use serde::{Deserialize, Serialize};

/// The positions of one recorded step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) role: Role,
}

/// What follows a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// A whole chunk, on which the next segment builds.
    Chunk,
    /// The last, short step of one length. It is taken back before the next segment.
    Tail,
}

impl Segment {
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }
}

/// The steps that record prompts of these lengths, each in steps of `chunk` tokens, in the order in which they are computed.
///
/// `lengths` ascend.
pub(crate) fn segments(lengths: &[usize], chunk: usize) -> Vec<Segment> {
    let longest = lengths.last().copied().unwrap_or(0);
    let mut segments = vec![];
    for start in (0..longest).step_by(chunk.max(1)) {
        let end = start + chunk;
        let tails = lengths.iter().filter(|length| (start + 1..end).contains(*length));
        segments.extend(tails.map(|end| Segment { start, end: *end, role: Role::Tail }));
        if end <= longest {
            segments.push(Segment { start, end, role: Role::Chunk });
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_ends_with_a_segment() {
        let shown = |lengths: &[usize], chunk| {
            let shown = |segment: Segment| (segment.start, segment.end, segment.role == Role::Tail);
            segments(lengths, chunk).into_iter().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(shown(&[8], 4), [(0, 4, false), (4, 8, false)]);
        assert_eq!(shown(&[3, 8, 9], 4), [(0, 3, true), (0, 4, false), (4, 8, false), (8, 9, true)]);
        assert_eq!(shown(&[5, 6], 4), [(0, 4, false), (4, 5, true), (4, 6, true)]);
        assert_eq!(shown(&[1], 512), [(0, 1, true)]);
        assert_eq!(shown(&[], 4), []);
    }
}
