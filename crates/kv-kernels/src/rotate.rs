//! Rotary position embedding of a single row, for strategies that move a token.

/// Rotates plane `(i, i + turns.len())` of a key or query by the angle whose sine and cosine are `turns[i]`.
///
/// The planes are those of the "rotate half" layout (GPT-NeoX, Hugging Face's Llama). Values past
/// `2 · turns.len()` are unchanged. Rotations compose: rotating by `a` and then by `b` equals rotating by `a + b`,
/// so a key can be moved from one position to another. Source: RoFormer, arXiv:2104.09864, eq. 34.
///
/// # Panics
/// If the row is shorter than `2 · turns.len()`.
pub fn rotate_row(row: &mut [f32], turns: &[(f32, f32)]) {
    let planes = turns.len();
    assert!(row.len() >= 2 * planes, "a row of {} values has no {planes} planes", row.len());
    let (first, second) = row.split_at_mut(planes);
    for ((x, y), (sin, cos)) in first.iter_mut().zip(second).zip(turns) {
        (*x, *y) = (*x * cos - *y * sin, *y * cos + *x * sin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotations_compose_and_keep_the_rest() {
        let turns = |angles: [f32; 2]| angles.map(f32::sin_cos);
        let row = [1.0f32, -2.0, 0.5, 3.0, 7.0];
        let (mut twice, mut once) = (row, row);
        rotate_row(&mut twice, &turns([0.3, 2.0]));
        rotate_row(&mut twice, &turns([0.4, -5.0]));
        rotate_row(&mut once, &turns([0.7, -3.0]));
        for (twice, once) in twice.iter().zip(once) {
            assert!((twice - once).abs() < 1e-6);
        }
        assert_eq!(once[4], 7.0);
    }
}
