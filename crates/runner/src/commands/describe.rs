//! `describe`: a strategy's or a workload's parameters, from its config's JSON Schema.

use std::process::ExitCode;

use kv_core::{Entry, Registry};
use serde_json::Value;

use super::print;
use crate::config::Workload;
use crate::problem::known_strategy;
use crate::{Problem, exit};

pub(crate) fn describe(registry: &Registry, id: &str) -> Result<ExitCode, Problem> {
    let workload = Workload::ALL.into_iter().find(|workload| workload.name() == id);
    match (registry.get(id), workload) {
        // A strategy by somebody else may have a workload's name.
        (Err(_), Some(workload)) => print(&of_workload(workload))?,
        _ => print(&description(known_strategy(registry, id)?))?,
    }
    Ok(exit::OK)
}

/// What a workload does, and the keys of its section.
fn of_workload(workload: Workload) -> String {
    let mut text = format!("{workload}: {}\n", workload.summary());
    let Some(schema) = crate::workloads::schema(workload).map(|schema| schema.to_value()) else {
        text.push_str("\nIt is measured at every length of `lengths` and for every `batch` in [sweep].\n");
        return text + &format!("\nIn a config:\n\n[sweep]\nworkloads = [\"{workload}\"]\nlengths = \"128-4096*2\"\n");
    };
    let words = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    text.push_str(&format!("\n{}", indented(words)));
    let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, property) in &properties {
        let default = property.get("default").filter(|default| !default.is_null()).map_or("left out".to_owned(), ToString::to_string);
        text.push_str(&format!("\n  {name}  [default: {default}]\n"));
        text.push_str(&indented(property.get("description").and_then(Value::as_str).unwrap_or("(not documented)")));
    }
    text + &format!("\nIn a config:\n\n[sweep]\nworkloads = [\"{workload}\"]\n\n[{workload}]\n")
}

fn description(entry: &Entry) -> String {
    let mut text = format!("{}: {}\n", entry.id(), entry.summary());
    let schema = entry.schema().to_value();
    let empty = serde_json::Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    if properties.is_empty() {
        text.push_str("\nIt has no parameters.\n");
    }
    let defaults = entry.defaults();
    for (name, property) in properties {
        let default = defaults.get(name).map_or("left out".to_owned(), ToString::to_string);
        text.push_str(&format!("\n  {name}  [default: {default}]\n"));
        let words = property.get("description").and_then(Value::as_str).unwrap_or("(not documented)");
        text.push_str(&indented(words));
    }
    text.push_str(&format!("\nIn a config:\n\n[[strategy]]\nlabel = \"{0}\"\nuse = \"{0}\"\n", entry.id()));
    if !defaults.is_empty() {
        let pairs: Vec<String> = defaults.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        text.push_str(&format!("config = {{ {} }}\n", pairs.join(", ")));
    }
    text
}

/// A paragraph, set in from the margin and broken into lines.
fn indented(words: &str) -> String {
    const WIDTH: usize = 96;
    let mut text = String::new();
    let mut line = String::from("     ");
    for word in words.split_whitespace() {
        if line.len() + word.len() >= WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from("     ");
        }
        line.push(' ');
        line.push_str(word);
    }
    text + &line + "\n"
}
