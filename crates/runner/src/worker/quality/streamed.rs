//! Streamed: the cache holds the text from its first token on, in small chunks, and what it lost early is lost for all that follows.

use kv_quality::Divergences;
use kv_script::chunks;

use super::{Read, Reader, in_words};
use crate::worker::protocol::Streamed;

/// Parts of the text that are told apart.
const PARTS: usize = 8;

/// Reads every window from its first token on.
pub(super) fn read(reader: &Reader<'_>, Streamed { tokens, chunk }: Streamed) -> Result<Divergences, String> {
    let bounds: Vec<usize> = (0..=PARTS).map(|part| tokens * part / PARTS).collect();
    let are_parts = bounds.windows(2).all(|pair| pair[0] < pair[1]);
    let mut divergences = Divergences::new(tokens, if are_parts { &bounds } else { &[] }).map_err(in_words)?;
    let windows = reader.texts.len();
    let together = reader.task.together.clamp(1, windows);
    for first in (0..windows).step_by(together) {
        let group = first..(first + together).min(windows);
        let mut pair = reader.pair(tokens)?;
        let mut readers = group.clone().map(|_| reader.open(&mut pair)).collect::<Result<Vec<Read>, String>>()?;
        for positions in chunks(0..tokens, chunk) {
            let start = positions.start;
            // Parts are told apart by the token that was read last, which is the one before the predicted one.
            reader.judge(&mut pair, &mut readers, first, positions, &mut divergences, |position| position)?;
            reader.channel.progress(first * tokens + start * group.len(), windows * tokens);
        }
    }
    Ok(divergences)
}
