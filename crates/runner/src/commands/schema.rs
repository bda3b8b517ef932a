//! `schema`: the config's JSON Schema, each strategy's parameters included.

use std::process::ExitCode;

use kv_core::Registry;
use serde_json::{Value, json};

use super::print;
use crate::{Config, Problem, exit};

pub(crate) fn print_schema(registry: &Registry) -> Result<ExitCode, Problem> {
    print(&schema(registry))?;
    Ok(exit::OK)
}

/// The JSON Schema of a config with these strategies, as text ready for a file.
pub fn schema(registry: &Registry) -> String {
    let mut schema = schemars::schema_for!(Config).to_value();
    let choices: Vec<Value> = registry
        .iter()
        .map(|entry| {
            let mut config = entry.schema().to_value();
            let definitions = config.as_object_mut().and_then(|config| config.remove("$defs"));
            if let (Some(Value::Object(definitions)), Some(all)) = (definitions, schema.get_mut("$defs").and_then(Value::as_object_mut)) {
                all.extend(definitions);
            }
            json!({
                "if": { "properties": { "use": { "const": entry.id() } } },
                "then": { "properties": { "config": config } }
            })
        })
        .collect();
    let ids: Vec<&str> = registry.iter().map(|entry| entry.id()).collect();
    if let Some(instance) = schema.pointer_mut("/$defs/Instance").and_then(Value::as_object_mut) {
        instance.insert("allOf".into(), choices.into());
        if let Some(strategy) = instance.get_mut("properties").and_then(|properties| properties.get_mut("use")) {
            strategy["enum"] = json!(ids);
        }
    }
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}
