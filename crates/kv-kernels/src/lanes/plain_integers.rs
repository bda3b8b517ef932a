//! Integer dot products in plain Rust, only for tests. They are slower than plain floats, but run on any machine and under Miri.

use super::portable::Array;
use super::{IntegerDots, IntegerKernel};
use crate::codec::f16_to_f32;

#[derive(Debug, Clone, Copy)]
pub(crate) struct PlainIntegers;

/// Sums per vector.
const WIDTH: usize = 8;
/// Codes or factors per group.
const GROUP: usize = 32;
/// Columns that are summed together.
const COLUMNS: usize = 16;
/// Sums per quad.
const QUAD: usize = 4;

impl IntegerDots for PlainIntegers {
    const QUADS: usize = 2;
    const GROUPS: usize = 1;
    const BYTE_ZERO: i32 = 0;
    const ADDS_BYTES: bool = true;
    type Lanes = Array<WIDTH>;
    type Sums = [i32; WIDTH];
    type Codes = [i16; GROUP];
    type Factors = [[i16; GROUP]; 2];
    /// The columns of each row.
    type Columns = [[i16; COLUMNS]; 4];
    type ColumnSums = [i32; COLUMNS];

    fn run<K: IntegerKernel>(self, kernel: K) {
        kernel.run(self);
    }

    fn lanes(self) -> Array<WIDTH> {
        Array
    }

    unsafe fn load_bytes(self, [from, _]: [*const u8; 2]) -> [i16; GROUP] {
        // SAFETY: guaranteed by the caller.
        unsafe { from.cast::<[i8; GROUP]>().read() }.map(i16::from)
    }

    unsafe fn load_nibbles(self, [from, _]: [*const u8; 2]) -> [i16; GROUP] {
        // SAFETY: guaranteed by the caller.
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

    unsafe fn load_factors(self, from: *const i16) -> [[i16; GROUP]; 2] {
        // SAFETY: guaranteed by the caller.
        unsafe { from.cast::<[[i16; GROUP]; 2]>().read() }
    }

    fn zero(self) -> [i32; WIDTH] {
        [0; WIDTH]
    }

    fn dot(self, codes: [i16; GROUP], factors: [[i16; GROUP]; 2]) -> [i32; WIDTH] {
        let mut sums = [0; WIDTH];
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

    fn quad_sums(self, vectors: [[i32; WIDTH]; 4]) -> [i32; WIDTH] {
        let mut sums = [0; WIDTH];
        for (at, sum) in sums.iter_mut().enumerate() {
            *sum = vectors[at % QUAD][at / QUAD * QUAD..][..QUAD].iter().sum();
        }
        sums
    }

    fn totals(self, vectors: [[i32; WIDTH]; 4]) -> [i32; 4] {
        vectors.map(|sums| sums.into_iter().fold(0, i32::wrapping_add))
    }

    fn to_floats(self, sums: [i32; WIDTH]) -> [f32; WIDTH] {
        sums.map(|sum| sum as f32)
    }

    unsafe fn load_halves(self, places: [*const u8; 4], [at, _]: [usize; 2]) -> [f32; WIDTH] {
        // SAFETY: guaranteed by the caller.
        let four = places.map(|place| f16_to_f32(u16::from_le_bytes(unsafe { place.wrapping_add(at).cast::<[u8; 2]>().read() })));
        std::array::from_fn(|at| four[at % QUAD])
    }

    unsafe fn store_rows(self, vector: [f32; WIDTH], to: *mut f32, stride: usize) {
        for (quad, values) in vector.chunks_exact(QUAD).enumerate() {
            for (at, value) in values.iter().enumerate() {
                // SAFETY: guaranteed by the caller.
                unsafe { to.wrapping_add(quad * stride + at).write(*value) };
            }
        }
    }

    unsafe fn columns_of_bytes(self, rows: [*const u8; 4]) -> [[[i16; COLUMNS]; 4]; 2] {
        // SAFETY: guaranteed by the caller.
        halves(rows.map(|row| unsafe { self.load_bytes([row; 2]) }))
    }

    unsafe fn columns_of_nibbles(self, rows: [*const u8; 4]) -> [[[i16; COLUMNS]; 4]; 2] {
        // SAFETY: guaranteed by the caller.
        halves(rows.map(|row| unsafe { self.load_nibbles([row; 2]) }))
    }

    unsafe fn columns_of_2bit_codes(self, rows: [*const u8; 4]) -> [[[i16; COLUMNS]; 4]; 2] {
        // SAFETY: guaranteed by the caller.
        let rows = rows.map(|row| u64::from_le_bytes(unsafe { row.cast::<[u8; 8]>().read() }));
        halves(rows.map(|codes| std::array::from_fn(|column| (codes >> (2 * column) & 3) as i16)))
    }

    unsafe fn store_column_factors(self, values: [[f32; WIDTH]; 2], mut sums: [i32; WIDTH], to: *mut i16) -> [i32; WIDTH] {
        for (at, value) in values.as_flattened().iter().enumerate() {
            let factor = value.round_ties_even() as i16;
            sums[at % WIDTH] = sums[at % WIDTH].wrapping_add(i32::from(factor));
            // SAFETY: guaranteed by the caller.
            unsafe { to.wrapping_add(at).write(factor) };
        }
        sums
    }

    fn column_sums(self, sum: i32) -> [i32; COLUMNS] {
        [sum; COLUMNS]
    }

    unsafe fn add_columns<const COUNT: usize>(
        self,
        mut sums: [[i32; COLUMNS]; COUNT],
        codes: [[i16; COLUMNS]; 4],
        factors: *const i16,
        stride: usize,
        first: usize,
    ) -> [[i32; COLUMNS]; COUNT] {
        for (list, sums) in sums.iter_mut().enumerate() {
            // SAFETY: guaranteed by the caller.
            let factors = unsafe { factors.wrapping_add(list * stride + first).cast::<[i16; 4]>().read() };
            for (codes, factor) in codes.into_iter().zip(factors) {
                for (sum, code) in sums.iter_mut().zip(codes) {
                    *sum = sum.wrapping_add(i32::from(code) * i32::from(factor));
                }
            }
        }
        sums
    }

    fn in_order(self, sums: [i32; COLUMNS]) -> [i32; COLUMNS] {
        sums
    }

    fn in_order_of_2bit_codes(self, sums: [i32; COLUMNS]) -> [i32; COLUMNS] {
        sums
    }

    fn column_totals(self, sums: [i32; COLUMNS], worth: f32, offset: f32) -> [[f32; WIDTH]; 2] {
        [0, WIDTH].map(|first| std::array::from_fn(|column| offset + worth * sums[first + column] as f32))
    }
}

/// Columns 0 to 15 and 16 to 31 of each row.
fn halves(rows: [[i16; GROUP]; 4]) -> [[[i16; COLUMNS]; 4]; 2] {
    [0, COLUMNS].map(|first| rows.map(|row| std::array::from_fn(|column| row[first + column])))
}
