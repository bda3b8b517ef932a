//! The prompt of `generate`: from the command line, a file or the standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::Problem;
use crate::cli::PromptArguments;
use crate::text_file::read_text;

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
    let what = format!("the prompt in {name}");
    let source: io::Result<Box<dyn Read>> =
        if is_input { Ok(Box::new(io::stdin().lock())) } else { File::open(path).map(|file| Box::new(file) as Box<dyn Read>) };
    let text = read_text(source, &what)?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() {
        return Err(Problem::new(format!("{what} is empty: a step needs at least one token")));
    }
    Ok(text.to_owned())
}
