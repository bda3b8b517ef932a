//! Values for tests.

/// `count` values in −1 … 1 that do not repeat soon. They depend on the seed.
pub(crate) fn noise(count: usize, seed: u32) -> Vec<f32> {
    (0..count as u32).map(|i| (i.wrapping_add(seed).wrapping_mul(2_654_435_769) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}
