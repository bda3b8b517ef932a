//! The bytes of a cache that does not exist yet.

use crate::Usage;

/// What a strategy says that a cache will take between steps: what [`Usage`] will report, to within the larger of 0.1 % and 4 KiB
/// in all. All arithmetic saturates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PredictedBytes {
    /// [`Usage::payload_bytes`].
    pub payload: usize,
    /// [`Usage::metadata_bytes`].
    pub metadata: usize,
    /// [`Usage::slack_bytes`]. It must not depend on the steps in which the tokens came: a buffer that grows by doubling
    /// grows to a size that its length decides, and not its history.
    pub slack: usize,
}

impl PredictedBytes {
    /// All bytes that the cache takes.
    pub fn total(self) -> usize {
        self.payload.saturating_add(self.metadata).saturating_add(self.slack)
    }

    /// The bytes of `count` things that take so much each.
    #[must_use]
    pub fn times(self, count: usize) -> PredictedBytes {
        let PredictedBytes { payload, metadata, slack } = self;
        PredictedBytes {
            payload: payload.saturating_mul(count),
            metadata: metadata.saturating_mul(count),
            slack: slack.saturating_mul(count),
        }
    }
}

/// The same bytes as a usage reports, so that one function of a strategy gives both.
impl From<Usage> for PredictedBytes {
    fn from(usage: Usage) -> PredictedBytes {
        PredictedBytes { payload: usage.payload_bytes, metadata: usage.metadata_bytes, slack: usage.slack_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let bytes = PredictedBytes { payload: 3, metadata: usize::MAX / 2, slack: 1 };
        assert_eq!(bytes.total(), usize::MAX / 2 + 4);
        assert_eq!(bytes.times(3), PredictedBytes { payload: 9, metadata: usize::MAX, slack: 3 });
        assert_eq!(bytes.times(3).total(), usize::MAX);
    }
}
