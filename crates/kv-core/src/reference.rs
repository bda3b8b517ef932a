//! Attention in plain double precision: the oracle for every strategy.

use crate::{Geometry, Rows, View};

/// Softmax attention over decoded rows. The query at position `q` sees the rows at positions `k` for which
/// `sees(q, k)` is true. Query head `h` reads KV head `h / (heads / kv_heads)`.
///
/// `out = Σ softmax(q·kᵢ / √key_dim)ᵢ · vᵢ` (Vaswani et al., arXiv:1706.03762, eq. 1).
///
/// # Shapes
/// - queries: `[tokens, heads, key_dim]`, the first at position `first_query`
/// - views: one per KV head
/// - returns: `[tokens, heads, value_dim]`; NaN where a query sees nothing
pub fn attend_views(geometry: &Geometry, first_query: usize, queries: &Rows, views: &[View], sees: impl Fn(usize, usize) -> bool) -> Rows {
    let Geometry { heads, kv_heads, key_dim, value_dim, .. } = *geometry;
    let [tokens, ..] = queries.dims();
    let mut out = Vec::with_capacity(tokens * heads * value_dim);
    for token in 0..tokens {
        for head in 0..heads {
            let view = &views[head / (heads / kv_heads)];
            let rows: Vec<usize> = (0..view.positions.len()).filter(|row| sees(first_query + token, view.positions[*row])).collect();
            out.extend(attend_row(queries.row(token, head), view, &rows, key_dim, value_dim));
        }
    }
    Rows::new([tokens, heads, value_dim], out)
}

/// A query sees its own position and all earlier ones.
pub fn causal(query: usize, key: usize) -> bool {
    key <= query
}

fn attend_row(query: &[f32], view: &View, rows: &[usize], key_dim: usize, value_dim: usize) -> Vec<f32> {
    let scale = 1.0 / (key_dim as f64).sqrt();
    let score = |row: &usize| {
        let key = &view.keys[row * key_dim..][..key_dim];
        query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>() * scale
    };
    let scores: Vec<f64> = rows.iter().map(score).collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut out = vec![0.0; value_dim];
    for (row, weight) in rows.iter().zip(&weights) {
        for (out, value) in out.iter_mut().zip(&view.values[row * value_dim..][..value_dim]) {
            *out += weight / total * f64::from(*value);
        }
    }
    out.into_iter().map(|value| if rows.is_empty() { f32::NAN } else { value as f32 }).collect()
}
