//! A bounded run of tokens that drops its oldest ones.

use std::ops::Range;

use crate::{Formats, KvBlock, RowShape};

/// The newest tokens of a sequence, at most `limit`, in a ring of slots.
///
/// Memory grows by doubling up to the limit. After that, tokens are never moved: dropping the oldest token and
/// pushing a new one writes one slot.
#[derive(Debug, Clone)]
pub struct KvRing {
    block: KvBlock,
    limit: usize,
    /// Slot of the oldest token.
    oldest: usize,
    tokens: usize,
}

impl KvRing {
    /// An empty ring for at most `limit` tokens.
    pub fn new(shape: RowShape, formats: Formats, limit: usize) -> KvRing {
        KvRing { block: KvBlock::new(shape, formats, 0), limit, oldest: 0, tokens: 0 }
    }

    /// Token slots of a ring for at most `limit` tokens that held `tokens` tokens, or made room for them, whatever the steps
    /// in which they came.
    pub fn grown_slots(limit: usize, tokens: usize) -> usize {
        KvBlock::grown_slots(tokens.min(limit)).min(limit)
    }

    /// Tokens held.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The block that holds the tokens.
    pub fn block(&self) -> &KvBlock {
        &self.block
    }

    /// The slots of the tokens, oldest first. The second range is empty unless the ring wraps around.
    pub fn slots(&self) -> [Range<usize>; 2] {
        let end = self.oldest + self.tokens;
        let capacity = self.block.slots();
        [self.oldest..end.min(capacity), 0..end.saturating_sub(capacity)]
    }

    /// Drops the `count` oldest tokens.
    ///
    /// # Panics
    /// If the ring holds fewer tokens.
    pub fn drop_oldest(&mut self, count: usize) {
        assert!(count <= self.tokens, "dropping {count} of {} tokens", self.tokens);
        self.tokens -= count;
        self.oldest = if self.tokens == 0 { 0 } else { (self.oldest + count) % self.block.slots() };
    }

    /// Drops all but the `count` oldest tokens.
    ///
    /// # Panics
    /// If the ring holds fewer tokens.
    pub fn keep_oldest(&mut self, count: usize) {
        assert!(count <= self.tokens, "keeping {count} of {} tokens", self.tokens);
        self.tokens = count;
    }

    /// Appends tokens.
    ///
    /// # Shapes
    /// - keys: `[tokens, heads, key_dim]`
    /// - values: `[tokens, heads, value_dim]`
    ///
    /// # Panics
    /// If the limit would be exceeded.
    pub fn push(&mut self, tokens: usize, keys: &[f32], values: &[f32]) {
        assert!(self.tokens + tokens <= self.limit, "{} + {tokens} tokens in a ring of {}", self.tokens, self.limit);
        self.make_room(self.tokens + tokens);
        let capacity = self.block.slots();
        let first = (self.oldest + self.tokens) % capacity.max(1);
        let before_wrap = tokens.min(capacity - first);
        let RowShape { heads, key_dim, value_dim } = self.block.shape();
        let (keys, wrapped_keys) = keys.split_at(before_wrap * heads * key_dim);
        let (values, wrapped_values) = values.split_at(before_wrap * heads * value_dim);
        self.block.write(first..first + before_wrap, 0..heads, keys, values);
        self.block.write(0..tokens - before_wrap, 0..heads, wrapped_keys, wrapped_values);
        self.tokens += tokens;
    }

    /// Makes room for `tokens` tokens, or for as many as the limit allows.
    pub fn make_room(&mut self, tokens: usize) {
        let capacity = KvRing::grown_slots(self.limit, tokens);
        if capacity <= self.block.slots() {
            return;
        }
        let mut grown = KvBlock::new(self.block.shape(), self.block.formats(), capacity);
        let [first, wrapped] = self.slots();
        grown.copy_from(0, &self.block, first.clone());
        grown.copy_from(first.len(), &self.block, wrapped);
        self.block = grown;
        self.oldest = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHAPE: RowShape = RowShape { heads: 2, key_dim: 1, value_dim: 1 };

    fn held(ring: &KvRing) -> Vec<f32> {
        let (mut keys, mut values) = (vec![], vec![]);
        for slots in ring.slots() {
            ring.block().decode(1, slots, &mut keys, &mut values);
        }
        assert_eq!(keys, values.iter().map(|value| -value).collect::<Vec<_>>());
        keys
    }

    proptest! {
        /// Pushes, drops and truncates like a queue, at sizes around every wrap and every growth.
        #[test]
        fn behaves_like_a_queue(limit in 1usize..40, steps in proptest::collection::vec((0usize..40, 0usize..40, 0usize..4), 1..40)) {
            let mut ring = KvRing::new(SHAPE, Formats::F32, limit);
            let mut model = std::collections::VecDeque::new();
            let (mut next, mut most_held) = (0.0f32, 0);
            for (push, drop, cut) in steps {
                let push = push.min(limit);
                let drop = drop.max((model.len() + push).saturating_sub(limit)).min(model.len());
                ring.drop_oldest(drop);
                model.drain(..drop);
                let fresh: Vec<f32> = (0..push).map(|i| next + i as f32).collect();
                next += push as f32;
                let keys: Vec<f32> = fresh.iter().flat_map(|key| [0.0, *key]).collect();
                let values: Vec<f32> = keys.iter().map(|key| -key).collect();
                ring.push(push, &keys, &values);
                model.extend(fresh);
                most_held = most_held.max(model.len());
                let keep = model.len() - cut.min(model.len());
                ring.keep_oldest(keep);
                model.truncate(keep);
                prop_assert_eq!(held(&ring), Vec::from(model.clone()));
                prop_assert_eq!(ring.block().slots(), KvRing::grown_slots(limit, most_held));
            }
        }
    }
}
