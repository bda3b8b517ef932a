//! Reading a config, with errors that point into it.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;

use crate::config::models::{OneOf, for_each_model};
use crate::config::overrides;
use crate::problem::did_you_mean;
use crate::{Config, ModelChoice, Problem};

/// A config of one model, with the text it came from. A text that lists several is read as a file for each.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    /// What it says.
    pub config: Config,
    /// The same as a table, for the record.
    pub table: toml::Table,
    path: PathBuf,
    /// The path as errors show it.
    shown: String,
    text: String,
    /// Set by what splits a list of models.
    pub(super) one_of: Option<OneOf>,
}

/// Reads a config of one model: see [`load_configs`].
///
/// # Errors
/// As [`load_configs`]; a list of several models is refused.
pub fn load_config(path: &Path, sets: &[String], also: &[String]) -> Result<ConfigFile, Problem> {
    only(load_configs(path, sets, also)?)
}

/// Reads a config, adds the strategies `also` with their default parameters, and applies the assignments `sets`. Answers a
/// file for each of its models, and at least one.
///
/// # Errors
/// A [`Problem`] that names the file, the key and what would be right.
pub fn load_configs(path: &Path, sets: &[String], also: &[String]) -> Result<Vec<ConfigFile>, Problem> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Problem::new(format!("cannot read the config `{shown}`"))
            .caused_by(error)
            .help("`bench-configs/` has examples; start with quickstart.toml")
    })?;
    changed(path, shown, text, sets, also)
}

/// A config from its text, with what arguments change in it.
///
/// # Errors
/// As [`load_configs`].
pub(crate) fn changed(
    path: &Path,
    mut shown: String,
    mut text: String,
    sets: &[String],
    also: &[String],
) -> Result<Vec<ConfigFile>, Problem> {
    if !sets.is_empty() || !also.is_empty() {
        let mut table: toml::Table = toml::from_str(&text).map_err(|error| parse_problem(&error, &shown, &text))?;
        overrides::add_strategies(&mut table, also);
        overrides::apply_to_config(&mut table, sets)?;
        text = toml::to_string(&table).map_err(|error| Problem::new("cannot write the changed config down").caused_by(error))?;
        shown.push_str(" (changed by arguments)");
    }
    of_each_model(path, shown, text)
}

/// A file for each model of a config, from its text. Relative paths in it start beside `path`, and errors name `shown`.
///
/// # Errors
/// As [`load_configs`].
pub(super) fn of_each_model(path: &Path, shown: String, text: String) -> Result<Vec<ConfigFile>, Problem> {
    let table: toml::Table = toml::from_str(&text).map_err(|error| parse_problem(&error, &shown, &text))?;
    let config = toml::from_str(&text).map_err(|error| type_problem(&error, &table, &shown, &text))?;
    for_each_model(&ConfigFile { config, table, path: path.to_owned(), shown, text, one_of: None })
}

/// The file of the only model.
fn only(mut files: Vec<ConfigFile>) -> Result<ConfigFile, Problem> {
    match (files.pop(), files.len()) {
        (Some(file), 0) => Ok(ConfigFile { one_of: None, ..file }),
        (Some(file), others) => Err(file
            .problem_at(None, format!("it lists {} models, and one is needed here", others + 1))
            .help("`--set 'model=[{ preset = \"tiny\" }]'` puts one in their place")),
        (None, _) => Err(Problem::new("the config names no model")),
    }
}

impl ConfigFile {
    /// A config of one model from its text. Relative paths in it start beside `path`, and errors name `shown`.
    ///
    /// # Errors
    /// As [`load_config`].
    pub(crate) fn of_text(path: &Path, shown: String, text: String) -> Result<ConfigFile, Problem> {
        only(of_each_model(path, shown, text)?)
    }

    /// The model.
    ///
    /// # Panics
    /// If `config.models` was emptied: it has one model when it was read.
    pub fn model(&self) -> &Spanned<ModelChoice> {
        self.config.models.first().expect("a file is of one model")
    }

    /// Which of several models it is read for. `None` if the config has a table `[model]`.
    pub(crate) fn one_of(&self) -> Option<&OneOf> {
        self.one_of.as_ref()
    }

    /// How results name the model that is known by `label`.
    pub(crate) fn named(&self, label: String) -> String {
        match &self.model().get_ref().name {
            Some(name) => format!("{name}: {label}"),
            None => label,
        }
    }

    /// The heading of the report: of several models, with the name of this one.
    pub(crate) fn title(&self) -> String {
        let title = self.config_title();
        self.one_of.as_ref().map_or_else(|| title.clone(), |one| format!("{title}: {}", one.name))
    }

    /// The heading of what all models of the config have in common.
    pub(crate) fn config_title(&self) -> String {
        self.config.title.clone().unwrap_or_else(|| self.name())
    }

    /// The same config with `copies` times the strategy that the others are compared with, and no other.
    ///
    /// # Errors
    /// A [`Problem`] if there is no strategy.
    pub(crate) fn of_copies(&self, label: &str, copies: usize) -> Result<ConfigFile, Problem> {
        let mut table = self.table.clone();
        let strategies = table.get("strategy").and_then(toml::Value::as_array).cloned().unwrap_or_default();
        let is_it = |strategy: &&toml::Value| strategy.get("label").and_then(toml::Value::as_str) == Some(label);
        let copy = strategies.iter().find(is_it).and_then(toml::Value::as_table);
        let copy = copy.ok_or_else(|| Problem::new(format!("`{}` has no strategy labeled `{label}`", self.shown)))?;
        let labeled = |number: usize| {
            let mut strategy = copy.clone();
            strategy.insert("label".into(), format!("{label}, copy {number}").into());
            strategy.insert("baseline".into(), (number == 1).into());
            toml::Value::Table(strategy)
        };
        table.insert("strategy".into(), toml::Value::Array((1..=copies).map(labeled).collect()));
        let text = toml::to_string(&table).map_err(|error| Problem::new("cannot write the changed config down").caused_by(error))?;
        ConfigFile::of_text(&self.path, format!("{} (copies of {label})", self.shown), text)
    }

    /// The same config with these keys of `[sweep]`.
    ///
    /// # Errors
    /// As [`load_config`].
    pub(crate) fn with_sweep(&self, keys: impl IntoIterator<Item = (&'static str, toml::Value)>) -> Result<ConfigFile, Problem> {
        let mut table = self.table.clone();
        if let Some(sweep) = table.get_mut("sweep").and_then(toml::Value::as_table_mut) {
            sweep.extend(keys.into_iter().map(|(key, value)| (key.to_owned(), value)));
        }
        let text = toml::to_string(&table).map_err(|error| Problem::new("cannot write the changed config down").caused_by(error))?;
        ConfigFile::of_text(&self.path, self.shown.clone(), text)
    }

    /// The file's name without its ending: the default title and output folder.
    pub fn name(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Where a relative path in the config starts.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// A problem at a value of this file.
    pub(crate) fn problem<T>(&self, value: &Spanned<T>, message: impl Into<String>) -> Problem {
        // A default has no place in the file; serde is told 0..0 for it.
        let span = Some(value.span()).filter(|span| !span.is_empty());
        self.problem_at(span, message)
    }

    /// A problem at a place of this file, or about the whole of it.
    pub(crate) fn problem_at(&self, span: Option<Range<usize>>, message: impl Into<String>) -> Problem {
        Problem::new(message).at(&self.shown, &self.text, span)
    }
}

fn parse_problem(error: &toml::de::Error, file: &str, text: &str) -> Problem {
    placed_problem(error.message(), error, file, text)
}

/// A table that is TOML and no config.
fn type_problem(error: &toml::de::Error, table: &toml::Table, file: &str, text: &str) -> Problem {
    let misfit = kv_core::misfit(&schemars::schema_for!(Config), table);
    placed_problem(misfit.as_deref().unwrap_or(error.message()), error, file, text)
}

fn placed_problem(message: &str, error: &toml::de::Error, file: &str, text: &str) -> Problem {
    let problem = Problem::new(message).at(file, text, error.span());
    match unknown_field_help(message) {
        Some(help) => problem.help(help),
        None => problem.help("`runner schema` prints the config's JSON Schema; `bench-configs/quickstart.toml` is an example"),
    }
}

/// A suggestion for serde's "unknown field `x`, expected one of `a`, `b`".
pub(crate) fn unknown_field_help(message: &str) -> Option<String> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let wrong = quoted.next()?;
    did_you_mean(wrong, quoted)
}
