//! What a cell's script does with each sequence.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::Workload;
use crate::worker::protocol::ScriptSpec;

/// Tokens of each prompt.
pub(crate) fn prompt_len(script: &ScriptSpec) -> usize {
    match script.workload {
        Workload::Generate => 1,
        _ => script.seq_len,
    }
}

/// Decode steps after the prompt.
pub(crate) fn decode_steps(script: &ScriptSpec) -> usize {
    match script.workload {
        Workload::Decode => script.decode_steps,
        Workload::Generate => script.seq_len.saturating_sub(1),
        // Those that are scripts of their own say what they do.
        _ => 0,
    }
}

/// The tokens of each prompt: random, from the seed. All sequences of a batch have the same, so that one recording serves
/// all of them, and a shorter prompt is the beginning of a longer one.
pub(crate) fn prompt(script: &ScriptSpec, vocabulary: usize) -> Vec<u32> {
    random_tokens(script.seed, vocabulary, prompt_len(script))
}

/// Random tokens.
pub(crate) fn random_tokens(seed: u64, vocabulary: usize, len: usize) -> Vec<u32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| random.random_range(0..vocabulary as u32)).collect()
}

/// Random tokens of one of several parts that have nothing in common: messages, questions, labels.
pub(crate) fn tokens_of_part(seed: u64, part: usize, vocabulary: usize, len: usize) -> Vec<u32> {
    random_tokens(seed.wrapping_add((part as u64 + 1).wrapping_mul(0x9e37_79b9)), vocabulary, len)
}
