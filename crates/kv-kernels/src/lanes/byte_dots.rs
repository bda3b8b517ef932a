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
    /// Four rows of 16 bytes, the four of a column side by side.
    ///
    /// # Safety
    /// 64 bytes can be read.
    unsafe fn load_four_rows_of_16_bytes(self, from: *const u8) -> Self::Bytes;
    /// Four rows of 32 2-bit codes, the first in the lowest bits, each a byte: columns 0 to 15 and 16 to 31, the four of a
    /// column side by side.
    ///
    /// # Safety
    /// 32 bytes can be read.
    unsafe fn load_four_rows_of_2bit_codes(self, from: *const u8) -> [Self::Bytes; 2];
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
    /// The sums of each quad of four vectors: those of quad `q` of each go to `to[q · stride ..][.. 4]`.
    ///
    /// # Safety
    /// Those places can be written.
    unsafe fn store_quad_sums(self, vectors: [<Self::Lanes as Lanes>::F32; 4], to: *mut f32, stride: usize);
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

    unsafe fn load_four_rows_of_16_bytes(self, _: *const u8) -> Infallible {
        self.0
    }

    unsafe fn load_four_rows_of_2bit_codes(self, _: *const u8) -> [Infallible; 2] {
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

    unsafe fn store_quad_sums(self, _: [L::F32; 4], _: *mut f32, _: usize) {
        match self.0 {}
    }
}
