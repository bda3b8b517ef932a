//! Whose fault it is that the worker of a block died.

use std::collections::BTreeSet;

use kv_report::Status;

/// What is known from earlier deaths of the workers of one block.
#[derive(Debug, Default)]
pub(super) struct Blame {
    /// Cells in whose hands memory ran out while others had some of it.
    suspects: BTreeSet<usize>,
    /// Deaths after everything of the cell in hand had been said.
    unexplained: usize,
}

/// A worker's death.
#[derive(Debug, Clone, Copy)]
pub(super) struct Death<'a> {
    pub(super) status: Status,
    /// The cell in hand, if it was one's.
    pub(super) in_hand: Option<usize>,
    /// The cells that its worker was to time, the baseline that is timed again not included.
    pub(super) together: &'a [usize],
    /// The cells that are still to be timed.
    pub(super) left: &'a [usize],
    /// Whether the worker held the baseline's cache as well.
    pub(super) beside_baseline: bool,
}

impl Blame {
    /// The cells that the next worker times: all that are left, but each suspect alone.
    pub(super) fn next(&self, left: &[usize]) -> Vec<usize> {
        let together: Vec<usize> = left.iter().copied().filter(|cell| !self.suspects.contains(cell)).collect();
        if together.is_empty() { left.iter().take(1).copied().collect() } else { together }
    }

    /// The cells that have failed for good; none if another try is to show it.
    pub(super) fn judge(&mut self, death: Death<'_>) -> Vec<usize> {
        /// A worker that dies that often for no reason that is known is everybody's.
        const MOST_UNEXPLAINED: usize = 3;
        let Death { status, in_hand, together, left, beside_baseline } = death;
        let Some(cell) = in_hand else { return left.to_vec() };
        if !left.contains(&cell) {
            self.unexplained += 1;
            return if self.unexplained > MOST_UNEXPLAINED { left.to_vec() } else { vec![] };
        }
        // The one in hand need not be the one that took the memory.
        let is_alone = together.len() == 1 && !beside_baseline;
        if status == Status::Oom && !is_alone && self.suspects.insert(cell) {
            return vec![];
        }
        vec![cell]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death<'a>(status: Status, in_hand: Option<usize>, together: &'a [usize], left: &'a [usize]) -> Death<'a> {
        Death { status, in_hand, together, left, beside_baseline: false }
    }

    #[test]
    fn the_one_in_hand_is_to_blame() {
        let mut blame = Blame::default();
        assert_eq!(blame.judge(death(Status::Failed, Some(2), &[1, 2, 3], &[1, 2, 3])), [2]);
        assert_eq!(blame.judge(death(Status::Timeout, Some(3), &[1, 3], &[1, 3])), [3]);
        assert_eq!(blame.judge(death(Status::Failed, None, &[1, 3], &[1, 3])), [1, 3], "the model could not be loaded");
    }

    /// Here 1 takes the memory, and it runs out in the hands of 2.
    #[test]
    fn when_memory_runs_out_the_one_in_hand_is_tried_alone() {
        let mut blame = Blame::default();
        assert_eq!(blame.judge(death(Status::Oom, Some(2), &[1, 2, 3], &[1, 2, 3])), [0; 0]);
        assert_eq!(blame.next(&[1, 2, 3]), [1, 3]);
        assert_eq!(blame.next(&[2]), [2], "the others are done");
        assert_eq!(blame.judge(death(Status::Oom, Some(2), &[2], &[2])), [2], "it was its own fault");
        let beside = Death { beside_baseline: true, ..death(Status::Oom, Some(5), &[5], &[5]) };
        assert_eq!(blame.judge(beside), [0; 0], "the baseline had some of it");
        assert_eq!(blame.judge(beside), [5]);
    }

    #[test]
    fn deaths_that_nobody_can_explain_end() {
        let mut blame = Blame::default();
        for _ in 0..3 {
            assert_eq!(blame.judge(death(Status::Failed, Some(1), &[1, 2], &[2])), [0; 0]);
        }
        assert_eq!(blame.judge(death(Status::Failed, Some(1), &[1, 2], &[2])), [2]);
    }
}
