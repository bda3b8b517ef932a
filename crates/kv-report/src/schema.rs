//! The published JSON Schemas of the files of a run.

use schemars::{JsonSchema, schema_for};

use crate::{RunRecord, Visit};

/// The names of the schemas' files and their texts: of `run.json` and of a line of `visits.jsonl`.
pub fn schemas() -> Vec<(&'static str, String)> {
    vec![
        ("run.schema.json", text::<RunRecord>("run.json of kvlab")),
        ("visit.schema.json", text::<Visit>("a line of kvlab's visits.jsonl")),
    ]
}

fn text<T: JsonSchema>(title: &str) -> String {
    let mut schema = schema_for!(T);
    schema.insert("title".into(), title.into());
    format!("{:#}\n", schema.as_value())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::example;

    /// The keys of an object, and those that its schema has.
    fn assert_same_keys(name: &str, written: &Value) {
        let (_, text) = schemas().into_iter().find(|(file, _)| *file == name).unwrap();
        let schema: Value = serde_json::from_str(&text).unwrap();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(&schema["properties"]), keys(written), "{name}");
        assert_eq!(schema["additionalProperties"], false, "{name}");
    }

    #[test]
    fn a_schema_has_the_keys_that_are_written() {
        assert_same_keys("run.schema.json", &serde_json::to_value(example::run()).unwrap());
        // The build is written where it is not the run's own.
        let visit = crate::Visit { build: crate::Build::Other, ..example::visits()[0].clone() };
        assert_same_keys("visit.schema.json", &serde_json::to_value(&visit).unwrap());
    }

    #[test]
    fn the_schema_of_a_visit_names_every_metric() {
        let schema: Value = serde_json::from_str(&schemas()[1].1).unwrap();
        let ids = crate::METRICS.map(|metric| metric.id);
        assert_eq!(schema["properties"]["values"]["propertyNames"]["enum"], serde_json::json!(ids.to_vec()));
    }

    #[test]
    fn the_schema_of_a_run_names_its_version() {
        let schema: Value = serde_json::from_str(&schemas()[0].1).unwrap();
        assert_eq!(schema["properties"]["schema"]["const"], crate::SCHEMA_VERSION);
    }
}
