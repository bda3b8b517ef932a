//! Codes of several rows times a factor a row, added up column by column: what weighing values in integers and scoring keys
//! channel by channel have in common.

use crate::codec::Columns;
use crate::factors::Rounded;
use crate::lanes::{IntegerDots, Lanes};

/// Columns of half a group, which are added up together.
pub(crate) const COLUMNS: usize = 16;

/// The sums of `COUNT` halves of a group from `FIRST` on, for each of `ROWS` rows of factors.
pub(crate) struct HalfSums<D: IntegerDots, const ROWS: usize, const FIRST: usize, const COUNT: usize>([[D::ColumnSums; COUNT]; ROWS]);

impl<D: IntegerDots, const ROWS: usize, const FIRST: usize, const COUNT: usize> HalfSums<D, ROWS, FIRST, COUNT> {
    /// Whether they stay in registers, beside what they are made of.
    pub(crate) const FIT_REGISTERS: bool = ROWS * COUNT * size_of::<D::ColumnSums>() / size_of::<D::Sums>() <= D::Lanes::REGISTERS / 2;

    /// Of nothing yet; codes will count from `centre`.
    #[inline(always)]
    pub(crate) fn new(dots: D, rounded: &Rounded<ROWS>, centre: i32) -> Self {
        let mut sums = [[dots.column_sums(0); COUNT]; ROWS];
        for r in 0..ROWS {
            sums[r] = [dots.column_sums(rounded.sums[r].wrapping_mul(-centre)); COUNT];
        }
        HalfSums(sums)
    }

    /// Adds the codes of four rows, which are `first ..`.
    ///
    /// # Safety
    /// `factors` is `[ROWS, stride]`, of which columns `first .. first + 4` can be read.
    #[inline(always)]
    pub(crate) unsafe fn add_four(&mut self, dots: D, codes: [D::Columns; 2], factors: *const i16, stride: usize, first: usize) {
        for r in 0..ROWS {
            // SAFETY: promised by the caller.
            let factors = unsafe { dots.load_column_factors(factors.wrapping_add(r * stride), first) };
            for half in 0..COUNT {
                self.0[r][half] = dots.add_columns(self.0[r][half], codes[FIRST + half], factors);
            }
        }
    }

    /// `out[r][column] += offset + worth · sum` for the columns of the group.
    ///
    /// # Shapes
    /// - out: `[ROWS, stride]`, from the group's first column on; the last row may end with the group
    #[inline(always)]
    pub(crate) fn add_to<C: Columns>(self, dots: D, rounded: &Rounded<ROWS>, out: &mut [f32], stride: usize) {
        for r in 0..ROWS {
            for half in 0..COUNT {
                let out = &mut out[r * stride + (FIRST + half) * COLUMNS..][..COLUMNS];
                let sums = C::in_order(dots, self.0[r][half]);
                // SAFETY: so many values as there are columns.
                unsafe { dots.add_totals(sums, rounded.worth[r], rounded.offsets[r], out.as_mut_ptr()) };
            }
        }
    }
}
