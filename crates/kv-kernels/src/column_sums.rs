//! Column sums of several rows of codes, each row times its factor. Used to weight values in integers and to score keys
//! channel by channel.

use std::slice::ChunksExactMut;

use crate::codec::Columns;
use crate::factors::Rounded;
use crate::lanes::{IntegerDots, Lanes};

/// Columns of half a group, which are summed together.
pub(crate) const COLUMNS: usize = 16;

/// The column sums of `COUNT` halves of a group, starting with half `FIRST`, for each of `ROWS` rows of factors.
pub(crate) struct HalfSums<D: IntegerDots, const ROWS: usize, const FIRST: usize, const COUNT: usize>([[D::ColumnSums; ROWS]; COUNT]);

impl<D: IntegerDots, const ROWS: usize, const FIRST: usize, const COUNT: usize> HalfSums<D, ROWS, FIRST, COUNT> {
    /// Whether they fit in registers together with their operands.
    pub(crate) const FIT_REGISTERS: bool = ROWS * COUNT * size_of::<D::ColumnSums>() / size_of::<D::Sums>() <= D::Lanes::REGISTERS / 2;

    /// Initial sums. Codes are counted from `centre`.
    #[inline(always)]
    pub(crate) fn new(dots: D, rounded: &Rounded<ROWS>, centre: i32) -> Self {
        let mut sums = [dots.column_sums(0); ROWS];
        for (sums, sum) in sums.iter_mut().zip(rounded.sums) {
            *sums = dots.column_sums(sum.wrapping_mul(-centre));
        }
        HalfSums([sums; COUNT])
    }

    /// Adds the codes of four rows, which start at index `first`.
    ///
    /// # Safety
    /// As for [`IntegerDots::add_columns`] with `ROWS` lists of factors.
    #[inline(always)]
    pub(crate) unsafe fn add_four(&mut self, dots: D, codes: [D::Columns; 2], factors: *const i16, stride: usize, first: usize) {
        for half in 0..COUNT {
            // SAFETY: guaranteed by the caller.
            self.0[half] = unsafe { dots.add_columns(self.0[half], codes[FIRST + half], factors, stride, first) };
        }
    }

    /// `out[r][column] += offset + worth · sum` for the columns of the group.
    ///
    /// # Shapes
    /// - out: `[ROWS, stride]`, starting at the group's first column. The last row may end with the group.
    #[inline(always)]
    pub(crate) fn add_to<C: Columns>(&self, dots: D, rounded: &Rounded<ROWS>, out: &mut [f32], stride: usize) {
        let lanes = dots.lanes();
        for r in 0..ROWS {
            for half in 0..COUNT {
                for (out, total) in Self::columns(out, stride, r, half).zip(self.totals::<C>(dots, rounded, r, half)) {
                    // SAFETY: a vector.
                    let before = unsafe { lanes.load_f32(out.as_ptr().cast()) };
                    // SAFETY: a vector.
                    unsafe { lanes.store(lanes.mul_add(total, lanes.splat(1.0), before), out.as_mut_ptr()) };
                }
            }
        }
    }

    /// Like [`add_to`](Self::add_to), but overwrites `out`.
    #[inline(always)]
    pub(crate) fn store_in<C: Columns>(&self, dots: D, rounded: &Rounded<ROWS>, out: &mut [f32], stride: usize) {
        for r in 0..ROWS {
            for half in 0..COUNT {
                for (out, total) in Self::columns(out, stride, r, half).zip(self.totals::<C>(dots, rounded, r, half)) {
                    // SAFETY: a vector.
                    unsafe { dots.lanes().store(total, out.as_mut_ptr()) };
                }
            }
        }
    }

    /// The vectors of one half of a row.
    #[inline(always)]
    fn columns(out: &mut [f32], stride: usize, r: usize, half: usize) -> ChunksExactMut<'_, f32> {
        out[r * stride + (FIRST + half) * COLUMNS..][..COLUMNS].chunks_exact_mut(D::Lanes::WIDTH)
    }

    #[inline(always)]
    fn totals<C: Columns>(&self, dots: D, rounded: &Rounded<ROWS>, r: usize, half: usize) -> [<D::Lanes as Lanes>::F32; 2] {
        dots.column_totals(C::in_order(dots, self.0[half][r]), rounded.worth[r], rounded.offsets[r])
    }
}
