//! An error for the user: what is wrong, where, and what would be right.

use std::error::Error;
use std::sync::Arc;

use kv_core::{Entry, Registry};
use kv_kernels::Format;
use miette::{Diagnostic, NamedSource, SourceSpan};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::config::ConfigFile;
use crate::screen::{printable, printable_in_place};

/// A command that cannot be run.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{message}")]
pub struct Problem {
    message: String,
    #[help]
    help: Option<String>,
    #[source_code]
    file: Option<Arc<NamedSource<String>>>,
    #[label("here")]
    span: Option<SourceSpan>,
    #[source]
    cause: Option<Box<Cause>>,
}

/// A problem on its way from a worker to the runner: without a place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProblemRecord {
    message: String,
    help: Option<String>,
    cause: Option<Box<Cause>>,
}

/// An error that led to a problem, in words that a terminal can show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
struct Cause {
    message: String,
    source: Option<Box<Cause>>,
}

impl Cause {
    fn of(error: &dyn Error) -> Box<Cause> {
        Box::new(Cause { message: printable(&error.to_string()), source: error.source().map(Cause::of) })
    }
}

impl Problem {
    /// A problem without a place in a file.
    pub fn new(message: impl Into<String>) -> Problem {
        Problem { message: printable(&message.into()), help: None, file: None, span: None, cause: None }
    }

    /// Adds a help text that says what would be right.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(printable(&help.into()));
        self
    }

    /// Adds to the help text, or begins it.
    #[must_use]
    pub(crate) fn more_help(self, more: &str) -> Problem {
        match &self.help {
            Some(help) => {
                let help = format!("{help} {more}");
                self.help(help)
            }
            None => self.help(more),
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Error) -> Problem {
        self.cause = Some(Cause::of(&cause));
        self
    }

    /// Adds the file, and the place in it if known.
    #[must_use]
    pub fn at(mut self, file: &str, text: &str, span: Option<std::ops::Range<usize>>) -> Problem {
        let file = printable(file);
        self.message = format!("{file}: {}", self.message);
        // Without a place, the whole file would be printed.
        if let Some(span) = span {
            self.file = Some(Arc::new(NamedSource::new(file, printable_in_place(text)).with_language("TOML")));
            self.span = Some(span.into());
        }
        self
    }
}

impl Problem {
    /// What a worker sends.
    pub(crate) fn record(self) -> ProblemRecord {
        ProblemRecord { message: self.message, help: self.help, cause: self.cause }
    }

    /// What a worker sent.
    pub(crate) fn of_record(record: ProblemRecord) -> Problem {
        let ProblemRecord { message, help, cause } = record;
        Problem { message, help, file: None, span: None, cause }
    }

    /// The message and its causes on one line.
    pub(crate) fn line(&self) -> String {
        let mut line = self.message.clone();
        let mut cause = self.cause.as_deref();
        while let Some(Cause { message, source }) = cause {
            line.push_str(&format!(": {message}"));
            cause = source.as_deref();
        }
        line
    }

    /// The same problem, located at a value of a config.
    #[must_use]
    pub(crate) fn within<T>(self, file: &ConfigFile, value: &Spanned<T>) -> Problem {
        let placed = file.problem(value, self.message.clone());
        Problem { help: self.help, cause: self.cause, ..placed }
    }
}

/// The strategy called `id`.
///
/// # Errors
/// A [`Problem`] that says what was probably meant.
pub(crate) fn known_strategy<'a>(registry: &'a Registry, id: &str) -> Result<&'a Entry, Problem> {
    registry.get(id).map_err(|error| {
        let help = match id.parse::<Format>() {
            Ok(format) => as_format(registry, format),
            Err(_) => did_you_mean(id, registry.iter().map(Entry::id)),
        };
        Problem::new(error.to_string()).help(help.unwrap_or_else(|| "`runner list` shows what each strategy is".into()))
    })
}

/// How to say that a strategy stores its tokens in a format.
fn as_format(registry: &Registry, format: Format) -> Option<String> {
    let id = if format.is_quantised() { "quantized" } else { "contiguous" };
    registry.get(id).ok()?;
    Some(format!(
        "`{format}` is a format in which a strategy stores keys and values, for example `use = \"{id}\"` with \
         `config = {{ format = \"{format}\" }}`, or on the command line `{id}` with `--set format={format}`"
    ))
}

/// A suggestion of the entry of `known` that is closest to `wrong`, if it is close enough.
pub(crate) fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let close = known.into_iter().map(|known| (strsim::damerau_levenshtein(wrong, known), known)).min()?;
    (close.0 <= 1 + wrong.len() / 4).then(|| format!("did you mean `{}`?", close.1))
}
