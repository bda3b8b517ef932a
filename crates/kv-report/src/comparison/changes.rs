//! In what two runs differ beside their numbers.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::facts::facts;
use crate::{Fact, RunRecord};

/// Something that is not the same in two runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// What it is: a fact's name, or the path of a key in the config.
    pub what: String,
    /// What it was.
    pub before: String,
    /// What it is.
    pub after: String,
}

/// What is never the same, and says nothing.
const MOMENTARY: [&str; 5] =
    ["run", "hash of the plan", "time to load the model", "load average at the start", "time given to others by the host, since the start"];

/// What the machine did during some seconds, which later facts of the same kind begin with.
const OF_A_MOMENT: &str = "waiting for a CPU";

/// In what two runs differ: model, build, machine, environment and config. What is momentary is left out.
pub(super) fn changes(before: &RunRecord, after: &RunRecord) -> Vec<Changed> {
    let known = |run: &RunRecord| -> Vec<(String, String)> {
        let is_lasting = |fact: &Fact| !MOMENTARY.contains(&fact.name.as_str()) && !fact.name.starts_with(OF_A_MOMENT);
        let shown = |fact: Fact| (fact.name, fact.value.unwrap_or_else(|| "unknown".into()));
        facts(run).into_iter().filter(is_lasting).map(shown).chain([("margin".to_owned(), run.margin.to_string())]).collect()
    };
    let config = |run: &RunRecord| {
        let mut leaves = vec![];
        flatten("config", &run.config, &mut leaves);
        leaves
    };
    let mut changed = differing(known(before), known(after));
    changed.extend(differing(config(before), config(after)));
    changed
}

/// The names whose values differ, in the order of the second list.
fn differing(before: Vec<(String, String)>, after: Vec<(String, String)>) -> Vec<Changed> {
    const ABSENT: &str = "-";
    let earlier: BTreeMap<String, String> = before.iter().cloned().collect();
    let later: BTreeMap<String, String> = after.iter().cloned().collect();
    let gone = before.into_iter().map(|(name, _)| name).filter(|name| !later.contains_key(name));
    let value = |values: &BTreeMap<String, String>, name: &str| values.get(name).cloned().unwrap_or_else(|| ABSENT.into());
    let names: Vec<String> = after.into_iter().map(|(name, _)| name).chain(gone).collect();
    let pair = |what: String| Changed { before: value(&earlier, &what), after: value(&later, &what), what };
    names.into_iter().map(pair).filter(|changed| changed.before != changed.after).collect()
}

/// The leaves of a config with their paths. A strategy goes by its label.
fn flatten(path: &str, value: &Value, leaves: &mut Vec<(String, String)>) {
    match value {
        Value::Object(keys) => keys.iter().for_each(|(key, value)| flatten(&format!("{path}.{key}"), value, leaves)),
        Value::Array(values) if values.iter().any(Value::is_object) => {
            for (index, value) in values.iter().enumerate() {
                let name = value.get("label").and_then(Value::as_str).map_or_else(|| index.to_string(), str::to_owned);
                flatten(&format!("{path}.{name}"), value, leaves);
            }
        }
        value => leaves.push((path.to_owned(), value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn what_differs_is_named_with_both_values() {
        let before = example::run();
        assert_eq!(changes(&before, &before), []);
        let mut after = before.clone();
        after.run_id = "another".into();
        after.build.commit = Some("abcdef".into());
        after.model.hash = Some("0000".into());
        after.environment.facts[0].value = Some("another CPU".into());
        after.machine_id = None;
        let names: Vec<String> = changes(&before, &after).into_iter().map(|changed| changed.what).collect();
        assert_eq!(names, ["machine (hashed)", "hash of the model", "commit", "CPU"]);
        let commit = &changes(&before, &after)[2];
        assert_eq!(
            (commit.before.as_str(), commit.after.as_str()),
            ("313960b (with uncommitted changes)", "abcdef (with uncommitted changes)")
        );
    }

    #[test]
    fn configs_differ_key_by_key() {
        let mut before = example::run();
        before.config = serde_json::json!({ "sweep": { "lengths": [1, 2] }, "strategy": [{ "label": "a", "config": { "block_size": 16 } }, { "label": "b" }] });
        let mut after = before.clone();
        after.config = serde_json::json!({ "sweep": { "lengths": [1, 4], "batch": 2 }, "strategy": [{ "label": "a", "config": { "block_size": 64 } }] });
        let shown: Vec<(String, String, String)> =
            changes(&before, &after).into_iter().map(|Changed { what, before, after }| (what, before, after)).collect();
        let expected = [
            ("config.sweep.lengths", "[1,2]", "[1,4]"),
            ("config.sweep.batch", "-", "2"),
            ("config.strategy.a.config.block_size", "16", "64"),
            ("config.strategy.b.label", "\"b\"", "-"),
        ];
        let mut shown: Vec<(&str, &str, &str)> = shown.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
        let mut expected = expected.to_vec();
        shown.sort_unstable();
        expected.sort_unstable();
        assert_eq!(shown, expected);
    }
}
