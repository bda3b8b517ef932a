//! Encoded rows of one length, wherever they lie.

use std::marker::PhantomData;
use std::ops::Range;

use crate::lanes::Lanes;

/// Where an encoded row begins. Half of a slice, because attention makes a list of all keys and values it reads; who
/// lists rows knows how long they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowStart<'a>(*const u8, PhantomData<&'a [u8]>);

impl<'a> RowStart<'a> {
    pub(crate) fn of(row: &'a [u8]) -> RowStart<'a> {
        RowStart(row.as_ptr(), PhantomData)
    }

    /// The rows of `row_bytes` bytes that follow each other in `bytes`.
    #[inline]
    pub(crate) fn each(bytes: &'a [u8], row_bytes: usize) -> impl ExactSizeIterator<Item = RowStart<'a>> {
        // Added up, since a multiplication a row shows.
        let mut next = bytes.as_ptr();
        (0..bytes.len() / row_bytes).map(move |_| {
            let start = RowStart(next, PhantomData);
            next = next.wrapping_add(row_bytes);
            start
        })
    }
}

/// Encoded rows, wherever they lie.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    starts: &'a [RowStart<'a>],
    row_bytes: usize,
    ahead: Ahead<'a>,
}

/// Rows that will be read next, each asked for from memory while another row is read.
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

    /// The places of `COUNT` rows.
    #[inline(always)]
    pub(crate) fn several<const COUNT: usize>(&self, first: usize) -> [*const u8; COUNT] {
        let starts: &[RowStart<'_>; COUNT] = self.starts[first..][..COUNT].try_into().expect("as many as were sliced");
        starts.map(|start| start.0)
    }

    /// The places of each four rows, and of the four that the last few make with the last one repeated.
    #[inline(always)]
    pub(crate) fn fours(&self) -> (impl ExactSizeIterator<Item = [*const u8; 4]>, Option<[*const u8; 4]>) {
        let (fours, rest) = self.starts.as_chunks::<4>();
        let rest = rest.last().map(|last| std::array::from_fn(|row| rest.get(row).unwrap_or(last).0));
        (fours.iter().map(|[a, b, c, d]| [a.0, b.0, c.0, d.0]), rest)
    }

    /// The rows' bytes in order.
    pub(crate) fn slices(self) -> impl Iterator<Item = &'a [u8]> {
        // SAFETY: `new`'s caller promised that each has so many.
        self.starts.iter().map(move |start| unsafe { std::slice::from_raw_parts(start.0, self.row_bytes) })
    }
}

impl Ahead<'_> {
    pub(crate) const NOTHING: Ahead<'static> = Ahead { starts: &[], row_bytes: 0 };

    /// Asks memory for some of the rows. Pages and rings are runs too short for the machine to notice that it should, and
    /// asked for all at once, rows would keep others waiting.
    #[inline(always)]
    pub(crate) fn prefetch<L: Lanes>(&self, lanes: L, rows: Range<usize>) {
        const LINE: usize = 64;
        if let Some(rows) = self.starts.get(rows) {
            let mut at = 0;
            while at < self.row_bytes {
                for row in rows {
                    lanes.prefetch(row.0.wrapping_add(at));
                }
                at += LINE;
            }
        }
    }
}

/// Asks for the rows ahead little by little while others are passed over several times: all in the first pass, they would be
/// more at once than the machine keeps track of, and in the other passes the memory would rest.
pub(crate) struct Pace {
    next: usize,
    end: usize,
    /// Rows asked for together.
    together: usize,
    passes: usize,
    steps_to_wait: usize,
}

impl Pace {
    /// For one of the passes, of so many steps, in each of which the next `together` rows are passed over.
    #[inline(always)]
    pub(crate) fn new(pass: usize, passes: usize, steps: usize, together: usize) -> Pace {
        let (share, all) = (steps.div_ceil(passes) * together, steps * together);
        Pace { next: (pass * share).min(all), end: ((pass + 1) * share).min(all), together, passes, steps_to_wait: 0 }
    }

    /// Takes a step.
    #[inline(always)]
    pub(crate) fn step<L: Lanes>(&mut self, lanes: L, rows: &impl RowList) {
        if self.steps_to_wait == 0 && self.next < self.end {
            rows.prefetch(lanes, self.next..self.next + self.together);
            self.next += self.together;
            self.steps_to_wait = self.passes;
        }
        self.steps_to_wait = self.steps_to_wait.saturating_sub(1);
    }
}

/// Rows to read one by one.
pub(crate) trait RowList: Copy {
    fn count(&self) -> usize;
    /// Bytes that each has.
    fn row_bytes(&self) -> usize;
    /// The `index`th row, which must be less than the count.
    fn row(&self, index: usize) -> *const u8;
    /// Asks memory for rows that will be read next.
    fn prefetch<L: Lanes>(&self, lanes: L, rows: Range<usize>);
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
    fn prefetch<L: Lanes>(&self, lanes: L, rows: Range<usize>) {
        self.ahead.prefetch(lanes, rows);
    }
}

/// Rows one after the other.
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
    fn prefetch<L: Lanes>(&self, _: L, _: Range<usize>) {}
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::lanes::Array;

    /// Notes which rows are asked for.
    #[derive(Clone, Copy)]
    struct Asked<'a>(&'a RefCell<Vec<usize>>);

    impl RowList for Asked<'_> {
        fn count(&self) -> usize {
            0
        }

        fn row_bytes(&self) -> usize {
            0
        }

        fn row(&self, _: usize) -> *const u8 {
            std::ptr::null()
        }

        fn prefetch<L: Lanes>(&self, _: L, rows: Range<usize>) {
            self.0.borrow_mut().extend(rows);
        }
    }

    /// The rows that so many steps of a pace ask for.
    fn asked(mut pace: Pace, steps: usize) -> Vec<usize> {
        let rows = RefCell::new(vec![]);
        (0..steps).for_each(|_| pace.step(Array::<8>, &Asked(&rows)));
        rows.into_inner()
    }

    #[test]
    fn all_passes_together_ask_for_every_row_in_equal_shares() {
        for (passes, steps, together) in [(1, 64, 4), (4, 64, 4), (4, 63, 4), (3, 64, 1), (8, 3, 4), (4, 0, 1)] {
            let shares: Vec<Vec<usize>> = (0..passes).map(|pass| asked(Pace::new(pass, passes, steps, together), steps)).collect();
            assert_eq!(shares.concat(), (0..steps * together).collect::<Vec<_>>(), "{passes} passes of {steps} steps");
            let most = steps.div_ceil(passes) * together;
            assert!(shares.iter().all(|share| share.len() <= most), "{passes} passes of {steps} steps: {shares:?}");
        }
    }
}
