//! Keys of a group of tokens, quantized channel by channel: KIVI's keys.
//!
//! The layout is the scales of all channels, their minima, then one row of codes per channel in the order of `q4_1` or
//! of the 2-bit groups. Because the scales are contiguous, a query is multiplied by them once for a whole group:
//! `q · k[j] = Σ_c q[c] · (s[c] · code[c][j] + m[c]) = Σ_c (q[c] · s[c]) · code[c][j] + Σ_c q[c] · m[c]`.
//! Source: Liu et al., "KIVI", arXiv:2402.02750, section 3.2.

use super::affine::{HEAD, load_2bit_codes};
use super::scaled::load_nibbles;
use super::{Codec, Columns, GGML_GROUP, HALF};
use crate::Format;
use crate::lanes::{IntegerDots, Lanes};

/// Encodes a whole group of keys.
pub(crate) fn encode_channels(format: Format, keys: &[&[f32]], encoded: &mut [u8]) {
    let (tokens, dim) = (keys.len(), keys[0].len());
    let (scales, rest) = encoded.split_at_mut(HALF * dim);
    let (minima, codes) = rest.split_at_mut(HALF * dim);
    let mut channel = vec![0.0; tokens];
    let mut row = vec![0; format.row_bytes(tokens)];
    let heads = scales.chunks_exact_mut(HALF).zip(minima.chunks_exact_mut(HALF));
    for (index, ((scale, minimum), codes)) in heads.zip(codes.chunks_exact_mut(format.code_bytes(tokens))).enumerate() {
        channel.iter_mut().zip(keys).for_each(|(value, key)| *value = key[index]);
        format.encode_row(&channel, &mut row);
        scale.copy_from_slice(&row[..HALF]);
        minimum.copy_from_slice(&row[HALF..HEAD]);
        codes.copy_from_slice(&row[HEAD..]);
    }
}

/// Decodes a group of keys into its channels, `[dim, tokens]`, in plain Rust.
pub(crate) fn decode_channels(format: Format, dim: usize, encoded: &[u8], channels: &mut [f32]) {
    let tokens = channels.len() / dim;
    let Channels { scales, minima, codes } = Channels::of(dim, encoded);
    let row_bytes = format.code_bytes(tokens);
    let mut row = vec![0; format.row_bytes(tokens)];
    for (index, channel) in channels.chunks_exact_mut(tokens).enumerate() {
        row[..HALF].copy_from_slice(&scales[index * HALF..][..HALF]);
        row[HALF..HEAD].copy_from_slice(&minima[index * HALF..][..HALF]);
        row[HEAD..].copy_from_slice(&codes[index * row_bytes..][..row_bytes]);
        format.decode_rows(tokens, &row, channel);
    }
}

/// The parts of an encoded group of keys.
pub(crate) struct Channels<'a> {
    /// One half-precision number per channel.
    pub(crate) scales: &'a [u8],
    /// One half-precision number per channel.
    pub(crate) minima: &'a [u8],
    /// One row per channel.
    pub(crate) codes: &'a [u8],
}

impl<'a> Channels<'a> {
    pub(crate) fn of(dim: usize, encoded: &'a [u8]) -> Channels<'a> {
        let (scales, rest) = encoded.split_at(HALF * dim);
        let (minima, codes) = rest.split_at(HALF * dim);
        Channels { scales, minima, codes }
    }

    /// Bytes of a group of `tokens` keys of `dim` channels.
    pub(crate) fn group_bytes<C: Codec>(dim: usize, tokens: usize) -> usize {
        dim * (HEAD + C::row_bytes(tokens))
    }

    /// Panics unless there is a scale, a minimum and a row of `tokens` codes for each of `dim` channels.
    pub(crate) fn check<C: Codec>(&self, dim: usize, tokens: usize) {
        assert!(self.scales.len() == HALF * dim && self.minima.len() == HALF * dim, "scales and minima of {dim} channels");
        assert!(self.codes.len() == dim * C::row_bytes(tokens), "{dim} channels of {tokens} codes");
    }
}

/// Keys per group that a [`ChannelCodec`] reads.
const KEYS: usize = GGML_GROUP;

/// A codec of rows of 32 codes, one row per channel.
pub(crate) trait ChannelCodec: Codec + Columns {
    /// The middle of all codes, as in [`ColumnCodec`](super::ColumnCodec).
    const CENTRE: i32;

    /// The codes of four rows, for the first 16 keys and for the last 16.
    ///
    /// # Safety
    /// Four rows can be read.
    unsafe fn columns<D: IntegerDots>(dots: D, rows: *const u8) -> [D::Columns; 2];
}

/// Rows of 32 nibbles without scales.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nibbles;

impl Codec for Nibbles {
    fn row_bytes(dim: usize) -> usize {
        dim / 2
    }

    #[inline(always)]
    unsafe fn codes<L: Lanes>(lanes: L, row: *const u8, _: usize, at: usize) -> L::F32 {
        // SAFETY: guaranteed by the caller; a vector is within one half of the row.
        unsafe { load_nibbles::<L, 0>(lanes, row, at) }
    }
}

impl Columns for Nibbles {}

impl ChannelCodec for Nibbles {
    const CENTRE: i32 = 8;

    #[inline(always)]
    unsafe fn columns<D: IntegerDots>(dots: D, rows: *const u8) -> [D::Columns; 2] {
        let rows = std::array::from_fn(|row| rows.wrapping_add(row * Nibbles::row_bytes(KEYS)));
        // SAFETY: guaranteed by the caller.
        unsafe { dots.columns_of_nibbles(rows) }
    }
}

/// Rows of 2-bit codes without scales.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TwoBits;

impl Codec for TwoBits {
    fn row_bytes(dim: usize) -> usize {
        dim / 4
    }

    #[inline(always)]
    unsafe fn codes<L: Lanes>(lanes: L, row: *const u8, _: usize, at: usize) -> L::F32 {
        // SAFETY: guaranteed by the caller; a vector is within one word.
        unsafe { load_2bit_codes(lanes, row, at) }
    }
}

impl Columns for TwoBits {
    #[inline(always)]
    fn in_order<D: IntegerDots>(dots: D, sums: D::ColumnSums) -> D::ColumnSums {
        dots.in_order_of_2bit_codes(sums)
    }
}

impl ChannelCodec for TwoBits {
    const CENTRE: i32 = 2;

    #[inline(always)]
    unsafe fn columns<D: IntegerDots>(dots: D, rows: *const u8) -> [D::Columns; 2] {
        let rows = std::array::from_fn(|row| rows.wrapping_add(row * TwoBits::row_bytes(KEYS)));
        // SAFETY: guaranteed by the caller.
        unsafe { dots.columns_of_2bit_codes(rows) }
    }
}
