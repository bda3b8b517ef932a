//! Vectors of `f32` values, and the loads that decode stored values into them, for each instruction set.
//!
//! # Why `std::arch` and not `pulp`
//! Burn's matrix products use `pulp`, which selects an instruction set at run time without `unsafe`. These kernels
//! used it at first, but it lacks operations that they need: its AVX2 level has no F16C (half precision took a
//! handful of integer instructions per vector), and its `Simd` trait has no widening loads of bytes and nibbles and no
//! prefetch. The operations that the kernels need are few. They are the methods of [`Lanes`], with one file per
//! instruction set. Since Rust 1.87, an intrinsic is safe in a function that enables its instructions, so `unsafe`
//! remains only where such a function is entered and where memory is read.
//!
//! Kernels are generic over [`Lanes`] and know no instruction set. The compiler vectorizes plain loops in them (the
//! softmax) with the instructions of the path. A closure is a separate function, which is compiled without those
//! instructions unless it is inlined. Kernels therefore use loops.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_integers;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_vnni;
mod integer_dots;
#[cfg(all(miri, target_arch = "x86_64"))]
mod interpreted;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(test)]
mod plain_integers;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(test)]
pub(crate) use integer_dots::on_all_integer_dots;
pub(crate) use integer_dots::{IntegerDots, IntegerKernel};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Array;

/// A computation that runs on any vectors.
pub(crate) trait Kernel {
    type Output;

    /// Must be `#[inline(always)]`, like every function that it calls with `lanes`, to be compiled with the path's instructions.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// The vectors of an instruction set. A value of such a type exists only if the machine has the instructions.
///
/// A load reads the bytes of [`WIDTH`](Lanes::WIDTH) stored values, from any address.
pub(crate) trait Lanes: Copy {
    /// A vector of [`WIDTH`](Lanes::WIDTH) values.
    type F32: Copy;
    /// Values in a vector.
    const WIDTH: usize;
    /// Vectors that fit in registers.
    const REGISTERS: usize;
    /// Integer dot products that may be available with the vectors.
    type IntegerDots: IntegerDots<Lanes = Self>;

    /// Runs a kernel, compiled with the instructions, as a separate function. If all kernels were inlined into each other,
    /// compiling the resulting function would take minutes.
    fn run<K: Kernel>(self, kernel: K) -> K::Output;

    /// The integer dot products, if the machine has them.
    fn integer_dots(self) -> Option<Self::IntegerDots>;

    fn splat(self, value: f32) -> Self::F32;
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a · b + c`, rounded once if the instructions allow it.
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The absolute values.
    fn abs(self, a: Self::F32) -> Self::F32;
    /// The larger of each pair, or `b` if one is NaN.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The nearest integer, for magnitudes of at most 2²².
    fn round(self, a: Self::F32) -> Self::F32;
    /// `a · 2ⁿ` for an integer `n` from −160 to 0. If the factor is not a normal number, the result is 0, or rounded if the
    /// instructions allow it.
    fn times_power_of_two(self, a: Self::F32, n: Self::F32) -> Self::F32;
    /// The sum of the values of each of four vectors.
    fn sums(self, vectors: [Self::F32; 4]) -> [f32; 4];
    /// The largest of the values. None of them may be NaN.
    fn largest(self, vector: Self::F32) -> f32;

    /// # Safety
    /// `WIDTH` values of four bytes can be read.
    unsafe fn load_f32(self, from: *const u8) -> Self::F32;
    /// # Safety
    /// `WIDTH` values can be written.
    unsafe fn store(self, vector: Self::F32, to: *mut f32);
    /// # Safety
    /// `WIDTH` values of two bytes can be read.
    unsafe fn load_f16(self, from: *const u8) -> Self::F32;
    /// # Safety
    /// `WIDTH` values of two bytes can be read.
    unsafe fn load_bf16(self, from: *const u8) -> Self::F32;
    /// # Safety
    /// `WIDTH` bytes can be read.
    unsafe fn load_fp8_e4m3(self, from: *const u8) -> Self::F32;
    /// Signed bytes.
    ///
    /// # Safety
    /// `WIDTH` bytes can be read.
    unsafe fn load_i8(self, from: *const u8) -> Self::F32;
    /// The low four bits of each byte, minus `ZERO`.
    ///
    /// # Safety
    /// `WIDTH` bytes can be read.
    unsafe fn load_low_nibbles<const ZERO: i32>(self, from: *const u8) -> Self::F32;
    /// The high four bits of each byte, minus `ZERO`.
    ///
    /// # Safety
    /// `WIDTH` bytes can be read.
    unsafe fn load_high_nibbles<const ZERO: i32>(self, from: *const u8) -> Self::F32;
    /// Codes `first .. first + WIDTH` of the sixteen 2-bit codes in a little-endian word. Code 0 is in the lowest bits.
    ///
    /// # Safety
    /// Four bytes can be read, and `first + WIDTH ≤ 16`.
    unsafe fn load_2bit_codes(self, from: *const u8, first: usize) -> Self::F32;
    /// Bits `first .. first + WIDTH` of a little-endian word, as 0 and 1. Bit 0 is the lowest.
    ///
    /// # Safety
    /// Four bytes can be read, and `first + WIDTH ≤ 32`.
    unsafe fn load_bits(self, from: *const u8, first: usize) -> Self::F32;
    /// The bits of each byte from bit `shift` on, as many as `MASK` selects.
    ///
    /// # Safety
    /// `WIDTH` bytes can be read, and `shift < 8`.
    unsafe fn load_fields<const MASK: i32>(self, from: *const u8, shift: usize) -> Self::F32;
    /// The table's values at the low four bits of each byte.
    ///
    /// # Safety
    /// `WIDTH` bytes can be read.
    unsafe fn look_up_low_nibbles(self, from: *const u8, table: &[i8; 16]) -> Self::F32;
    /// The table's values at the high four bits of each byte.
    ///
    /// # Safety
    /// `WIDTH` bytes can be read.
    unsafe fn look_up_high_nibbles(self, from: *const u8, table: &[i8; 16]) -> Self::F32;
    /// One half-precision value in all lanes.
    ///
    /// # Safety
    /// Two bytes can be read.
    unsafe fn splat_f16(self, from: *const u8) -> Self::F32;
    /// Prefetches the cache line at an address, which need not be readable.
    fn prefetch(self, at: *const u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KernelPath;
    use crate::codec::{f16_to_f32, fp8_e4m3_to_f32};

    const TABLE: [i8; 16] = [-128, -100, -7, 3, 5, 127, 0, 1, 2, 90, -90, 17, 33, 65, -1, 99];

    /// The results of all loads from the same bytes, as bits.
    struct LoadAll<'a>(&'a [u8]);

    impl Kernel for LoadAll<'_> {
        type Output = (usize, Vec<Vec<u32>>);

        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) -> (usize, Vec<Vec<u32>>) {
            let bytes = self.0;
            let mut results = vec![vec![]; 13];
            for at in 0..bytes.len() - 4 * L::WIDTH {
                let from = bytes[at..at + 4 * L::WIDTH].as_ptr();
                // SAFETY: four bytes per value can be read at `from`, the most that any of these loads reads.
                #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one reason for all")]
                let vectors = unsafe {
                    [
                        lanes.load_f16(from),
                        lanes.load_bf16(from),
                        lanes.load_fp8_e4m3(from),
                        lanes.load_i8(from),
                        lanes.load_low_nibbles::<0>(from),
                        lanes.load_high_nibbles::<8>(from),
                        lanes.load_2bit_codes(from, 16 - L::WIDTH),
                        lanes.splat_f16(from),
                        lanes.load_bits(from, 32 - L::WIDTH),
                        lanes.load_fields::<1>(from, 5),
                        lanes.load_fields::<3>(from, 6),
                        lanes.look_up_low_nibbles(from, &TABLE),
                        lanes.look_up_high_nibbles(from, &TABLE),
                    ]
                };
                for (result, vector) in results.iter_mut().zip(vectors) {
                    let mut values = vec![0.0f32; L::WIDTH];
                    // SAFETY: `values` has `WIDTH` places.
                    unsafe { lanes.store(vector, values.as_mut_ptr()) };
                    result.extend(values.iter().map(|value| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }));
                }
            }
            (L::WIDTH, results)
        }
    }

    #[test]
    fn every_load_equals_plain_arithmetic_on_every_path() {
        // Every pair of bytes: all f16 and bf16 values, all bytes.
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let bits = |value: f32| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() };
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        for path in KernelPath::available() {
            for unit in [1, 8, 16] {
                let (width, results) = path.run(unit, LoadAll(&bytes));
                for at in 0..bytes.len() - 4 * width {
                    let word = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
                    for lane in 0..width {
                        let byte = bytes[at + lane];
                        let expected = [
                            f16_to_f32(half(at + 2 * lane)),
                            f32::from_bits(u32::from(half(at + 2 * lane)) << 16),
                            fp8_e4m3_to_f32(byte),
                            f32::from(byte.cast_signed()),
                            f32::from(byte & 15),
                            f32::from(byte >> 4) - 8.0,
                            (word >> (2 * (16 - width + lane)) & 3) as f32,
                            f16_to_f32(half(at)),
                            (word >> (32 - width + lane) & 1) as f32,
                            f32::from(byte >> 5 & 1),
                            f32::from(byte >> 6),
                            f32::from(TABLE[usize::from(byte & 15)]),
                            f32::from(TABLE[usize::from(byte >> 4)]),
                        ];
                        for (load, expected) in expected.into_iter().enumerate() {
                            assert_eq!(
                                results[load][at * width + lane],
                                bits(expected),
                                "{path}, unit {unit}, load {load}, byte {at}, lane {lane}"
                            );
                        }
                    }
                }
            }
        }
    }

    struct Sums([[f32; 16]; 4]);

    impl Kernel for Sums {
        type Output = (usize, [f32; 4]);

        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) -> (usize, [f32; 4]) {
            let mut vectors = [lanes.splat(0.0); 4];
            for (vector, values) in vectors.iter_mut().zip(&self.0) {
                // SAFETY: sixteen values, the widest vector.
                *vector = unsafe { lanes.load_f32(values.as_ptr().cast()) };
            }
            (L::WIDTH, lanes.sums(vectors))
        }
    }

    #[test]
    fn sums_keep_their_order_on_every_path() {
        let values: [[f32; 16]; 4] = std::array::from_fn(|row| std::array::from_fn(|lane| (100 * row + lane * lane) as f32));
        for path in KernelPath::available() {
            for unit in [1, 8, 16] {
                let (width, sums) = path.run(unit, Sums(values));
                for (row, sum) in sums.into_iter().enumerate() {
                    assert_eq!(sum, values[row][..width].iter().sum::<f32>(), "{path}, row {row}");
                }
            }
        }
    }
}
