//! An error for the user: what is wrong, where, and what would be right.

use std::sync::Arc;

use miette::{Diagnostic, NamedSource, SourceSpan};
use toml::Spanned;

use crate::config::ConfigFile;

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
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Problem {
    /// A problem without a place in a file.
    pub fn new(message: impl Into<String>) -> Problem {
        Problem { message: message.into(), help: None, file: None, span: None, cause: None }
    }

    /// Adds a help text that says what would be right.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Problem {
        self.cause = Some(Box::new(cause));
        self
    }

    /// Adds the file, and the place in it if known.
    #[must_use]
    pub fn at(mut self, file: &str, text: &str, span: Option<std::ops::Range<usize>>) -> Problem {
        self.message = format!("{file}: {}", self.message);
        // Without a place, the whole file would be printed.
        if let Some(span) = span {
            self.file = Some(Arc::new(NamedSource::new(file, text.to_owned()).with_language("TOML")));
            self.span = Some(span.into());
        }
        self
    }
}

impl Problem {
    /// The same problem, located at a value of a config.
    #[must_use]
    pub(crate) fn within<T>(self, file: &ConfigFile, value: &Spanned<T>) -> Problem {
        let placed = file.problem(value, self.message.clone());
        Problem { help: self.help, cause: self.cause, ..placed }
    }
}

/// A suggestion of the entry of `known` that is closest to `wrong`, if it is close enough.
pub(crate) fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let close = known.into_iter().map(|known| (strsim::damerau_levenshtein(wrong, known), known)).min()?;
    (close.0 <= 1 + wrong.len() / 4).then(|| format!("did you mean `{}`?", close.1))
}
