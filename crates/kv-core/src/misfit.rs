//! Why a config does not fit its type, in the words of someone who writes configs.
//!
//! serde says "invalid type: unit variant, expected newtype variant" where `growth = "reserve"` should have been
//! `growth = { reserve = 4096 }`. The JSON Schema of a config knows what each value may be, so it is asked instead.

use schemars::Schema;
use serde_json::{Map, Value as Json};
use toml::{Table, Value};

/// The first value of a config that its schema does not allow, and what it may be; `None` if each may be as it is,
/// whatever keys are missing or unknown.
pub fn misfit(schema: &Schema, config: &Table) -> Option<String> {
    let root = schema.as_value();
    misfit_in_table(root, root, config, "")
}

fn misfit_in_table(root: &Json, schema: &Json, table: &Table, path: &str) -> Option<String> {
    let properties = resolved(root, schema).get("properties")?.as_object()?;
    let known = table.iter().filter_map(|(key, value)| Some((key, value, properties.get(key)?)));
    known.into_iter().find_map(|(key, value, schema)| misfit_at(root, schema, value, &joined(path, key)))
}

fn misfit_at(root: &Json, schema: &Json, value: &Value, path: &str) -> Option<String> {
    if fits(root, schema, value) {
        return None;
    }
    let schema = meant(root, resolved(root, schema), value);
    let deeper = match (value, schema.get("items")) {
        (Value::Table(table), _) => misfit_in_table(root, schema, table, path),
        (Value::Array(list), Some(items)) => {
            list.iter().enumerate().find_map(|(index, value)| misfit_at(root, items, value, &format!("{path}[{index}]")))
        }
        _ => None,
    };
    let is_whole = choices(schema).is_none() && matches!(value, Value::Table(_) | Value::Array(_)) && has_type(schema, type_name(value));
    if deeper.is_some() || is_whole {
        return deeper;
    }
    Some(format!("`{path}` is {}: it takes {}", shown(value), allowed(root, schema)))
}

/// Whether a schema allows a value. Patterns are not looked at: types that have one explain themselves.
fn fits(root: &Json, schema: &Json, value: &Value) -> bool {
    let schema = resolved(root, schema);
    if let Some(choices) = choices(schema) {
        return choices.iter().any(|choice| fits(root, choice, value));
    }
    let is_text = |allowed: &Json| allowed.as_str().is_some_and(|allowed| Some(allowed) == value.as_str());
    if let Some(only) = schema.get("const") {
        return is_text(only);
    }
    if let Some(Json::Array(texts)) = schema.get("enum") {
        return texts.iter().any(is_text);
    }
    let is_below = |least: f64| value.as_integer().is_some_and(|number| (number as f64) < least);
    if !has_type(schema, type_name(value)) || schema.get("minimum").and_then(Json::as_f64).is_some_and(is_below) {
        return false;
    }
    match value {
        Value::Array(list) => schema.get("items").is_none_or(|items| list.iter().all(|value| fits(root, items, value))),
        Value::Table(table) => table_fits(root, schema, table),
        _ => true,
    }
}

fn table_fits(root: &Json, schema: &Json, table: &Table) -> bool {
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Json::as_object).unwrap_or(&empty);
    let is_closed = schema.get("additionalProperties") == Some(&Json::Bool(false));
    let required = schema.get("required").and_then(Json::as_array).into_iter().flatten();
    required.filter_map(Json::as_str).all(|key| table.contains_key(key))
        && table.iter().all(|(key, value)| properties.get(key).map_or(!is_closed, |schema| fits(root, schema, value)))
}

/// What a schema allows: `"concat", "doubling" or { reserve = a whole number }`.
fn allowed(root: &Json, schema: &Json) -> String {
    let schema = resolved(root, schema);
    if let Some(choices) = choices(schema) {
        return listed(choices.iter().filter(|choice| !is_null(choice)).map(|choice| allowed(root, choice)).collect());
    }
    if let Some(only) = schema.get("const") {
        return only.to_string();
    }
    if let Some(Json::Array(texts)) = schema.get("enum") {
        return listed(texts.iter().map(Json::to_string).collect());
    }
    let of_type = |name: &str| has_type(schema, name);
    match schema.get("properties").and_then(Json::as_object) {
        Some(properties) if of_type("object") => {
            let pairs: Vec<String> = properties.iter().map(|(key, schema)| format!("{key} = {}", allowed(root, schema))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        _ if of_type("number") => "a number".into(),
        _ if of_type("integer") => match schema.get("minimum").and_then(Json::as_i64) {
            Some(least) => format!("a whole number ({least} or more)"),
            None => "a whole number".into(),
        },
        _ if of_type("boolean") => "true or false".into(),
        _ if of_type("string") => "a quoted string".into(),
        _ if of_type("array") => match schema.get("items") {
            Some(items) => format!("a list of {}", allowed(root, items)),
            None => "a list".into(),
        },
        _ => "a table".into(),
    }
}

fn listed(mut texts: Vec<String>) -> String {
    let last = texts.pop().unwrap_or_default();
    if texts.is_empty() { last } else { format!("{} or {last}", texts.join(", ")) }
}

/// Of several choices the only one that a list can be meant for, or a table; otherwise the schema itself. A choice of tables that needs
/// a key is a variant of an enum, which explains itself as a whole.
fn meant<'a>(root: &'a Json, schema: &'a Json, value: &Value) -> &'a Json {
    let is_meant = |choice: &&Json| {
        let is = |name: &str| choice.get("type").is_some_and(|only| only == name);
        match value {
            Value::Array(_) => is("array"),
            Value::Table(_) => is("object") && choice.get("required").is_none(),
            _ => false,
        }
    };
    let mut choices = choices(schema).into_iter().flatten().map(|choice| resolved(root, choice)).filter(is_meant);
    match (choices.next(), choices.next()) {
        (Some(only), None) => only,
        _ => schema,
    }
}

fn choices(schema: &Json) -> Option<&Vec<Json>> {
    ["oneOf", "anyOf"].into_iter().find_map(|key| schema.get(key)?.as_array())
}

/// The schema that a reference stands for, and of a value that may be left out the schema of the value: TOML has no null.
fn resolved<'a>(root: &'a Json, schema: &'a Json) -> &'a Json {
    let reference = schema.get("$ref").and_then(Json::as_str).and_then(|reference| reference.strip_prefix('#'));
    if let Some(target) = reference.and_then(|pointer| root.pointer(pointer)) {
        return resolved(root, target);
    }
    match choices(schema).map(Vec::as_slice) {
        Some([one, other]) if is_null(other) => resolved(root, one),
        _ => schema,
    }
}

fn is_null(schema: &Json) -> bool {
    schema.get("type").and_then(Json::as_str) == Some("null")
}

/// Whether a schema allows values of a type, which it does if it names none.
fn has_type(schema: &Json, name: &str) -> bool {
    let is_it = |allowed: &Json| allowed.as_str().is_some_and(|allowed| allowed == name || (allowed == "number" && name == "integer"));
    match schema.get("type") {
        Some(Json::Array(types)) => types.iter().any(is_it),
        Some(allowed) => is_it(allowed),
        None => true,
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Integer(_) => "integer",
        Value::Float(_) => "number",
        Value::Boolean(_) => "boolean",
        Value::Datetime(_) => "date",
        Value::Array(_) => "array",
        Value::Table(_) => "object",
    }
}

/// A value as it is written, cut short.
fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= MOST { text } else { text.chars().take(MOST).chain(['…']).collect() }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;

    use super::*;

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Config {
        size: usize,
        share: f32,
        name: Option<String>,
        growth: Growth,
        if_full: Option<Growth>,
        inner: Option<Inner>,
        needed: Inner,
        several: Vec<Inner>,
        one_or_many: OneOrMany,
        list: Vec<Kind>,
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Inner {
        flag: bool,
    }

    #[derive(JsonSchema)]
    #[serde(rename_all = "snake_case")]
    #[expect(dead_code, reason = "only its schema is used")]
    enum Growth {
        /// Bare.
        Concat,
        /// With a number.
        Reserve(usize),
        /// With parts.
        Parts { first: usize },
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Loose {
        flag: Option<bool>,
    }

    #[derive(JsonSchema)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "only its schema is used")]
    enum OneOrMany {
        One(Loose),
        Many(Vec<Loose>),
    }

    #[derive(JsonSchema)]
    #[serde(rename_all = "snake_case")]
    #[expect(dead_code, reason = "only its schema is used")]
    enum Kind {
        One,
        Two,
    }

    #[test]
    fn a_value_that_its_type_does_not_take_is_told_what_it_takes() {
        const GROWTH: &str =
            "it takes \"concat\", { reserve = a whole number (0 or more) } or { parts = { first = a whole number (0 or more) } }";
        for (config, expected) in [
            ("size = 'x'", "`size` is \"x\": it takes a whole number (0 or more)".to_owned()),
            ("size = -4", "`size` is -4: it takes a whole number (0 or more)".into()),
            ("size = 1.5", "`size` is 1.5: it takes a whole number (0 or more)".into()),
            ("share = true", "`share` is true: it takes a number".into()),
            ("name = 5", "`name` is 5: it takes a quoted string".into()),
            ("growth = 'reserve'", format!("`growth` is \"reserve\": {GROWTH}")),
            ("growth = 'triple'", format!("`growth` is \"triple\": {GROWTH}")),
            ("growth = 5", format!("`growth` is 5: {GROWTH}")),
            ("growth = {}", format!("`growth` is {{}}: {GROWTH}")),
            ("growth = { concat = 1 }", format!("`growth` is {{ concat = 1 }}: {GROWTH}")),
            ("growth = { reserve = 'x' }", format!("`growth` is {{ reserve = \"x\" }}: {GROWTH}")),
            ("growth = { reserve = -1 }", format!("`growth` is {{ reserve = -1 }}: {GROWTH}")),
            ("growth = { reserve = 1, more = 2 }", format!("`growth` is {{ reserve = 1, more = 2 }}: {GROWTH}")),
            ("growth = { parts = {} }", format!("`growth` is {{ parts = {{}} }}: {GROWTH}")),
            ("if_full = 5", format!("`if_full` is 5: {GROWTH}")),
            ("inner = { flag = 1 }", "`inner.flag` is 1: it takes true or false".into()),
            ("one_or_many = { flag = 1 }", "`one_or_many.flag` is 1: it takes true or false".into()),
            ("one_or_many = [{ flag = 1 }]", "`one_or_many[0].flag` is 1: it takes true or false".into()),
            ("needed = { flag = 1 }", "`needed.flag` is 1: it takes true or false".into()),
            ("several = [{ flag = true }, { flag = 1 }]", "`several[1].flag` is 1: it takes true or false".into()),
            ("list = 1", "`list` is 1: it takes a list of \"one\" or \"two\"".into()),
            ("list = ['one', 'three']", "`list[1]` is \"three\": it takes \"one\" or \"two\"".into()),
        ] {
            let config: Table = toml::from_str(config).unwrap();
            assert_eq!(misfit(&schemars::schema_for!(Config), &config), Some(expected));
        }
    }

    #[test]
    fn what_fits_is_left_alone_and_missing_and_unknown_keys_are_left_to_serde() {
        for config in [
            "",
            "size = 0\nshare = 1\nname = 'x'\ngrowth = 'concat'\nlist = ['one']",
            "growth = { reserve = 5 }",
            "growth = { parts = { first = 1 } }",
            "sise = 'x'",
            "needed = { flagg = true }",
            "inner = { flagg = true }",
            "several = [{ flagg = true }]",
            "one_or_many = { flagg = true }",
            "one_or_many = [{ flagg = true }]",
        ] {
            let config: Table = toml::from_str(config).unwrap();
            assert_eq!(misfit(&schemars::schema_for!(Config), &config), None, "{config}");
        }
    }

    #[test]
    fn a_long_value_is_cut() {
        let config: Table = toml::from_str(&format!("size = '{}'", "x".repeat(100_000))).unwrap();
        assert!(misfit(&schemars::schema_for!(Config), &config).unwrap().len() < 150);
    }
}
