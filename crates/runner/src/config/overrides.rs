//! What arguments change in a config: `--set key=value`, a line of TOML that replaces what it says, and
//! `--also ID`, one more strategy.

use toml::{Table, Value};

use crate::Problem;

/// Parses `key=value`; a value that is no TOML is taken as a string, so that quotes may be left out.
///
/// # Errors
/// A [`Problem`] that shows what was expected.
pub(crate) fn assignment(text: &str) -> Result<Table, Problem> {
    let quoted = || {
        let (key, value) = text.split_once('=')?;
        toml::from_str(&format!("{key} = {}", Value::String(value.to_owned()))).ok()
    };
    (toml::from_str(text).ok()).or_else(quoted).ok_or_else(|| {
        Problem::new(format!("`--set {text}` is not `key=value`"))
            .help("for example `--set sweep.decode_steps=4`, or `--set strategy.LABEL.config.window=64` for one strategy")
    })
}

/// Adds strategies with their default parameters, labelled by their ids.
pub(super) fn add_strategies(config: &mut Table, ids: &[String]) {
    let Value::Array(instances) = config.entry("strategy").or_insert_with(|| Value::Array(vec![])) else { return };
    for id in ids {
        let label = Value::String(id.clone());
        instances.push(Value::Table([("label".to_owned(), label.clone()), ("use".to_owned(), label)].into_iter().collect()));
    }
}

/// Replaces what `changes` names. A table under `strategy` is looked up by label.
///
/// # Errors
/// A [`Problem`] if no strategy has the label.
pub(super) fn apply(config: &mut Table, changes: Table) -> Result<(), Problem> {
    for (key, change) in changes {
        match (config.get_mut(&key), change) {
            (Some(Value::Table(table)), Value::Table(changes)) => apply(table, changes)?,
            (Some(Value::Array(instances)), Value::Table(changes)) if key == "strategy" => {
                for (label, change) in changes {
                    let mut tables = instances.iter_mut().filter_map(Value::as_table_mut);
                    let instance = tables.find(|table| table.get("label").and_then(Value::as_str) == Some(label.as_str()));
                    let instance =
                        instance.ok_or_else(|| Problem::new(format!("`--set strategy.{label}…`: no strategy is labelled `{label}`")))?;
                    apply(instance, change.as_table().cloned().unwrap_or_default())?;
                }
            }
            (_, change) => {
                config.insert(key, change);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_toml_or_text() {
        assert_eq!(assignment("a.b=4").unwrap(), toml::from_str("a = { b = 4 }").unwrap());
        assert_eq!(assignment("a=tiny").unwrap(), toml::from_str("a = 'tiny'").unwrap());
        assert_eq!(assignment("growth={ reserve = 5 }").unwrap(), toml::from_str("growth = { reserve = 5 }").unwrap());
        assert!(assignment("nothing").is_err());
    }

    #[test]
    fn a_strategy_is_found_by_its_label() {
        let mut config: Table = toml::from_str("[sweep]\nsteps = 1\n[[strategy]]\nlabel = 'a/16'\n[[strategy]]\nlabel = 'b'").unwrap();
        apply(&mut config, assignment("strategy.'a/16'.config.window=64").unwrap()).unwrap();
        apply(&mut config, assignment("sweep.steps=2").unwrap()).unwrap();
        let expected = "[sweep]\nsteps = 2\n[[strategy]]\nlabel = 'a/16'\nconfig = { window = 64 }\n[[strategy]]\nlabel = 'b'";
        assert_eq!(config, toml::from_str(expected).unwrap());
        assert!(apply(&mut config, assignment("strategy.c.use=naive").unwrap()).is_err());
    }
}
