//! Reading a text that a user names.

use std::io::Read;

use crate::Problem;

/// Bytes beyond which a text is not read: it may come from a stream without an end.
const MOST_BYTES: u64 = 16 << 20;

/// All of a text. `what` names it in errors. A byte-order mark in front, which some editors put there, is left out.
///
/// # Errors
/// A [`Problem`] if it cannot be read, is not UTF-8 or has no end.
pub(crate) fn read_text(source: std::io::Result<impl Read>, what: &str) -> Result<String, Problem> {
    let mut bytes = vec![];
    source
        .and_then(|source| source.take(MOST_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| Problem::new(format!("{what} cannot be read")).caused_by(error))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Problem::new(format!("{what} is longer than {} MiB", MOST_BYTES >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        Problem::new(format!("{what} is not UTF-8: it is invalid at byte {place}"))
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
