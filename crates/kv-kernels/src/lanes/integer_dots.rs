//! Products of codes and 16-bit numbers, summed in 32-bit integers. One instruction computes more of them than float products.

use std::convert::Infallible;
use std::marker::PhantomData;

use super::Lanes;

/// A computation that needs integer dot products.
pub(crate) trait IntegerKernel {
    /// Must be `#[inline(always)]`, like every function that it calls with `dots`.
    fn run<D: IntegerDots>(self, dots: D);
}

/// The integer dot products of an instruction set. A value of such a type exists only if the machine has the instructions.
///
/// *Codes* are the integers that a format stores, at most one byte each. *Factors* are the integers that multiply them, with a
/// magnitude of at most [`LARGEST_FACTOR`](crate::factors::LARGEST_FACTOR). Each takes the space of an `i16`, in a layout that
/// suits the instructions.
pub(crate) trait IntegerDots: Copy {
    /// *Quads* of four sums per vector: one for each of [`GROUPS`](Self::GROUPS) groups of each row of factors.
    const QUADS: usize;
    /// Number of groups of a row that are multiplied together, at most two.
    const GROUPS: usize;
    /// Number of rows of factors per vector of sums.
    const ROWS: usize = Self::QUADS / Self::GROUPS;
    /// Number of factors of all quads.
    const STEP_FACTORS: usize = Self::QUADS * 32;
    /// The code of the signed byte 0.
    const BYTE_ZERO: i32;
    /// Whether columns of bytes are summed faster as integers than as floats.
    const ADDS_BYTES: bool;
    type Lanes: Lanes;
    /// A vector of 32-bit integers.
    type Sums: Copy;
    /// The 32 codes of each group, for every row of factors.
    type Codes: Copy;
    /// 32 factors for each quad.
    type Factors: Copy;
    /// The codes of 16 columns of four rows.
    type Columns: Copy;
    /// A sum for each of 16 columns.
    type ColumnSums: Copy;

    /// Runs a kernel, compiled with the instructions, as a separate function.
    fn run<K: IntegerKernel>(self, kernel: K);
    fn lanes(self) -> Self::Lanes;

    /// The codes of the first [`GROUPS`](Self::GROUPS) groups, from signed bytes.
    ///
    /// # Safety
    /// 32 bytes of each can be read.
    unsafe fn load_bytes(self, groups: [*const u8; 2]) -> Self::Codes;
    /// The codes of the first [`GROUPS`](Self::GROUPS) groups: the low four bits of 16 bytes, then the high four bits.
    ///
    /// # Safety
    /// 16 bytes of each can be read.
    unsafe fn load_nibbles(self, groups: [*const u8; 2]) -> Self::Codes;
    /// Writes the 32 factors of a quad to their places among those of all quads.
    fn lay_out(quad: usize, factors: &[i32; 32], to: &mut [i16]);
    /// # Safety
    /// The factors of all quads, laid out, can be read.
    unsafe fn load_factors(self, from: *const i16) -> Self::Factors;
    fn zero(self) -> Self::Sums;
    /// Multiplies each code by its factor and adds the products to four sums per quad.
    fn dot(self, codes: Self::Codes, factors: Self::Factors) -> Self::Sums;
    /// The sums of quad `q` of each of four vectors, in quad `q`.
    fn quad_sums(self, vectors: [Self::Sums; 4]) -> Self::Sums;
    /// The sum of each vector.
    fn totals(self, vectors: [Self::Sums; 4]) -> [i32; 4];
    fn to_floats(self, sums: Self::Sums) -> <Self::Lanes as Lanes>::F32;
    /// The half-precision values `at[g]` bytes after each address, in the quads of group `g`.
    ///
    /// # Safety
    /// Those of the first [`GROUPS`](Self::GROUPS) groups can be read.
    unsafe fn load_halves(self, places: [*const u8; 4], at: [usize; 2]) -> <Self::Lanes as Lanes>::F32;
    /// Sets `to[r · stride ..][.. 4]` to the sum of the quads of row `r`.
    ///
    /// # Safety
    /// Those places can be written.
    unsafe fn store_rows(self, vector: <Self::Lanes as Lanes>::F32, to: *mut f32, stride: usize);

    /// Columns 0 to 15 and 16 to 31 of codes stored as signed bytes.
    ///
    /// # Safety
    /// 32 bytes of each can be read.
    unsafe fn columns_of_bytes(self, rows: [*const u8; 4]) -> [Self::Columns; 2];
    /// The low four bits of each of 16 bytes, and the high four bits.
    ///
    /// # Safety
    /// 16 bytes of each can be read.
    unsafe fn columns_of_nibbles(self, rows: [*const u8; 4]) -> [Self::Columns; 2];
    /// Columns 0 to 15 and 16 to 31 of 32 2-bit codes, the first in the lowest bits. The order of the columns is internal.
    ///
    /// # Safety
    /// 8 bytes of each can be read.
    unsafe fn columns_of_2bit_codes(self, rows: [*const u8; 4]) -> [Self::Columns; 2];
    /// Rounds 16 values to the factors of 16 rows, starting at a multiple of 16, and adds them to the sums. The second vector is
    /// used only if the first does not hold all of them.
    ///
    /// # Safety
    /// 16 factors can be written.
    unsafe fn store_column_factors(self, values: [<Self::Lanes as Lanes>::F32; 2], sums: Self::Sums, to: *mut i16) -> Self::Sums;
    /// The same sum for every column.
    fn column_sums(self, sum: i32) -> Self::ColumnSums;
    /// Adds the codes of four rows, each times its factor, for `COUNT` lists of factors at once. The factors of the rows are
    /// `first .. first + 4`, where `first` is a multiple of four.
    ///
    /// # Safety
    /// `factors` is `[COUNT, stride]`, was stored in whole sixteens, and contains the factors of the rows.
    unsafe fn add_columns<const COUNT: usize>(
        self,
        sums: [Self::ColumnSums; COUNT],
        codes: Self::Columns,
        factors: *const i16,
        stride: usize,
        first: usize,
    ) -> [Self::ColumnSums; COUNT];
    /// The sums of the columns of bytes or nibbles, from the first column to the last.
    fn in_order(self, sums: Self::ColumnSums) -> Self::ColumnSums;
    /// The sums of [`columns_of_2bit_codes`](Self::columns_of_2bit_codes), from the first column to the last.
    fn in_order_of_2bit_codes(self, sums: Self::ColumnSums) -> Self::ColumnSums;
    /// `offset + worth · sums[column]`, with the sums in order. The second vector is used only if the first does not hold all
    /// columns.
    fn column_totals(self, sums: Self::ColumnSums, worth: f32, offset: f32) -> [<Self::Lanes as Lanes>::F32; 2];
}

/// For vectors without integer dot products. No value of this type exists.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoDots<L>(Infallible, PhantomData<L>);

impl<L: Lanes> IntegerDots for NoDots<L> {
    const QUADS: usize = 1;
    const GROUPS: usize = 1;
    const BYTE_ZERO: i32 = 0;
    const ADDS_BYTES: bool = false;
    type Lanes = L;
    type Sums = Infallible;
    type Codes = Infallible;
    type Factors = Infallible;
    type Columns = Infallible;
    type ColumnSums = Infallible;

    fn run<K: IntegerKernel>(self, _: K) {
        match self.0 {}
    }

    fn lanes(self) -> L {
        match self.0 {}
    }

    unsafe fn load_bytes(self, _: [*const u8; 2]) -> Infallible {
        self.0
    }

    unsafe fn load_nibbles(self, _: [*const u8; 2]) -> Infallible {
        self.0
    }

    fn lay_out(_: usize, _: &[i32; 32], _: &mut [i16]) {
        unreachable!("no queries are laid out for dot products that do not exist")
    }

    unsafe fn load_factors(self, _: *const i16) -> Infallible {
        self.0
    }

    fn zero(self) -> Infallible {
        self.0
    }

    fn dot(self, _: Infallible, _: Infallible) -> Infallible {
        self.0
    }

    fn quad_sums(self, _: [Infallible; 4]) -> Infallible {
        match self.0 {}
    }

    fn totals(self, _: [Infallible; 4]) -> [i32; 4] {
        match self.0 {}
    }

    fn to_floats(self, _: Infallible) -> L::F32 {
        match self.0 {}
    }

    unsafe fn load_halves(self, _: [*const u8; 4], _: [usize; 2]) -> L::F32 {
        match self.0 {}
    }

    unsafe fn store_rows(self, _: L::F32, _: *mut f32, _: usize) {
        match self.0 {}
    }

    unsafe fn columns_of_bytes(self, _: [*const u8; 4]) -> [Infallible; 2] {
        match self.0 {}
    }

    unsafe fn columns_of_nibbles(self, _: [*const u8; 4]) -> [Infallible; 2] {
        match self.0 {}
    }

    unsafe fn columns_of_2bit_codes(self, _: [*const u8; 4]) -> [Infallible; 2] {
        match self.0 {}
    }

    unsafe fn store_column_factors(self, _: [L::F32; 2], _: Infallible, _: *mut i16) -> Infallible {
        self.0
    }

    fn column_sums(self, _: i32) -> Infallible {
        self.0
    }

    unsafe fn add_columns<const COUNT: usize>(
        self,
        _: [Infallible; COUNT],
        _: Infallible,
        _: *const i16,
        _: usize,
        _: usize,
    ) -> [Infallible; COUNT] {
        match self.0 {}
    }

    fn in_order(self, _: Infallible) -> Infallible {
        self.0
    }

    fn in_order_of_2bit_codes(self, _: Infallible) -> Infallible {
        self.0
    }

    fn column_totals(self, _: Infallible, _: f32, _: f32) -> [L::F32; 2] {
        match self.0 {}
    }
}

/// Runs a kernel with all integer dot products that this machine has, and with those in plain Rust.
#[cfg(test)]
pub(crate) fn on_all_integer_dots(kernel: impl IntegerKernel + Copy) {
    struct IfThereAre<K>(K);

    impl<K: IntegerKernel> super::Kernel for IfThereAre<K> {
        type Output = ();

        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) {
            if let Some(dots) = lanes.integer_dots() {
                dots.run(self.0);
            }
        }
    }

    super::plain_integers::PlainIntegers.run(kernel);
    for path in crate::KernelPath::available() {
        path.run(16, IfThereAre(kernel));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::f32_to_f16;

    fn floats<L: Lanes>(lanes: L, values: &[f32]) -> L::F32 {
        assert!(values.len() >= L::WIDTH);
        // SAFETY: `WIDTH` values.
        unsafe { lanes.load_f32(values.as_ptr().cast()) }
    }

    fn values<L: Lanes>(lanes: L, vector: L::F32) -> Vec<f32> {
        let mut values = vec![0.0; L::WIDTH];
        // SAFETY: `WIDTH` places.
        unsafe { lanes.store(vector, values.as_mut_ptr()) };
        values
    }

    /// Integers of up to `bits` bits and a sign. Both extremes are among the first.
    fn noise(count: usize, bits: u32) -> Vec<i32> {
        let largest = (1 << bits) - 1;
        let number = |i: u32| ((i.wrapping_mul(2_654_435_769) >> 8) as i32) % (largest + 1);
        (0..count as u32).map(|i| [largest, -largest].get(i as usize).copied().unwrap_or(number(i) - number(i + 77))).collect()
    }

    fn bytes() -> Vec<u8> {
        (0..128u32).map(|i| if i < 2 { 0x80 } else { (i.wrapping_mul(2_654_435_769) >> 24) as u8 }).collect()
    }

    /// The nibbles of bytes, all low nibbles first.
    fn nibbles(bytes: &[u8]) -> Vec<i32> {
        bytes.iter().map(|byte| byte & 15).chain(bytes.iter().map(|byte| byte >> 4)).map(i32::from).collect()
    }

    fn signed<D: IntegerDots>(bytes: &[u8]) -> Vec<i32> {
        bytes.iter().map(|byte| i32::from(byte.cast_signed()) + D::BYTE_ZERO).collect()
    }

    #[derive(Clone, Copy)]
    struct Dots;

    impl IntegerKernel for Dots {
        #[inline(always)]
        fn run<D: IntegerDots>(self, dots: D) {
            let (lanes, width) = (dots.lanes(), D::Lanes::WIDTH);
            assert_eq!(width, 4 * D::QUADS);
            assert_eq!(D::QUADS, D::ROWS * D::GROUPS);
            let bytes = bytes();
            let mut factors = vec![0; D::QUADS * 32];
            let rows = noise(D::QUADS * 32, 14);
            for (quad, row) in rows.chunks_exact(32).enumerate() {
                D::lay_out(quad, row.try_into().expect("32 were cut"), &mut factors);
            }
            assert_eq!(values(lanes, dots.to_floats(dots.zero())), vec![0.0; width]);
            let groups: [&[u8]; 2] = [&bytes[..32], &bytes[37..69]];
            let starts = groups.map(<[u8]>::as_ptr);
            // SAFETY: 32 bytes.
            let as_bytes = (unsafe { dots.load_bytes(starts) }, groups.map(signed::<D>));
            // SAFETY: 16 bytes.
            let as_nibbles = (unsafe { dots.load_nibbles(starts) }, groups.map(|group| nibbles(&group[..16])));
            // SAFETY: all quads' factors were laid out.
            let laid_out = unsafe { dots.load_factors(factors.as_ptr()) };
            let products = [dots.dot(as_bytes.0, laid_out), dots.dot(as_nibbles.0, laid_out)];
            let quads = values(lanes, dots.to_floats(dots.quad_sums([products[0], products[1], dots.zero(), products[0]])));
            for (quad, sums) in quads.chunks_exact(4).enumerate() {
                let [bytes, nibbles] = [&as_bytes.1, &as_nibbles.1].map(|expected| {
                    let row = rows[quad * 32..][..32].iter();
                    row.zip(&expected[quad % D::GROUPS]).map(|(factor, code)| factor * code).sum::<i32>() as f32
                });
                assert_eq!(sums, [bytes, nibbles, 0.0, bytes], "quad {quad}");
            }
        }
    }

    #[derive(Clone, Copy)]
    struct Columns;

    impl IntegerKernel for Columns {
        #[inline(always)]
        fn run<D: IntegerDots>(self, dots: D) {
            let (lanes, width) = (dots.lanes(), D::Lanes::WIDTH);
            let whole = noise(32, 14);
            // These must round to the nearest integer.
            let spread: Vec<f32> = whole.iter().enumerate().map(|(at, factor)| *factor as f32 + [0.4, -0.4][at % 2]).collect();
            let mut factors = vec![0; whole.len()];
            let mut sums = dots.zero();
            for (values, factors) in spread.chunks_exact(16).zip(factors.chunks_exact_mut(16)) {
                let values = [floats(lanes, values), floats(lanes, &values[16 - width..])];
                // SAFETY: there is room for every factor.
                sums = unsafe { dots.store_column_factors(values, sums, factors.as_mut_ptr()) };
            }
            let (total, zero) = (whole.iter().sum::<i32>(), dots.zero());
            assert_eq!(dots.totals([sums, zero, zero, sums]), [total, 0, 0, total]);
            let bytes = bytes();
            let rows: [&[u8]; 4] = std::array::from_fn(|row| &bytes[[5, 96, 0, 31][row]..][..32]);
            let starts = rows.map(<[u8]>::as_ptr);
            let two_bits = |bytes: &[u8]| (0..32).map(|at| i32::from(bytes[at / 4] >> (2 * (at % 4)) & 3)).collect::<Vec<_>>();
            // SAFETY: each row has 32 bytes, the most that is read.
            let as_bytes = (unsafe { dots.columns_of_bytes(starts) }, rows.map(signed::<D>));
            // SAFETY: as above.
            let as_nibbles = (unsafe { dots.columns_of_nibbles(starts) }, rows.map(|row| nibbles(&row[..16])));
            // SAFETY: as above.
            let as_two_bits = (unsafe { dots.columns_of_2bit_codes(starts) }, rows.map(two_bits));
            let all = [(as_bytes, false), (as_nibbles, false), (as_two_bits, true)];
            for ((halves, expected), is_two_bits) in all {
                for (half, codes) in halves.into_iter().enumerate() {
                    for first in [0, 4, 8, 12] {
                        let mut sums = [dots.column_sums(-1000), dots.column_sums(500)];
                        for _ in 0..2 {
                            // SAFETY: two lists of 16 were stored.
                            sums = unsafe { dots.add_columns(sums, codes, factors.as_ptr(), 16, first) };
                        }
                        for (list, sums) in sums.into_iter().enumerate() {
                            let sums = if is_two_bits { dots.in_order_of_2bit_codes(sums) } else { dots.in_order(sums) };
                            let totals = dots.column_totals(sums, 0.25, 3.0).map(|totals| values(lanes, totals)).concat();
                            let factors = &whole[16 * list + first..];
                            for (column, total) in totals[..16].iter().enumerate() {
                                let exact = (0..4).map(|row| 2 * factors[row] * expected[row][16 * half + column]).sum::<i32>();
                                let sum = exact + [-1000, 500][list];
                                assert_eq!(*total, 3.0 + 0.25 * sum as f32, "half {half}, column {column}, rows from {first} on");
                            }
                        }
                    }
                }
            }
        }
    }

    #[derive(Clone, Copy)]
    struct Rows;

    impl IntegerKernel for Rows {
        #[inline(always)]
        fn run<D: IntegerDots>(self, dots: D) {
            let halves = [[1.5, -2.0, 0.25, 1024.0], [0.0, 0.5, 32.0, -8.0]];
            let places: [Vec<u8>; 4] = std::array::from_fn(|place| {
                let [first, second] = halves.map(|group| f32_to_f16(group[place]).to_le_bytes());
                [&[7][..], &first, &[7, 7, 7], &second].concat()
            });
            // SAFETY: each place has a half-precision number after 1 byte and after 6 bytes.
            let scales = unsafe { dots.load_halves(places.each_ref().map(|place| place.as_ptr()), [1, 6]) };
            let lanes = dots.lanes();
            let numbers: Vec<f32> = (1..17).map(|number| number as f32).collect();
            let stride = 5;
            let mut stored = vec![-1.0; D::ROWS * stride];
            // SAFETY: there is room for one stride per row.
            unsafe { dots.store_rows(lanes.mul(scales, floats(lanes, &numbers)), stored.as_mut_ptr(), stride) };
            for (row, stored) in stored.chunks_exact(stride).enumerate() {
                let product = |group: usize, at: usize| numbers[4 * (row * D::GROUPS + group) + at] * halves[group][at];
                let expected: [f32; 4] = std::array::from_fn(|at| (0..D::GROUPS).map(|group| product(group, at)).sum());
                assert_eq!(stored[..4], expected, "row {row}");
                assert_eq!(stored[4], -1.0, "no more than was promised");
            }
        }
    }

    #[test]
    fn dots_are_exact() {
        on_all_integer_dots(Dots);
    }

    #[test]
    fn sums_of_columns_are_exact_and_in_order() {
        on_all_integer_dots(Columns);
    }

    #[test]
    fn rows_are_stored_in_their_places() {
        on_all_integer_dots(Rows);
    }
}
