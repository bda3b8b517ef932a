//! What a reader of the page wants to know of a run: where it ran, with which program and which model.

use crate::{BuildRecord, Fact, GeometryRecord, Level, ModelRecord, OriginRecord, RunRecord};

/// What is known of weights, where there are some.
const OF_WEIGHTS: [&str; 3] = ["weights in memory", "pages of the weights", "time to load the model"];

/// Every fact, in display order.
pub(crate) fn facts(run: &RunRecord) -> Vec<Fact> {
    let mut facts =
        vec![recorded("run", &run.run_id), recorded("hash of the plan", &run.plan_hash), fact("machine (hashed)", run.machine_id.clone())];
    facts.push(fact("time of the processes", run.times()));
    facts.extend(of_model(&run.model).into_iter().filter(|fact| run.level == Level::Model || !OF_WEIGHTS.contains(&fact.name.as_str())));
    facts.extend(of_build(&run.build));
    facts.extend(run.origins.iter().map(of_origin));
    facts.extend(run.environment.facts.iter().cloned());
    facts
}

/// Where some blocks were timed.
fn of_origin(origin: &OriginRecord) -> Fact {
    let name = origin.part.map_or("timed before, elsewhere".to_owned(), |part| format!("machine of part {part}"));
    recorded(&name, &format!("{}: {}", origin.machine(), origin.blocks.join("; ")))
}

fn of_model(model: &ModelRecord) -> Vec<Fact> {
    let ModelRecord { name, hash, geometry, model_bytes, weight_formats, weight_pages, load_seconds } = model;
    let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let formats = weight_formats.iter().map(|part| format!("{} {}", part.format, mb(part.bytes))).collect::<Vec<_>>().join(", ");
    // Earlier versions recorded neither the shape nor, at first, the weights.
    let has_weights = !weight_formats.is_empty();
    vec![
        recorded("model", name),
        fact("hash of the model", hash.clone()),
        fact("shape of the model", (*geometry != GeometryRecord::default()).then(|| shape(geometry))),
        fact("weights in memory", has_weights.then(|| format!("{}, outside the heap ({formats})", mb(*model_bytes)))),
        recorded("pages of the weights", weight_pages),
        fact("time to load the model", has_weights.then(|| format!("{load_seconds:.2} s"))),
    ]
}

fn shape(geometry: &GeometryRecord) -> String {
    let GeometryRecord { layers, heads, kv_heads, key_dim, value_dim, context, vocabulary, parameters } = geometry;
    let millions = *parameters as f64 / 1e6;
    format!(
        "{layers} layers, {heads} query heads, {kv_heads} KV heads, keys of {key_dim} and values of {value_dim} numbers, a context of {context} tokens, a vocabulary of {vocabulary}, {millions:.1} million parameters"
    )
}

pub(crate) fn of_build(build: &BuildRecord) -> Vec<Fact> {
    let BuildRecord { version, profile, opt_level, target, compiler, commit, dirty, program } = build;
    let changes = match dirty {
        Some(true) => "with uncommitted changes",
        Some(false) => "without uncommitted changes",
        None => "unknown whether with uncommitted changes",
    };
    let is_known = !profile.is_empty();
    vec![
        recorded("kvlab", version),
        fact("build", is_known.then(|| format!("profile {profile}, opt-level {opt_level}, {target}"))),
        fact("compiler", compiler.clone()),
        fact("commit", commit.as_ref().map(|commit| format!("{commit} ({changes})"))),
        fact("hash of the program", program.clone()),
    ]
}

pub(crate) fn fact(name: &str, value: Option<String>) -> Fact {
    let reason = value.is_none().then(|| "not recorded".into());
    Fact { name: name.into(), value, reason }
}

/// A text that is empty where nothing was recorded.
fn recorded(name: &str, text: &str) -> Fact {
    fact(name, (!text.is_empty()).then(|| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    fn value(run: &RunRecord, name: &str) -> Option<String> {
        facts(run).into_iter().find(|fact| fact.name == name).unwrap().value
    }

    #[test]
    fn the_build_says_whether_it_had_uncommitted_changes() {
        let mut run = example::run();
        for (dirty, words) in [
            (Some(true), "313960b (with uncommitted changes)"),
            (Some(false), "313960b (without uncommitted changes)"),
            (None, "313960b (unknown whether with uncommitted changes)"),
        ] {
            run.build.dirty = dirty;
            assert_eq!(value(&run, "commit").unwrap(), words);
        }
        run.build.commit = None;
        assert_eq!(value(&run, "commit"), None);
    }

    #[test]
    fn the_model_has_its_hash_and_its_shape_or_is_unknown() {
        let mut run = example::run();
        assert_eq!(value(&run, "hash of the model").unwrap(), "5e1f");
        assert_eq!(
            value(&run, "shape of the model").unwrap(),
            "4 layers, 8 query heads, 2 KV heads, keys of 64 and values of 32 numbers, a context of 4096 tokens, a vocabulary of 512, 1.5 million parameters"
        );
        assert_eq!(value(&run, "weights in memory").unwrap(), "6.0 MB, outside the heap (f32 6.0 MB)");
        run.model = ModelRecord::default();
        run.build = BuildRecord::default();
        for name in ["model", "hash of the model", "shape of the model", "weights in memory", "time to load the model", "kvlab", "build"] {
            assert_eq!(value(&run, name), None, "{name}");
        }
    }

    #[test]
    fn without_a_model_there_are_no_weights_to_tell_of() {
        let mut run = example::run();
        let names = |run: &RunRecord| facts(run).into_iter().map(|fact| fact.name).collect::<Vec<_>>();
        assert!(OF_WEIGHTS.iter().all(|name| names(&run).iter().any(|other| other == name)));
        run.level = Level::Attention { rows: crate::RowsOrigin::Generated, seed: 1, measured_layers: 4 };
        assert!(!OF_WEIGHTS.iter().any(|name| names(&run).iter().any(|other| other == name)));
        assert!(names(&run).iter().any(|name| name == "shape of the model"));
    }

    #[test]
    fn facts_of_the_environment_follow() {
        let facts = facts(&example::run());
        assert_eq!(facts[facts.len() - 2..], example::run().environment.facts);
    }
}
