//! What steady decoding allocates.

use kv_core::{CacheError, KvCache};

use crate::{Text, fill, step};

/// Tokens in the cache when the steps begin, few and many. Between these and the 8 tokens that follow, no page of 16 begins,
/// no buffer that doubles grows and no group of 32 tokens is full, whether the 128 newest tokens are left out of the groups
/// or not. Both are so many that attention on one thread splits the keys into as many shares as it ever does.
const DEPTHS: [usize; 2] = [2_500, 10_004];

/// Decode steps at each depth.
const STEPS: usize = 8;

/// The bytes that 8 decode steps allocate at 2,500 tokens and at 10,004 tokens, on one thread. `allocated` answers the bytes
/// allocated so far.
///
/// A strategy may allocate more at a step in which its memory grows. No such step is among these, if it grows by doubling
/// or by pages of 16 tokens.
///
/// # Errors
/// Any error that the cache returns.
///
/// # Panics
/// If no thread can be started.
pub fn steady_decode_bytes(mut cache: impl KvCache, allocated: impl Fn() -> u64 + Sync) -> Result<[u64; 2], CacheError> {
    // The more threads there are, the more shares of the keys.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    pool.install(|| {
        let text = Text::new(&crate::toy_geometry(), 1, DEPTHS[1] + STEPS);
        let seq = cache.open()?;
        let mut filled = 0;
        let mut bytes = [0; 2];
        for (depth, bytes) in DEPTHS.into_iter().zip(&mut bytes) {
            // The step before them pays for what comes into being once.
            fill(&mut cache, seq, &text, filled..depth - 1, 100)?;
            step(&mut cache, seq, &text, depth - 1..depth)?;
            let before = allocated();
            for position in depth..depth + STEPS {
                step(&mut cache, seq, &text, position..position + 1)?;
            }
            *bytes = allocated() - before;
            filled = depth + STEPS;
        }
        Ok(bytes)
    })
}
