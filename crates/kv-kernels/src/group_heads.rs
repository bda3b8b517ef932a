//! The scales and minima of several rows, gathered so that those of one group are contiguous.

#![expect(clippy::needless_range_loop, reason = "indexes with constant bounds are unrolled")]

use crate::codec::{HALF, IntegerCodec};
use crate::factors::{Heads, SIXTEEN};
use crate::key_block::KEYS;
use crate::rows::{RowList, Rows};

/// Tokens whose rows are processed together.
pub(crate) const TOKENS: usize = 4;

/// The scales and minima of the groups of up to [`KEYS`] rows, in half precision.
#[derive(Debug, Default)]
pub(crate) struct GroupHeads {
    /// `[groups, KEYS]`
    scales: Vec<[u8; HALF]>,
    /// `[groups, KEYS]`, if the format has offsets.
    minima: Vec<[u8; HALF]>,
}

impl GroupHeads {
    /// Copies them from rows of `dim` values, padded with 0 to whole sixteens. Not inlined, so that it has enough
    /// registers.
    #[inline(never)]
    pub(crate) fn gather<C: IntegerCodec>(&mut self, rows: Rows<'_>, dim: usize) {
        let (count, groups) = (rows.count(), dim / C::GROUP);
        assert!(rows.row_bytes() >= C::row_bytes(dim) && count <= KEYS, "{count} rows of {} bytes", rows.row_bytes());
        self.scales.resize(groups * KEYS, [0; HALF]);
        self.minima.resize(if C::HAS_OFFSET { groups * KEYS } else { 0 }, [0; HALF]);
        let (fours, rest) = rows.fours();
        let whole = fours.len() * TOKENS;
        for (index, rows) in fours.enumerate() {
            // SAFETY: each row has the bytes of all groups, and there is room for each.
            unsafe { self.copy::<C>(rows, groups, index * TOKENS) };
        }
        if let Some(rows) = rest {
            // SAFETY: as above.
            unsafe { self.copy::<C>(rows, groups, whole) };
        }
        for group in 0..groups {
            let filling = group * KEYS + count..group * KEYS + count.next_multiple_of(SIXTEEN);
            self.scales[filling.clone()].fill([0; HALF]);
            if C::HAS_OFFSET {
                self.minima[filling].fill([0; HALF]);
            }
        }
    }

    /// Copies those of four rows, which start at index `first`.
    ///
    /// # Safety
    /// The rows hold the groups, and there is room for all of them.
    #[inline(always)]
    unsafe fn copy<C: IntegerCodec>(&mut self, rows: [*const u8; TOKENS], groups: usize, first: usize) {
        let (mut scales, mut minima) = (self.scales[first..].as_mut_ptr(), self.minima.as_mut_ptr().wrapping_add(first));
        let mut at = 0;
        for _ in 0..groups {
            for row in 0..TOKENS {
                let head = rows[row].wrapping_add(at).cast::<[u8; HALF]>();
                // SAFETY: guaranteed by the caller; a group begins with its scale.
                let scale = unsafe { head.read() };
                // SAFETY: guaranteed by the caller.
                unsafe { scales.wrapping_add(row).write(scale) };
                if C::HAS_OFFSET {
                    // SAFETY: as above; the minimum follows the scale.
                    let minimum = unsafe { head.wrapping_add(1).read() };
                    // SAFETY: guaranteed by the caller.
                    unsafe { minima.wrapping_add(row).write(minimum) };
                }
            }
            at += C::row_bytes(C::GROUP);
            (scales, minima) = (scales.wrapping_add(KEYS), minima.wrapping_add(KEYS));
        }
    }

    /// Those of one group: `count` gathered ones, padded to whole sixteens.
    #[inline(always)]
    pub(crate) fn of<C: IntegerCodec>(&self, group: usize, count: usize) -> Heads<'_> {
        let places = group * KEYS..group * KEYS + count.next_multiple_of(SIXTEEN);
        Heads { scales: &self.scales[places.clone()], minima: C::HAS_OFFSET.then(|| &self.minima[places]) }
    }
}
