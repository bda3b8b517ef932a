//! The rows of a toy model, computed from the token, its position, the layer and the head.

use kv_core::{Geometry, Rope, Rows, View, reference};

/// A small model whose dimensions all differ: 3 layers, 6 query heads, 2 KV heads, `key_dim` 64, `value_dim` 32.
pub fn toy_geometry() -> Geometry {
    Geometry { layers: 3, heads: 6, kv_heads: 2, key_dim: 64, value_dim: 32, rope: Rope::new(10_000.0, 64), context: 1 << 20 }
}

/// A sequence of tokens. The same token gives the same rows in every sequence, except for the rotation to its position.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// The model's geometry.
    pub geometry: Geometry,
    /// The identity of the token at each position.
    pub tokens: Vec<u64>,
}

#[derive(Clone, Copy)]
enum Kind {
    Key = 1,
    Value = 2,
    Query = 3,
}

impl Text {
    /// `len` tokens. Texts with different seeds share no tokens.
    pub fn new(geometry: &Geometry, seed: u64, len: usize) -> Text {
        Text { geometry: geometry.clone(), tokens: (0..len as u64).map(|index| seed << 32 | index).collect() }
    }

    /// `[tokens, kv_heads, key_dim]`, rotated to their positions.
    pub fn keys(&self, layer: usize, positions: impl Iterator<Item = usize>) -> Rows {
        self.rows(Kind::Key, layer, positions, self.geometry.kv_heads, self.geometry.key_dim)
    }

    /// `[tokens, kv_heads, value_dim]`
    pub fn values(&self, layer: usize, positions: impl Iterator<Item = usize>) -> Rows {
        self.rows(Kind::Value, layer, positions, self.geometry.kv_heads, self.geometry.value_dim)
    }

    /// `[tokens, heads, key_dim]`, rotated to their positions.
    pub fn queries(&self, layer: usize, positions: impl Iterator<Item = usize>) -> Rows {
        self.rows(Kind::Query, layer, positions, self.geometry.heads, self.geometry.key_dim)
    }

    /// The unrounded rows of one KV head at these positions.
    pub fn view(&self, layer: usize, kv_head: usize, positions: &[usize]) -> View {
        let keys = self.keys(layer, positions.iter().copied());
        let values = self.values(layer, positions.iter().copied());
        let mut view = View { positions: positions.to_vec(), ..View::default() };
        for token in 0..positions.len() {
            view.keys.extend(keys.row(token, kv_head));
            view.values.extend(values.row(token, kv_head));
        }
        view
    }

    /// The exact attention of the query at `position` over these positions: `[1, heads, value_dim]`.
    pub fn oracle(&self, layer: usize, position: usize, positions: &[usize]) -> Rows {
        let views: Vec<View> = (0..self.geometry.kv_heads).map(|kv_head| self.view(layer, kv_head, positions)).collect();
        let query = self.queries(layer, std::iter::once(position));
        reference::attend_views(&self.geometry, position, &query, &views, reference::causal)
    }

    fn rows(&self, kind: Kind, layer: usize, positions: impl Iterator<Item = usize>, heads: usize, dim: usize) -> Rows {
        let mut values = vec![];
        let mut tokens = 0;
        for position in positions {
            tokens += 1;
            let turns = if matches!(kind, Kind::Value) { vec![] } else { self.geometry.rope.turns(position as i64) };
            for head in 0..heads {
                let place = ((layer as u64) << 8 | head as u64) << 8 | kind as u64;
                let first = values.len();
                values.extend((0..dim as u64).map(|index| noise(self.tokens[position], place << 16 | index)));
                turn(&mut values[first..], &turns);
            }
        }
        Rows::new([tokens, heads, dim], values)
    }
}

/// Rotates the planes `(i, i + turns.len())` of a row.
fn turn(row: &mut [f32], turns: &[(f32, f32)]) {
    let planes = turns.len();
    for (plane, (sin, cos)) in turns.iter().enumerate() {
        let (x, y) = (row[plane], row[plane + planes]);
        row[plane] = x * cos - y * sin;
        row[plane + planes] = y * cos + x * sin;
    }
}

/// A value between −1 and 1, from the finalizer of SplitMix64 (Steele, Lea and Flood, doi:10.1145/2660193.2660195).
fn noise(token: u64, place: u64) -> f32 {
    let mut bits = token.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ place.wrapping_mul(0xD1B5_4A32_D192_ED03);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^= bits >> 31;
    (bits >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}
