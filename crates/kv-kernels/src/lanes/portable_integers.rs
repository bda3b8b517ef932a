//! Integer dot products in plain Rust, for [`Array`]s of eight values.

use super::portable::Array;
use super::{IntegerDots, IntegerKernel, Lanes};
use crate::codec::f16_to_f32;

/// There are none for arrays of another length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Integers<const N: usize>(());

impl<const N: usize> Integers<N> {
    pub(crate) fn of_eight() -> Option<Integers<N>> {
        (N == 8).then_some(Integers(()))
    }
}

/// Codes or factors of a group.
const GROUP: usize = 32;
/// Columns that are added up together.
const COLUMNS: usize = 16;
/// Sums of a quad.
const QUAD: usize = 4;

impl<const N: usize> IntegerDots for Integers<N> {
    const QUADS: usize = 2;
    const GROUPS: usize = 1;
    const BYTE_ZERO: i32 = 0;
    const ADDS_BYTES: bool = true;
    type Lanes = Array<N>;
    type Sums = [i32; N];
    type Codes = [i16; GROUP];
    type Factors = [[i16; GROUP]; 2];
    /// The columns of each row.
    type Columns = [[i16; COLUMNS]; 4];
    type ColumnFactors = [i16; 4];
    type ColumnSums = [i32; COLUMNS];

    #[inline(never)]
    fn run<K: IntegerKernel>(self, kernel: K) {
        kernel.run(self);
    }

    #[inline(always)]
    fn lanes(self) -> Array<N> {
        Array
    }

    #[inline(always)]
    unsafe fn load_bytes(self, [from, _]: [*const u8; 2]) -> [i16; GROUP] {
        // SAFETY: promised by the caller.
        unsafe { from.cast::<[i8; GROUP]>().read() }.map(i16::from)
    }

    #[inline(always)]
    unsafe fn load_nibbles(self, [from, _]: [*const u8; 2]) -> [i16; GROUP] {
        // SAFETY: promised by the caller.
        let bytes = unsafe { from.cast::<[u8; GROUP / 2]>().read() };
        let mut codes = [0; GROUP];
        for (at, byte) in bytes.into_iter().enumerate() {
            codes[at] = i16::from(byte & 15);
            codes[at + GROUP / 2] = i16::from(byte >> 4);
        }
        codes
    }

    fn lay_out(quad: usize, factors: &[i32; GROUP], to: &mut [i16]) {
        for (to, factor) in to[quad * GROUP..][..GROUP].iter_mut().zip(factors) {
            *to = *factor as i16;
        }
    }

    #[inline(always)]
    unsafe fn load_factors(self, from: *const i16) -> [[i16; GROUP]; 2] {
        // SAFETY: promised by the caller.
        unsafe { from.cast::<[[i16; GROUP]; 2]>().read() }
    }

    #[inline(always)]
    unsafe fn load_sums(self, from: *const i32) -> [i32; N] {
        // SAFETY: promised by the caller.
        unsafe { from.cast::<[i32; N]>().read() }
    }

    #[inline(always)]
    fn zero(self) -> [i32; N] {
        [0; N]
    }

    /// Products of neighbours are added first, as the instruction does that compilers find for it.
    #[inline(always)]
    fn dot(self, codes: [i16; GROUP], factors: [[i16; GROUP]; 2]) -> [i32; N] {
        let mut sums = [0; N];
        for (sums, factors) in sums.chunks_exact_mut(QUAD).zip(factors) {
            for first in (0..GROUP).step_by(2 * QUAD) {
                for (pair, sum) in sums.iter_mut().enumerate() {
                    let product = |at: usize| i32::from(codes[at]) * i32::from(factors[at]);
                    *sum += product(first + 2 * pair) + product(first + 2 * pair + 1);
                }
            }
        }
        sums
    }

    #[inline(always)]
    fn quad_sums(self, vectors: [[i32; N]; 4]) -> [i32; N] {
        let mut sums = [0; N];
        for (at, sum) in sums.iter_mut().enumerate() {
            *sum = vectors[at % QUAD][at / QUAD * QUAD..][..QUAD].iter().sum();
        }
        sums
    }

    #[inline(always)]
    fn add_times(self, mut sums: [i32; N], others: [i32; N], number: i32) -> [i32; N] {
        for (sum, other) in sums.iter_mut().zip(others) {
            *sum = sum.wrapping_add(other.wrapping_mul(number));
        }
        sums
    }

    #[inline(always)]
    fn to_floats(self, sums: [i32; N]) -> [f32; N] {
        sums.map(|sum| sum as f32)
    }

    #[inline(always)]
    unsafe fn load_four_halves(self, [from, _]: [*const u8; 2]) -> [f32; N] {
        // SAFETY: promised by the caller.
        let four = unsafe { from.cast::<[[u8; 2]; QUAD]>().read() }.map(|half| f16_to_f32(u16::from_le_bytes(half)));
        std::array::from_fn(|at| four[at % QUAD])
    }

    #[inline(always)]
    unsafe fn add_rows(self, vector: [f32; N], to: *mut f32, stride: usize) {
        for (quad, values) in vector.chunks_exact(QUAD).enumerate() {
            for (at, value) in values.iter().enumerate() {
                // SAFETY: promised by the caller.
                unsafe { *to.add(quad * stride + at) += value };
            }
        }
    }

    #[inline(always)]
    unsafe fn columns_of_bytes(self, rows: [*const u8; 4]) -> [[[i16; COLUMNS]; 4]; 2] {
        let mut halves = [[[0; COLUMNS]; 4]; 2];
        for (row, from) in rows.into_iter().enumerate() {
            // SAFETY: promised by the caller.
            let codes = unsafe { self.load_bytes([from; 2]) };
            halves[0][row].copy_from_slice(&codes[..COLUMNS]);
            halves[1][row].copy_from_slice(&codes[COLUMNS..]);
        }
        halves
    }

    #[inline(always)]
    unsafe fn columns_of_nibbles(self, rows: [*const u8; 4]) -> [[[i16; COLUMNS]; 4]; 2] {
        let mut halves = [[[0; COLUMNS]; 4]; 2];
        for (row, from) in rows.into_iter().enumerate() {
            // SAFETY: promised by the caller.
            let codes = unsafe { self.load_nibbles([from; 2]) };
            halves[0][row].copy_from_slice(&codes[..COLUMNS]);
            halves[1][row].copy_from_slice(&codes[COLUMNS..]);
        }
        halves
    }

    #[inline(always)]
    unsafe fn columns_of_2bit_codes(self, rows: [*const u8; 4]) -> [[[i16; COLUMNS]; 4]; 2] {
        let mut halves = [[[0; COLUMNS]; 4]; 2];
        for (row, from) in rows.into_iter().enumerate() {
            // SAFETY: promised by the caller.
            let codes = u64::from_le_bytes(unsafe { from.cast::<[u8; 8]>().read() });
            for (half, columns) in halves.iter_mut().enumerate() {
                for (column, code) in columns[row].iter_mut().enumerate() {
                    *code = (codes >> (2 * (half * COLUMNS + column)) & 3) as i16;
                }
            }
        }
        halves
    }

    #[inline(always)]
    unsafe fn store_column_factors(self, values: [f32; N], to: *mut i16) {
        for (at, value) in self.lanes().round(values).into_iter().enumerate() {
            // SAFETY: promised by the caller.
            unsafe { to.add(at).write(value as i16) };
        }
    }

    #[inline(always)]
    unsafe fn load_column_factors(self, factors: *const i16, first: usize) -> [i16; 4] {
        // SAFETY: promised by the caller.
        unsafe { factors.add(first).cast::<[i16; 4]>().read() }
    }

    #[inline(always)]
    fn column_sums(self, sum: i32) -> [i32; COLUMNS] {
        [sum; COLUMNS]
    }

    #[inline(always)]
    fn add_columns(self, mut sums: [i32; COLUMNS], codes: [[i16; COLUMNS]; 4], factors: [i16; 4]) -> [i32; COLUMNS] {
        for (codes, factor) in codes.into_iter().zip(factors) {
            for (sum, code) in sums.iter_mut().zip(codes) {
                *sum = sum.wrapping_add(i32::from(code) * i32::from(factor));
            }
        }
        sums
    }

    #[inline(always)]
    fn order_2bit_columns(self, sums: [i32; COLUMNS]) -> [i32; COLUMNS] {
        sums
    }

    #[inline(always)]
    unsafe fn add_totals(self, sums: [i32; COLUMNS], worth: f32, offset: f32, to: *mut f32) {
        for (column, sum) in sums.into_iter().enumerate() {
            // SAFETY: promised by the caller.
            unsafe { *to.add(column) += offset + worth * sum as f32 };
        }
    }
}
