//! What arguments change in a config: `--set key=value`, a line of TOML that replaces what it says, and
//! `--also ID`, one more strategy.

use serde::Deserialize;
use toml::{Table, Value};

use crate::Problem;
use crate::config::ModelChoice;
use crate::problem::did_you_mean;

/// Lists of tables, and what names a table of each.
const LISTS: [List; 2] = [
    List {
        key: "strategy",
        name: |table| Some(table.get("label")?.as_str()?.to_owned()),
        nothing: |label| format!("no strategy is labeled `{label}`"),
        example: "config.window=64",
    },
    List {
        key: "model",
        name: |table| ModelChoice::deserialize(table.clone()).ok()?.short_name(),
        nothing: |name| format!("no model is called `{name}`"),
        example: "layers=2",
    },
];

/// See [`LISTS`].
struct List {
    key: &'static str,
    name: fn(&Value) -> Option<String>,
    /// That no table has a name.
    nothing: fn(&str) -> String,
    /// A key of a table and its value.
    example: &'static str,
}

/// Applies assignments to a sweep's config, one after the other: a later one replaces what an earlier one said. The
/// keys of one strategy are `strategy.LABEL.…`, where the label may be quoted as TOML asks, or written as it is. Those of one of
/// several models are `model.NAME.…` likewise.
///
/// # Errors
/// A [`Problem`] if an assignment cannot be read, or no strategy or model has the name.
pub(super) fn apply_to_config(config: &mut Table, sets: &[String]) -> Result<(), Problem> {
    for set in sets {
        let quoted = LISTS.iter().fold(set.clone(), |set, list| list.with_quoted_name(&set, &list.names(config)));
        let mut changes = assignment(&quoted).map_err(|problem| misnamed(set, config).unwrap_or(problem))?;
        for list in &LISTS {
            let names = list.names(config);
            // Without such a list, the key is one like others, and the config's type refuses what does not fit.
            if let (Some(Value::Array(tables)), Some(Value::Table(_))) = (config.get_mut(list.key), changes.get(list.key))
                && let Some(Value::Table(changes)) = changes.remove(list.key)
            {
                list.apply(tables, changes, &names)?;
            }
        }
        merge(config, changes);
    }
    Ok(())
}

/// The parameters of one strategy that assignments spell out, a later one replacing what an earlier one said.
///
/// # Errors
/// A [`Problem`] if an assignment cannot be read.
pub(crate) fn parameters(sets: &[String]) -> Result<Table, Problem> {
    let mut parameters = Table::new();
    for set in sets {
        merge(&mut parameters, assignment(set)?);
    }
    Ok(parameters)
}

/// Adds strategies with their default parameters, labeled by their ids.
pub(super) fn add_strategies(config: &mut Table, ids: &[String]) {
    let Value::Array(instances) = config.entry("strategy").or_insert_with(|| Value::Array(vec![])) else { return };
    for id in ids {
        let label = Value::String(id.clone());
        instances.push(Value::Table([("label".to_owned(), label.clone()), ("use".to_owned(), label)].into_iter().collect()));
    }
}

/// Parses `key=value`; a value that is no TOML is taken as a string, so that quotes may be left out.
fn assignment(text: &str) -> Result<Table, Problem> {
    // A comment, several lines and nothing at all are TOML too.
    let one_key = |text: &str| toml::from_str(text).ok().filter(|table: &Table| table.len() == 1 && !text.contains('\n'));
    let quoted = || {
        let (key, value) = text.split_once('=')?;
        one_key(&format!("{key} = {}", Value::String(value.to_owned())))
    };
    (one_key(text)).or_else(quoted).ok_or_else(|| {
        Problem::new(format!("`--set {text}` is not `key=value`")).help(
            "for example `--set block_size=16` for a parameter; in a sweep `--set sweep.decode_steps=4`, or \
             `--set strategy.LABEL.config.window=64` with the label of one strategy",
        )
    })
}

/// What was probably meant by an assignment that is no TOML because it names a table of a list as none is named.
fn misnamed(set: &str, config: &Table) -> Option<Problem> {
    let (key, _) = set.split_once('=')?;
    let (head, rest) = key.split_at(key.find(['.', '['])?);
    let lists = || LISTS.iter().filter(|list| !list.names(config).is_empty());
    let Some(list) = lists().find(|list| list.key == head) else {
        let help = did_you_mean(head, lists().map(|list| list.key))?;
        return Some(Problem::new(format!("`--set {set}`: the config has no `{head}`")).help(help));
    };
    let names = list.names(config);
    let Some(named) = rest.strip_prefix('.') else {
        let List { key, example, .. } = list;
        let problem = Problem::new(format!("`--set {set}`: a table of `{key}` is called by its name, and not by its place"));
        return Some(problem.help(format!("for example `--set '{key}.{}.{example}'`; there are {}", names[0], names.join(", "))));
    };
    // A name may have dots in it.
    let name = named.split_once(".conf").or_else(|| named.rsplit_once('.')).map_or(named, |(name, _)| name);
    Some(list.unknown(name, &names))
}

impl List {
    /// Puts quotes round a name that begins the key of a table, so that it may have blanks, dots and slashes in it.
    fn with_quoted_name(&self, set: &str, names: &[String]) -> String {
        let of_list = set.strip_prefix(self.key).and_then(|rest| rest.strip_prefix('.'));
        let with_name = |name: &String| Some((name.clone(), of_list?.strip_prefix(name.as_str())?.strip_prefix('.')?));
        match names.iter().filter_map(with_name).max_by_key(|(name, _)| name.len()) {
            Some((name, rest)) => format!("{}.{}.{rest}", self.key, Value::String(name)),
            None => set.to_owned(),
        }
    }

    fn names(&self, config: &Table) -> Vec<String> {
        let tables = config.get(self.key).and_then(Value::as_array).into_iter().flatten();
        tables.filter_map(self.name).collect()
    }

    /// Changes the tables that are named.
    fn apply(&self, tables: &mut [Value], changes: Table, names: &[String]) -> Result<(), Problem> {
        let List { key, name: name_of, example, .. } = self;
        for (name, change) in changes {
            let table = tables.iter_mut().find(|table| name_of(table).as_ref() == Some(&name)).and_then(Value::as_table_mut);
            let table = table.ok_or_else(|| self.unknown(&name, names))?;
            let Value::Table(change) = change else {
                return Err(Problem::new(format!("`--set {key}.{name}={change}` does not name a key of the {key}"))
                    .help(format!("for example `--set {key}.{name}.{example}`")));
            };
            merge(table, change);
        }
        Ok(())
    }

    /// That no table has a name, and which one was probably meant.
    fn unknown(&self, name: &str, names: &[String]) -> Problem {
        let help = did_you_mean(name, names.iter().map(String::as_str));
        Problem::new(format!("`--set {}.{name}…`: {}", self.key, (self.nothing)(name)))
            .help(help.unwrap_or_else(|| format!("there are {}", names.join(", "))))
    }
}

/// Replaces what `changes` names and keeps the rest, tables within tables too.
fn merge(table: &mut Table, changes: Table) {
    for (key, change) in changes {
        match (table.get_mut(&key), change) {
            (Some(Value::Table(table)), Value::Table(changes)) => merge(table, changes),
            // One format for both, of which one is changed.
            (Some(Value::String(both)), Value::Table(changes)) if changes.keys().all(|part| matches!(part.as_str(), "keys" | "values")) => {
                let mut parts: Table = ["keys", "values"].map(|part| (part.to_owned(), Value::String(both.clone()))).into_iter().collect();
                merge(&mut parts, changes);
                table.insert(key, Value::Table(parts));
            }
            (_, change) => {
                table.insert(key, change);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn values_are_toml_or_text() {
        assert_eq!(assignment("a.b=4").unwrap(), table("a = { b = 4 }"));
        assert_eq!(assignment("a=tiny").unwrap(), table("a = 'tiny'"));
        assert_eq!(assignment("growth={ reserve = 5 }").unwrap(), table("growth = { reserve = 5 }"));
        for nothing in ["nothing", "", "# x=1", "a={}\nb=1\n[c]\nd", "=1"] {
            assert!(assignment(nothing).is_err(), "{nothing}");
        }
    }

    #[test]
    fn parts_of_a_parameter_add_up_and_a_later_set_replaces_an_earlier_one() {
        for (given, expected) in [
            (&["format.keys=q8_0", "format.values=q4_0"][..], "format = { keys = 'q8_0', values = 'q4_0' }"),
            (&["format={ keys = 'q8_0' }", "format.values=q4_0"], "format = { keys = 'q8_0', values = 'q4_0' }"),
            (&["format.keys=q8_0", "format.keys=q4_0"], "format = { keys = 'q4_0' }"),
            (&["format=q4_0", "format.keys=q8_0"], "format = { keys = 'q8_0', values = 'q4_0' }"),
            (&["format=q4_0", "format.values=q8_0"], "format = { keys = 'q4_0', values = 'q8_0' }"),
            (&["format.keys=q8_0", "format=q4_0"], "format = 'q4_0'"),
            (&["format.keys=q8_0", "format=f16"], "format = 'f16'"),
            (&["format=f16", "format.keys=q8_0"], "format = { keys = 'q8_0', values = 'f16' }"),
            (&["growth=doubling", "growth.reserve=8"], "growth = { reserve = 8 }"),
        ] {
            assert_eq!(parameters(&sets(given)).unwrap(), table(expected), "{given:?}");
            let mut config = table("[[strategy]]\nlabel = 'a'");
            let of_a: Vec<String> = given.iter().map(|set| format!("strategy.a.config.{set}")).collect();
            apply_to_config(&mut config, &of_a).unwrap();
            assert_eq!(config["strategy"][0]["config"].as_table().unwrap(), &table(expected), "{given:?}");
        }
    }

    #[test]
    fn a_strategy_is_found_by_its_label_quoted_or_not() {
        for label in ["a", "a/16", "paged q8_0", "v1.5 = 'x'", "é\"q\""] {
            let quoted = Value::String(label.to_owned());
            for key in [label.to_owned(), quoted.to_string()] {
                let mut config = table(&format!("[sweep]\nsteps = 1\n[[strategy]]\nlabel = 'b'\n[[strategy]]\nlabel = {quoted}"));
                apply_to_config(&mut config, &[format!("strategy.{key}.config.window=64"), "sweep.steps=2".into()]).unwrap();
                let expected =
                    format!("[sweep]\nsteps = 2\n[[strategy]]\nlabel = 'b'\n[[strategy]]\nlabel = {quoted}\nconfig = {{ window = 64 }}");
                assert_eq!(config, table(&expected), "{key}");
            }
        }
    }

    #[test]
    fn one_of_several_models_is_found_by_its_name() {
        let list = "[[model]]\npreset = 'tiny'\n[[model]]\nname = 'a.b'\npreset = 'tiny'\n";
        let mut config = table(list);
        apply_to_config(&mut config, &sets(&["model.tiny.layers=2", "model.a.b.layers=3"])).unwrap();
        assert_eq!([&config["model"][0]["layers"], &config["model"][1]["layers"]], [&Value::from(2), &Value::from(3)]);
        for (set, expected) in [
            ("model.layers=2", "no model is called `layers`"),
            ("model.tiny=2", "does not name a key of the model"),
            ("model.preset=small", "no model is called `preset`"),
        ] {
            let problem = apply_to_config(&mut table(list), &sets(&[set])).unwrap_err();
            assert!(problem.to_string().contains(expected), "{problem}");
        }
        apply_to_config(&mut config, &sets(&["model=[{ preset = 'small' }]"])).unwrap();
        assert_eq!(config, table("[[model]]\npreset = 'small'"), "a list takes the place of a list");
        let mut one = table("[model]\npreset = 'tiny'");
        apply_to_config(&mut one, &sets(&["model.layers=2"])).unwrap();
        assert_eq!(one, table("[model]\npreset = 'tiny'\nlayers = 2"));
    }

    #[test]
    fn a_longer_label_goes_before_one_that_it_begins_with() {
        let mut config = table("[[strategy]]\nlabel = 'a'\n[[strategy]]\nlabel = 'a.config'");
        apply_to_config(&mut config, &sets(&["strategy.a.config.use=naive"])).unwrap();
        assert_eq!(config, table("[[strategy]]\nlabel = 'a'\n[[strategy]]\nlabel = 'a.config'\nuse = 'naive'"));
    }

    #[test]
    fn a_misspelled_name_or_list_is_suggested_where_it_is_no_toml() {
        let config = table("[[strategy]]\nlabel = 'paged/16 f16'\n[[strategy]]\nlabel = 'v1.5 b'");
        for (set, expected, help) in [
            ("strategy.paged/16 f1.config.block_size=8", "no strategy is labeled `paged/16 f1`", "did you mean `paged/16 f16`?"),
            ("strategy.paged/16 f1.confg.block_size=8", "no strategy is labeled `paged/16 f1`", "did you mean `paged/16 f16`?"),
            ("strategy.v1.6 b.use=naive", "no strategy is labeled `v1.6 b`", "did you mean `v1.5 b`?"),
            ("strategy.another one.use=naive", "no strategy is labeled `another one`", "there are paged/16 f16, v1.5 b"),
            ("stratgy.paged/16 f16.config.block_size=8", "the config has no `stratgy`", "did you mean `strategy`?"),
            ("strategies[0].config.block_size=8", "the config has no `strategies`", "did you mean `strategy`?"),
            ("strategy[0].config.block_size=8", "by its name, and not by its place", "`--set 'strategy.paged/16 f16.config.window=64'`"),
            ("other one.two three=4", "is not `key=value`", "for example"),
        ] {
            let problem = apply_to_config(&mut config.clone(), &sets(&[set])).unwrap_err();
            let told = miette::Diagnostic::help(&problem).map(|help| help.to_string()).unwrap_or_default();
            assert!(problem.to_string().contains(expected) && told.contains(help), "{set}: {problem}: {told}");
        }
    }

    #[test]
    fn a_strategy_that_is_not_there_and_a_change_of_nothing_are_refused() {
        let mut config = table("[[strategy]]\nlabel = 'paged'");
        for (set, expected) in [
            ("strategy.pagd.use=naive", "no strategy is labeled `pagd`"),
            ("strategy.paged=5", "`--set strategy.paged=5` does not name a key of the strategy"),
        ] {
            let problem = apply_to_config(&mut config, &sets(&[set])).unwrap_err();
            assert!(problem.to_string().contains(expected), "{problem}");
        }
        assert_eq!(config, table("[[strategy]]\nlabel = 'paged'"));
    }
}
