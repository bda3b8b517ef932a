//! The prompt of `generate`: from the command line, a file or the standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::Problem;
use crate::cli::PromptArguments;

/// Bytes beyond which no text is a prompt: it may come from a stream without an end.
const MOST_BYTES: u64 = 16 << 20;

/// The text of the prompt. Of a file's text one line break at the end is left out: editors and `echo` put it there.
///
/// # Errors
/// A [`Problem`] if the file cannot be read, is not UTF-8, is empty or has no end.
pub(super) fn read(arguments: &PromptArguments) -> Result<String, Problem> {
    let path = match arguments {
        PromptArguments { prompt: Some(text), .. } => return Ok(text.clone()),
        PromptArguments { prompt_file: Some(path), .. } => path,
        PromptArguments { .. } => return Err(Problem::new("there is no prompt: give `--prompt TEXT` or `--prompt-file FILE`")),
    };
    let is_input = path == Path::new("-");
    let name = if is_input { "the standard input".to_owned() } else { format!("`{}`", path.display()) };
    let bytes = if is_input { beginning(io::stdin().lock()) } else { File::open(path).and_then(beginning) };
    let bytes = bytes.map_err(|error| Problem::new(format!("cannot read the prompt from {name}")).caused_by(error))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Problem::new(format!("the prompt in {name} is longer than {} MiB", MOST_BYTES >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        Problem::new(format!("the prompt in {name} is not UTF-8: it is invalid at byte {place}"))
    })?;
    // Some editors put a byte-order mark in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() {
        return Err(Problem::new(format!("the prompt in {name} is empty: a step needs at least one token")));
    }
    Ok(text.to_owned())
}

/// All bytes, or the first of too many.
fn beginning(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = vec![];
    source.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
