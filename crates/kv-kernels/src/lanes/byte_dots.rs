//! Dot products of bytes, summed in 32-bit integers: four times as many products an instruction as of floats.

use std::convert::Infallible;
use std::marker::PhantomData;

use super::Lanes;

/// A computation that needs integer dot products.
pub(crate) trait ByteKernel {
    /// Must be `#[inline(always)]`, and so must all that it calls with `dots`.
    fn run<D: ByteDots>(self, dots: D);
}

/// The integer dot products of an instruction set. A value of such a type exists only where the instructions do.
///
/// A vector of bytes is as long as one of [`Lanes`] and falls into *quads* of 16 bytes, whose sums are four integers.
pub(crate) trait ByteDots: Copy {
    /// Quads in a vector.
    const QUADS: usize;
    type Lanes: Lanes;
    /// A vector of bytes.
    type Bytes: Copy;
    /// A vector of 32-bit integers.
    type Sums: Copy;

    /// Runs a kernel compiled with the instructions, in a function of its own.
    fn run<K: ByteKernel>(self, kernel: K);
    fn lanes(self) -> Self::Lanes;

    /// The same 16 bytes in all quads.
    ///
    /// # Safety
    /// 16 bytes can be read.
    unsafe fn load_quad(self, from: *const u8) -> Self::Bytes;
    /// # Safety
    /// A vector of bytes can be read.
    unsafe fn load_bytes(self, from: *const i8) -> Self::Bytes;
    /// The same four bytes in all places.
    ///
    /// # Safety
    /// Four bytes can be read.
    unsafe fn load_four(self, from: *const i8) -> Self::Bytes;
    /// Four rows of 16 bytes, a row a quad.
    ///
    /// # Safety
    /// 16 bytes can be read of each.
    unsafe fn load_rows_of_16_bytes(self, rows: [*const u8; 4]) -> Self::Bytes;
    /// Four rows of 8 bytes, one after the other in the first half.
    ///
    /// # Safety
    /// 8 bytes can be read of each.
    unsafe fn load_rows_of_8_bytes(self, rows: [*const u8; 4]) -> Self::Bytes;
    /// Of four rows of 16 bytes, a row a quad, the four of a column side by side.
    fn columns_of_bytes(self, rows: Self::Bytes) -> Self::Bytes;
    /// Of four rows of 32 2-bit codes, 8 bytes each in the first half and the first code in the lowest bits, each code as a
    /// byte: columns 0 to 15 and 16 to 31, the four of a column side by side.
    fn columns_of_2bit_codes(self, rows: Self::Bytes) -> [Self::Bytes; 2];
    /// # Safety
    /// A vector of integers can be read.
    unsafe fn load_sums(self, from: *const i32) -> Self::Sums;
    /// The low four bits of each byte.
    fn low_nibbles(self, bytes: Self::Bytes) -> Self::Bytes;
    /// The high four bits of each byte.
    fn high_nibbles(self, bytes: Self::Bytes) -> Self::Bytes;
    /// Signed bytes plus 128, unsigned.
    fn plus_128(self, bytes: Self::Bytes) -> Self::Bytes;
    fn zero(self) -> Self::Sums;
    /// Adds to each integer the four products of the unsigned and signed bytes in its place.
    fn dot(self, sums: Self::Sums, unsigned: Self::Bytes, signed: Self::Bytes) -> Self::Sums;
    /// Each integer times the factor.
    fn times(self, sums: Self::Sums, factor: i32) -> Self::Sums;
    /// `256 · high + low`.
    fn join(self, high: Self::Sums, low: Self::Sums) -> <Self::Lanes as Lanes>::F32;
    /// Without the sign.
    fn magnitude(self, a: <Self::Lanes as Lanes>::F32) -> <Self::Lanes as Lanes>::F32;
    /// The largest of the values.
    fn largest(self, a: <Self::Lanes as Lanes>::F32) -> f32;
    /// Rounds each value, at most 127 · 256 in magnitude, to `256 · high + low`, and stores the two digits.
    ///
    /// # Safety
    /// A byte for each value can be written to both.
    unsafe fn store_digits(self, a: <Self::Lanes as Lanes>::F32, high: *mut i8, low: *mut i8);
    /// The sums of each quad of four vectors, times a scale for each sum: those of quad `q` of each go to
    /// `to[q · stride ..][.. 4]`.
    ///
    /// # Safety
    /// Those places can be written.
    unsafe fn store_quad_sums(
        self,
        vectors: [<Self::Lanes as Lanes>::F32; 4],
        scales: <Self::Lanes as Lanes>::F32,
        to: *mut f32,
        stride: usize,
    );
}

/// Vectors that come without: there is no value of this type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoByteDots<L>(Infallible, PhantomData<L>);

impl<L: Lanes> ByteDots for NoByteDots<L> {
    const QUADS: usize = 0;
    type Lanes = L;
    type Bytes = Infallible;
    type Sums = Infallible;

    fn run<K: ByteKernel>(self, _: K) {
        match self.0 {}
    }

    fn lanes(self) -> L {
        match self.0 {}
    }

    unsafe fn load_quad(self, _: *const u8) -> Infallible {
        self.0
    }

    unsafe fn load_bytes(self, _: *const i8) -> Infallible {
        self.0
    }

    unsafe fn load_four(self, _: *const i8) -> Infallible {
        self.0
    }

    unsafe fn load_rows_of_16_bytes(self, _: [*const u8; 4]) -> Infallible {
        self.0
    }

    unsafe fn load_rows_of_8_bytes(self, _: [*const u8; 4]) -> Infallible {
        self.0
    }

    fn columns_of_bytes(self, _: Infallible) -> Infallible {
        self.0
    }

    fn columns_of_2bit_codes(self, _: Infallible) -> [Infallible; 2] {
        match self.0 {}
    }

    unsafe fn load_sums(self, _: *const i32) -> Infallible {
        self.0
    }

    fn low_nibbles(self, _: Infallible) -> Infallible {
        self.0
    }

    fn high_nibbles(self, _: Infallible) -> Infallible {
        self.0
    }

    fn plus_128(self, _: Infallible) -> Infallible {
        self.0
    }

    fn zero(self) -> Infallible {
        self.0
    }

    fn dot(self, _: Infallible, _: Infallible, _: Infallible) -> Infallible {
        self.0
    }

    fn times(self, _: Infallible, _: i32) -> Infallible {
        self.0
    }

    fn join(self, _: Infallible, _: Infallible) -> L::F32 {
        match self.0 {}
    }

    fn magnitude(self, _: L::F32) -> L::F32 {
        match self.0 {}
    }

    fn largest(self, _: L::F32) -> f32 {
        match self.0 {}
    }

    unsafe fn store_digits(self, _: L::F32, _: *mut i8, _: *mut i8) {
        match self.0 {}
    }

    unsafe fn store_quad_sums(self, _: [L::F32; 4], _: L::F32, _: *mut f32, _: usize) {
        match self.0 {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KernelPath;
    use crate::lanes::Kernel;

    struct IfThereAre<K>(K);

    impl<K: ByteKernel> Kernel for IfThereAre<K> {
        type Output = ();

        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) {
            if let Some(dots) = lanes.byte_dots() {
                dots.run(self.0);
            }
        }
    }

    fn values<L: Lanes>(lanes: L, vector: L::F32) -> Vec<f32> {
        let mut values = vec![0.0; L::WIDTH];
        // SAFETY: `WIDTH` places.
        unsafe { lanes.store(vector, values.as_mut_ptr()) };
        values
    }

    fn floats<L: Lanes>(lanes: L, values: &[f32]) -> L::F32 {
        assert!(values.len() >= L::WIDTH);
        // SAFETY: `WIDTH` values.
        unsafe { lanes.load_f32(values.as_ptr().cast()) }
    }

    fn signed<D: ByteDots>(dots: D, bytes: &[i8]) -> D::Bytes {
        assert_eq!(bytes.len(), 4 * D::Lanes::WIDTH);
        // SAFETY: a vector of bytes.
        unsafe { dots.load_bytes(bytes.as_ptr()) }
    }

    /// The unsigned bytes of a vector, each picked out by a product with 1.
    fn unsigned<D: ByteDots>(dots: D, bytes: D::Bytes) -> Vec<u8> {
        let mut all = vec![0; 4 * D::Lanes::WIDTH];
        for byte in 0..4 {
            let ones: Vec<i8> = (0..all.len()).map(|at| i8::from(at % 4 == byte)).collect();
            let picked = dots.join(dots.zero(), dots.dot(dots.zero(), bytes, signed(dots, &ones)));
            for (place, value) in values(dots.lanes(), picked).into_iter().enumerate() {
                all[4 * place + byte] = value as u8;
            }
        }
        all
    }

    struct PlainArithmetic;

    impl ByteKernel for PlainArithmetic {
        #[inline(always)]
        fn run<D: ByteDots>(self, dots: D) {
            let (lanes, width) = (dots.lanes(), D::Lanes::WIDTH);
            let bytes: Vec<u8> = (0..64u32).map(|i| (i.wrapping_mul(2_654_435_769) >> 24) as u8).collect();
            // SAFETY: 64 bytes, of which each of these reads at most all.
            let quad = unsafe { dots.load_quad(bytes.as_ptr()) };
            let repeated = |map: fn(u8) -> u8| (0..4 * width).map(|at| map(bytes[at % 16])).collect::<Vec<u8>>();
            assert_eq!(unsigned(dots, quad), repeated(|byte| byte));
            assert_eq!(unsigned(dots, dots.low_nibbles(quad)), repeated(|byte| byte & 15));
            assert_eq!(unsigned(dots, dots.high_nibbles(quad)), repeated(|byte| byte >> 4));
            assert_eq!(unsigned(dots, dots.plus_128(quad)), repeated(|byte| byte.wrapping_add(128)));
            // SAFETY: as above.
            let four = unsafe { dots.load_four(bytes.as_ptr().cast()) };
            assert_eq!(unsigned(dots, four), bytes[..4].repeat(width));
            let rows: [&[u8]; 4] = std::array::from_fn(|row| &bytes[[5, 48, 0, 31][row]..][..16]);
            let starts = rows.map(<[u8]>::as_ptr);
            // SAFETY: as above.
            let sixteens = unsafe { dots.load_rows_of_16_bytes(starts) };
            assert_eq!(unsigned(dots, sixteens), rows.concat());
            assert_eq!(unsigned(dots, dots.columns_of_bytes(sixteens)), (0..64).map(|at| rows[at % 4][at / 4]).collect::<Vec<u8>>());
            // SAFETY: as above.
            let eights = unsafe { dots.load_rows_of_8_bytes(starts) };
            assert_eq!(unsigned(dots, eights)[..32], rows.map(|row| &row[..8]).concat());
            for (half, codes) in dots.columns_of_2bit_codes(eights).into_iter().enumerate() {
                let code = |row: usize, column: usize| rows[row][column / 4] >> (2 * (column % 4)) & 3;
                let expected: Vec<u8> = (0..64).map(|at| code(at % 4, 16 * half + at / 4)).collect();
                assert_eq!(unsigned(dots, codes), expected, "half {half}");
            }

            let digits: Vec<i8> = (0..4 * width).map(|at| if at < 8 { -128 } else { (37 * at + 11) as i8 }).collect();
            let start: Vec<i32> = (0..width as i32).map(|place| 1000 * place - 7000).collect();
            // SAFETY: a vector of integers.
            let sums = unsafe { dots.load_sums(start.as_ptr()) };
            let sums = dots.dot(sums, dots.plus_128(quad), signed(dots, &digits));
            let expected = |place: usize| {
                let products = (4 * place..4 * place + 4).map(|at| i32::from(bytes[at % 16].wrapping_add(128)) * i32::from(digits[at]));
                (start[place] + products.sum::<i32>()) as f32
            };
            assert_eq!(values(lanes, dots.join(dots.zero(), sums)), (0..width).map(expected).collect::<Vec<f32>>());
            let thrice = dots.join(dots.zero(), dots.times(sums, -3));
            assert_eq!(values(lanes, thrice), (0..width).map(|place| -3.0 * expected(place)).collect::<Vec<f32>>());
            assert_eq!(values(lanes, dots.join(sums, sums)), (0..width).map(|place| 257.0 * expected(place)).collect::<Vec<f32>>());

            let spread: Vec<f32> = (0..16).map(|i| (i as f32 - 8.0) * 4064.0 + if i % 2 == 0 { 0.4 } else { -0.4 }).collect();
            assert_eq!(dots.largest(dots.magnitude(floats(lanes, &spread))), 8.0 * 4064.0 - 0.4);
            let (mut high, mut low) = (vec![0i8; width], vec![0i8; width]);
            // SAFETY: a byte a value.
            unsafe { dots.store_digits(floats(lanes, &spread), high.as_mut_ptr(), low.as_mut_ptr()) };
            for ((high, low), value) in high.iter().zip(&low).zip(&spread) {
                assert_eq!(256.0 * f32::from(*high) + f32::from(*low), value.round(), "{value}");
            }

            let vectors: [Vec<f32>; 4] = std::array::from_fn(|v| (0..16).map(|lane| (100 * v + lane * lane) as f32).collect());
            let scales: Vec<f32> = (1..17).map(|scale| scale as f32).collect();
            let stride = 5;
            let mut sums = vec![-1.0; D::QUADS * stride];
            let loaded = vectors.each_ref().map(|vector| floats(lanes, vector));
            // SAFETY: a stride for each quad.
            unsafe { dots.store_quad_sums(loaded, floats(lanes, &scales), sums.as_mut_ptr(), stride) };
            for (quad, sums) in sums.chunks_exact(stride).enumerate() {
                for (v, vector) in vectors.iter().enumerate() {
                    let expected = scales[4 * quad + v] * vector[4 * quad..4 * quad + 4].iter().sum::<f32>();
                    assert_eq!(sums[v], expected, "quad {quad}, vector {v}");
                }
                assert_eq!(sums[4], -1.0, "no more than was promised");
            }
        }
    }

    #[test]
    fn every_operation_equals_plain_arithmetic() {
        for path in KernelPath::available() {
            path.run(16, IfThereAre(PlainArithmetic));
        }
    }
}
