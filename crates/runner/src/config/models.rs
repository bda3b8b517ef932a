//! The models of a config: one in a table `[model]`, or several in a list `[[model]]`.

use std::fmt;
use std::path::Path;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::{ConfigFile, ModelChoice};
use crate::Problem;

/// Which one of a list of models a config is read for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OneOf {
    /// Its name, which no other of the list has and which a folder can have.
    pub(crate) name: String,
    /// Its place in the list, from 1.
    pub(crate) number: usize,
    /// How many the list has.
    pub(crate) count: usize,
}

impl fmt::Display for OneOf {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (model {} of {})", self.name, self.number, self.count)
    }
}

impl ModelChoice {
    /// The name that it is given, or else that of what it chooses: of a file without folder and ending. `None` if it chooses nothing.
    pub(crate) fn short_name(&self) -> Option<String> {
        let last = |path: &String| Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
        let given = self.name.as_ref().or(self.preset.as_ref()).or(self.fetched.as_ref());
        let file = || self.gguf.as_ref().or(self.hugging_face.as_ref()).and_then(last);
        given.cloned().or_else(|| file().map(|name| name.strip_suffix(".gguf").unwrap_or(&name).to_owned()))
    }
}

/// The tables under the key `model`.
enum Tables {
    One(ModelChoice),
    Several(Vec<Spanned<ModelChoice>>),
}

/// Reads the models of a config, each with its place in the file.
pub(super) fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Spanned<ModelChoice>>, D::Error> {
    let tables = Spanned::<Tables>::deserialize(deserializer)?;
    let span = tables.span();
    Ok(match tables.into_inner() {
        Tables::One(choice) => vec![Spanned::new(span, choice)],
        Tables::Several(choices) => choices,
    })
}

impl<'de> Deserialize<'de> for Tables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tables, D::Error> {
        deserializer.deserialize_any(TablesVisitor)
    }
}

struct TablesVisitor;

impl<'de> Visitor<'de> for TablesVisitor {
    type Value = Tables;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a table [model] or a list [[model]]")
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Tables, A::Error> {
        ModelChoice::deserialize(MapAccessDeserializer::new(table)).map(Tables::One)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Tables, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(Tables::Several)
    }
}

/// A file for each model that a config names: the same, with this model alone.
///
/// # Errors
/// A [`Problem`] that points at a model that has no name of its own, or one that no folder can have.
pub(super) fn for_each_model(file: &ConfigFile) -> Result<Vec<ConfigFile>, Problem> {
    let choices = &file.config.models;
    let Some(toml::Value::Array(tables)) = file.table.get("model") else {
        for choice in choices.iter().filter(|choice| choice.get_ref().name.is_some()) {
            name_of(file, choice)?;
        }
        return Ok(vec![file.clone()]);
    };
    if choices.is_empty() {
        let help = "name one or more, such as\n[[model]]\npreset = \"tiny\"";
        return Err(file.problem_at(None, "`model` is an empty list: nothing to measure").help(help));
    }
    let names = choices.iter().map(|choice| name_of(file, choice)).collect::<Result<Vec<_>, _>>()?;
    let alone = |(index, (choice, table)): (usize, (&Spanned<ModelChoice>, &toml::Value))| {
        let name = &names[index];
        // Some systems do not tell the case of letters in a folder's name.
        if names[..index].iter().any(|other| other.eq_ignore_ascii_case(name)) {
            return Err(file.problem(choice, format!("two models are called `{name}`")).help(
                "a model's report lies in a folder with its name: give one of them a `name` of its own, in small and capital letters too",
            ));
        }
        let mut alone = file.clone();
        alone.config.models = vec![choice.clone()];
        alone.table.insert("model".into(), table.clone());
        alone.one_of = Some(OneOf { name: name.clone(), number: index + 1, count: names.len() });
        Ok(alone)
    };
    choices.iter().zip(tables).enumerate().map(alone).collect()
}

/// The name of a model, which is also a folder's.
fn name_of(file: &ConfigFile, choice: &Spanned<ModelChoice>) -> Result<String, Problem> {
    let Some(name) = choice.get_ref().short_name() else {
        return Err(file.problem(choice, "[[model]] needs exactly one of `preset`, `fetched`, `gguf` and `hugging_face`"));
    };
    if is_folder(&name) {
        return Ok(name);
    }
    let help = "write a `name` of letters, digits, `.`, `-` and `_`, which begins with a letter or a digit and is not that of a file of the report";
    Err(file.problem(choice, format!("the model `{name}` cannot give its name to the folder of its report")).help(help))
}

/// Whether a name can be that of a folder beside the files of an overview, on any system.
fn is_folder(name: &str) -> bool {
    const MOST: usize = 100;
    const ENDINGS_OF_FILES: [&str; 7] = ["html", "csv", "png", "json", "new", "unfinished", "replaced"];
    let is_plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_');
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.len() <= MOST
        && name.chars().all(is_plain)
        && !name.ends_with('.')
        && !name.eq_ignore_ascii_case("lock")
        && !ENDINGS_OF_FILES.iter().any(|file| ending.eq_ignore_ascii_case(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(models: &str) -> Result<Vec<ConfigFile>, String> {
        let text = format!("{models}\n[sweep]\nlengths = [16]\n[[strategy]]\nlabel = 'a'\nuse = 'naive'\n");
        super::super::file::of_each_model(Path::new("bench.toml"), "bench.toml".into(), text).map_err(|problem| problem.to_string())
    }

    #[test]
    fn a_list_is_a_file_for_each_of_its_models() {
        let files = files("[[model]]\npreset = 'tiny'\n[[model]]\npreset = 'tiny'\nname = 'shallow'\nlayers = 1").unwrap();
        let names: Vec<String> = files.iter().map(|file| file.one_of().unwrap().to_string()).collect();
        assert_eq!(names, ["tiny (model 1 of 2)", "shallow (model 2 of 2)"]);
        assert_eq!((files[0].model().get_ref().layers, files[1].model().get_ref().layers), (None, Some(1)));
        assert_eq!(files[1].table["model"]["layers"].as_integer(), Some(1), "the record of a run has its own model alone");
        assert_eq!((files[0].title(), files[1].title()), ("bench: tiny".into(), "bench: shallow".into()));
        assert!(files[0].model().span().end <= files[1].model().span().start, "each has its place in the file");
        assert_eq!((files[0].named("x".into()), files[1].named("x".into())), ("x".to_owned(), "shallow: x".to_owned()));
    }

    #[test]
    fn a_table_is_one_model_and_a_list_of_one_is_a_list() {
        let file = &files("[model]\npreset = 'tiny'").unwrap()[0];
        assert_eq!((file.one_of(), file.title()), (None, "bench".to_owned()));
        let of_list = files("[[model]]\npreset = 'tiny'").unwrap();
        assert_eq!((of_list.len(), of_list[0].one_of().unwrap().count), (1, 1));
    }

    #[test]
    fn models_are_named_by_what_they_choose() {
        let name = |choice: ModelChoice| choice.short_name().unwrap_or_default();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(name(ModelChoice { gguf: text("models/a.b.gguf"), ..ModelChoice::default() }), "a.b");
        assert_eq!(name(ModelChoice { hugging_face: text("org/model"), ..ModelChoice::default() }), "model");
        assert_eq!(name(ModelChoice { fetched: text("smollm2-135m"), name: text("mine"), ..ModelChoice::default() }), "mine");
        assert_eq!(name(ModelChoice::default()), "");
    }

    #[test]
    fn names_that_collide_or_make_no_folder_are_refused() {
        let tiny = "[[model]]\npreset = 'tiny'\n";
        for (models, expected) in [
            (tiny.repeat(2), "two models are called `tiny`"),
            (format!("{tiny}[[model]]\npreset = 'small'\nname = 'Tiny'"), "two models are called `Tiny`"),
            ("[[model]]\nlayers = 2".into(), "[[model]] needs exactly one of"),
            ("model = []".into(), "`model` is an empty list"),
            ("[[model]]\ngguf = 'ollama:llama3.2:1b'".into(), "the model `ollama:llama3.2:1b` cannot give its name"),
            ("[model]\npreset = 'tiny'\nname = 'a/b'".into(), "the model `a/b` cannot give its name"),
        ] {
            let problem = files(&models).unwrap_err();
            assert!(problem.contains(expected), "{models}: {problem}");
        }
        for name in ["", ".", "..", "../x", "a b", "-a", "é", "index.html", "x.CSV", "Lock", "a.", "a.unfinished"] {
            assert!(!is_folder(name), "{name}");
        }
        assert!(["llama-3.2-1b", "q8_0", "1"].into_iter().all(is_folder));
    }

    #[test]
    fn what_is_wrong_in_a_list_is_told_as_in_a_table() {
        for models in ["[model]\nprest = 'tiny'", "[[model]]\nprest = 'tiny'"] {
            let problem = files(models).unwrap_err();
            assert!(problem.contains("unknown field `prest`"), "{problem}");
        }
        for models in ["[model]\npreset = 4", "[[model]]\npreset = 4"] {
            let problem = files(models).unwrap_err();
            assert!(problem.contains("is 4: it takes a quoted string"), "{models}: {problem}");
        }
    }
}
