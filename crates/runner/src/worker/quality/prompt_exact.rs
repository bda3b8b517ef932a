//! Prompt exact: the exactly computed prompt is put into the cache, and single steps read it, as in a server after its prefill.

use std::ops::Range;

use kv_quality::{Divergences, Side};
use kv_script::Attention;

use super::{Read, Reader, in_words};
use crate::worker::attention_of_prompt;

/// Parts of the steps that are told apart.
const PARTS: usize = 4;

/// Reads the tokens after the prompt of every window.
pub(super) fn read(reader: &Reader<'_>) -> Result<Divergences, String> {
    let (steps, windows) = (reader.task.steps, reader.texts.len());
    let bounds: Vec<usize> = (0..=PARTS.min(steps)).map(|part| steps * part / PARTS.min(steps)).collect();
    // A window of one step has no parts.
    let mut divergences = Divergences::new(steps.max(2), if steps < 2 { &[] } else { &bounds }).map_err(in_words)?;
    let together = reader.task.together.clamp(1, windows);
    for first in (0..windows).step_by(together) {
        let group = first..(first + together).min(windows);
        // A cache whose config makes room for one sequence may have none for several.
        let read = read_group(reader, group.clone(), &divergences);
        match read {
            Ok(read) => divergences = read,
            Err(reason) if group.len() == 1 => return Err(reason),
            Err(_) => {
                for window in group {
                    divergences = read_group(reader, window..window + 1, &divergences)?;
                }
            }
        }
    }
    Ok(divergences)
}

/// Reads some windows at once, and answers the divergences with theirs.
fn read_group(reader: &Reader<'_>, windows: Range<usize>, divergences: &Divergences) -> Result<Divergences, String> {
    let mut divergences = divergences.clone();
    let (seq_len, steps) = (reader.task.seq_len, reader.task.steps);
    let mut pair = reader.pair(seq_len + steps)?;
    let attention = attention_of_prompt(pair.on(Side::Candidate));
    let mut readers: Vec<Read> = vec![];
    for text in &reader.texts[windows.clone()] {
        let mut read = reader.open(&mut pair)?;
        let prompt = &text.window.tokens[..seq_len];
        reader.replay(&mut pair, &mut read.reference, prompt, &text.recording, Attention::Skipped)?;
        reader.replay(&mut pair, &mut read.candidate, prompt, &text.recording, attention)?;
        readers.push(read);
    }
    for step in 0..steps {
        let position = seq_len + step;
        reader.judge(&mut pair, &mut readers, windows.start, position..position + 1, &mut divergences, |position| position - seq_len)?;
        reader.channel.progress(windows.start * steps + step * windows.len(), reader.texts.len() * steps);
    }
    Ok(divergences)
}
