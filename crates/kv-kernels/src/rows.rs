//! Encoded rows of one length, at any addresses.

use std::marker::PhantomData;
use std::ops::Range;

use crate::lanes::Lanes;

/// The address of an encoded row. It is half the size of a slice, because attention lists all keys and values it reads.
/// The owner of a list knows the length of its rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowStart<'a>(*const u8, PhantomData<&'a [u8]>);

impl<'a> RowStart<'a> {
    pub(crate) fn of(row: &'a [u8]) -> RowStart<'a> {
        RowStart(row.as_ptr(), PhantomData)
    }

    /// The consecutive rows of `row_bytes` bytes in `bytes`.
    #[inline]
    pub(crate) fn each(bytes: &'a [u8], row_bytes: usize) -> impl ExactSizeIterator<Item = RowStart<'a>> {
        // Adds instead of multiplying, because one multiplication per row is measurable.
        let mut next = bytes.as_ptr();
        (0..bytes.len() / row_bytes).map(move |_| {
            let start = RowStart(next, PhantomData);
            next = next.wrapping_add(row_bytes);
            start
        })
    }
}

/// Encoded rows at any addresses.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    starts: &'a [RowStart<'a>],
    row_bytes: usize,
    ahead: Ahead<'a>,
}

/// Rows that will be read next. Each is prefetched while another row is read.
#[derive(Clone, Copy)]
pub(crate) struct Ahead<'a> {
    pub(crate) starts: &'a [RowStart<'a>],
    pub(crate) row_bytes: usize,
}

impl<'a> Rows<'a> {
    /// # Safety
    /// Each row has `row_bytes` bytes.
    pub(crate) unsafe fn new(starts: &'a [RowStart<'a>], row_bytes: usize, ahead: Ahead<'a>) -> Rows<'a> {
        Rows { starts, row_bytes, ahead }
    }

    /// The addresses of `COUNT` rows.
    #[inline(always)]
    pub(crate) fn several<const COUNT: usize>(&self, first: usize) -> [*const u8; COUNT] {
        let starts: &[RowStart<'_>; COUNT] = self.starts[first..][..COUNT].try_into().expect("as many as were sliced");
        starts.map(|start| start.0)
    }

    /// The addresses of the rows in fours. If rows are left over, they form a last four in which the last row is repeated.
    #[inline(always)]
    pub(crate) fn fours(&self) -> (impl ExactSizeIterator<Item = [*const u8; 4]>, Option<[*const u8; 4]>) {
        let (fours, rest) = self.starts.as_chunks::<4>();
        let rest = rest.last().map(|last| std::array::from_fn(|row| rest.get(row).unwrap_or(last).0));
        (fours.iter().map(|[a, b, c, d]| [a.0, b.0, c.0, d.0]), rest)
    }

    /// The rows' bytes in order.
    pub(crate) fn slices(self) -> impl Iterator<Item = &'a [u8]> {
        // SAFETY: the caller of `new` guaranteed that each row has `row_bytes` bytes.
        self.starts.iter().map(move |start| unsafe { std::slice::from_raw_parts(start.0, self.row_bytes) })
    }
}

impl<'a> Ahead<'a> {
    /// The rows after the first `rows`.
    pub(crate) fn after(self, rows: usize) -> Ahead<'a> {
        Ahead { starts: self.starts.get(rows..).unwrap_or_default(), row_bytes: self.row_bytes }
    }

    pub(crate) const NOTHING: Ahead<'static> = Ahead { starts: &[], row_bytes: 0 };

    /// Prefetches `COUNT` rows, if there are that many. The runs of pages and rings are too short for the hardware prefetcher.
    /// Prefetching all rows at once would delay other loads.
    #[inline(always)]
    pub(crate) fn prefetch<L: Lanes, const COUNT: usize>(&self, lanes: L, first: usize) {
        if let Some(rows) = self.starts.get(first..first + COUNT).and_then(|rows| rows.as_array::<COUNT>()) {
            prefetch(lanes, rows, self.row_bytes);
        }
    }

    /// Prefetches whole fours of rows.
    #[inline(always)]
    pub(crate) fn prefetch_all<L: Lanes>(&self, lanes: L, rows: Range<usize>) {
        for first in rows.step_by(4) {
            self.prefetch::<L, 4>(lanes, first);
        }
    }
}

/// Spreads the prefetches of the rows ahead over several passes over other rows. Issued in the first pass alone, they would
/// exceed the number of loads a core can have in flight, and memory would sit idle during the other passes.
///
/// `TOGETHER` rows are prefetched together.
pub(crate) struct Pace<'a, const TOGETHER: usize> {
    rows: std::slice::Iter<'a, [RowStart<'a>; TOGETHER]>,
    row_bytes: usize,
    passes: usize,
    steps_to_wait: usize,
}

impl<'a, const TOGETHER: usize> Pace<'a, TOGETHER> {
    /// For one pass of `steps` steps, each of which processes `TOGETHER` rows.
    #[inline(always)]
    pub(crate) fn new(pass: usize, passes: usize, steps: usize, ahead: Ahead<'a>) -> Pace<'a, TOGETHER> {
        let (all, share) = (ahead.starts.as_chunks().0, steps.div_ceil(passes));
        let end = steps.min(all.len());
        let rows = all[(pass * share).min(end)..((pass + 1) * share).min(end)].iter();
        Pace { rows, row_bytes: ahead.row_bytes, passes, steps_to_wait: 0 }
    }

    /// Advances by one step and prefetches if rows are due.
    #[inline(always)]
    pub(crate) fn step<L: Lanes>(&mut self, lanes: L) {
        if let Some(rows) = self.due() {
            prefetch(lanes, rows, self.row_bytes);
        }
    }

    /// The rows to prefetch in the next step, if any.
    #[inline(always)]
    fn due(&mut self) -> Option<&'a [RowStart<'a>; TOGETHER]> {
        if self.steps_to_wait > 0 {
            self.steps_to_wait -= 1;
            return None;
        }
        self.steps_to_wait = self.passes - 1;
        self.rows.next()
    }
}

#[inline(always)]
fn prefetch<L: Lanes, const COUNT: usize>(lanes: L, rows: &[RowStart<'_>; COUNT], row_bytes: usize) {
    const LINE: usize = 64;
    let mut at = 0;
    while at < row_bytes {
        for row in rows {
            lanes.prefetch(row.0.wrapping_add(at));
        }
        at += LINE;
    }
}

/// Rows to read one by one.
pub(crate) trait RowList: Copy {
    fn count(&self) -> usize;
    /// Bytes per row.
    fn row_bytes(&self) -> usize;
    /// The row at `index`, which must be less than the count.
    fn row(&self, index: usize) -> *const u8;
    /// Rows that will be read next.
    fn ahead(&self) -> Ahead<'_>;
}

impl RowList for Rows<'_> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.starts.len()
    }

    #[inline(always)]
    fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    #[inline(always)]
    fn row(&self, index: usize) -> *const u8 {
        self.starts[index].0
    }

    #[inline(always)]
    fn ahead(&self) -> Ahead<'_> {
        self.ahead
    }
}

/// Contiguous rows.
#[derive(Clone, Copy)]
pub(crate) struct RowsInARow<'a> {
    bytes: &'a [u8],
    row_bytes: usize,
}

impl<'a> RowsInARow<'a> {
    /// # Panics
    /// If the bytes are not whole rows.
    pub(crate) fn new(bytes: &'a [u8], row_bytes: usize) -> RowsInARow<'a> {
        assert!(bytes.len().is_multiple_of(row_bytes), "{} bytes in rows of {row_bytes}", bytes.len());
        RowsInARow { bytes, row_bytes }
    }
}

impl RowList for RowsInARow<'_> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.bytes.len() / self.row_bytes
    }

    #[inline(always)]
    fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    #[inline(always)]
    fn row(&self, index: usize) -> *const u8 {
        self.bytes.as_ptr().wrapping_add(index * self.row_bytes)
    }

    #[inline(always)]
    fn ahead(&self) -> Ahead<'_> {
        Ahead::NOTHING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks which rows the steps of all passes prefetch, with at most as many rows ahead as the steps process.
    fn asks_for_every_row_in_equal_shares<const TOGETHER: usize>(passes: usize, steps: usize, ahead: usize) {
        let bytes = vec![0; ahead];
        let starts: Vec<RowStart<'_>> = RowStart::each(&bytes, 1).collect();
        let asked = |pass: usize| {
            let mut pace = Pace::<TOGETHER>::new(pass, passes, steps, Ahead { starts: &starts, row_bytes: 1 });
            let rows = (0..steps).filter_map(|_| pace.due()).flatten();
            rows.map(|row| row.0.addr() - bytes.as_ptr().addr()).collect()
        };
        let shares: Vec<Vec<usize>> = (0..passes).map(asked).collect();
        let all = ahead.min(steps * TOGETHER) / TOGETHER * TOGETHER;
        assert_eq!(shares.concat(), (0..all).collect::<Vec<_>>(), "{passes} passes of {steps} steps, {ahead} rows");
        let most = steps.div_ceil(passes) * TOGETHER;
        assert!(shares.iter().all(|share| share.len() <= most), "{passes} passes of {steps} steps: {shares:?}");
    }

    #[test]
    fn all_passes_together_ask_for_every_row_in_equal_shares() {
        for (passes, steps) in [(1, 64), (4, 64), (4, 63), (3, 64), (8, 3), (4, 0)] {
            for ahead in [4 * steps, 4 * steps + 9, steps + 1, 0] {
                asks_for_every_row_in_equal_shares::<1>(passes, steps, ahead);
                asks_for_every_row_in_equal_shares::<4>(passes, steps, ahead);
            }
        }
    }
}
