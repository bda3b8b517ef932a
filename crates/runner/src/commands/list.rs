//! `list`: what there is.

use std::path::PathBuf;
use std::process::ExitCode;

use kv_core::Registry;
use kv_model::Preset;

use super::print;
use crate::config::Workload;
use crate::models::CATALOG;
use crate::screen::{padded, widest};
use crate::{Problem, exit};

pub(crate) fn list(registry: &Registry) -> Result<ExitCode, Problem> {
    let mut text = String::from("strategies (`runner describe ID` explains the parameters)\n");
    for entry in registry.iter() {
        text.push_str(&line(entry.id(), entry.summary()));
    }
    text.push_str("\nworkloads (workloads = [\"…\"] in [sweep]; `runner describe NAME` explains them)\n");
    for workload in Workload::ALL {
        text.push_str(&line(workload.name(), &format!("{}{}", workload.summary(), keys(workload))));
    }
    text.push_str("\nmodels with random weights (preset = \"…\")\n");
    for preset in Preset::ALL {
        text.push_str(&line(preset.name, preset.summary));
    }
    text.push_str("\na trained model in the program (preset = \"…\"), and a text that it was not trained on (text = \"…\" in [quality])\n");
    text.push_str(&line(kv_model::SMALL, "2.6 million weights in q8_0, a context of 4096, trained on addresses to Congress and Moby-Dick"));
    text.push_str(&line("held-out", "later addresses and the last chapters, 222 KB, public domain"));
    text.push_str("\nto fetch (`runner fetch NAME`; a model is then fetched = \"…\")\n");
    for item in CATALOG {
        text.push_str(&line(item.name, &format!("{} ({})", item.summary, state(item.path()))));
    }
    print(&text)?;
    Ok(exit::OK)
}

/// The keys of a workload's section, in brackets.
fn keys(workload: Workload) -> String {
    let properties = crate::workloads::schema(workload).map(|schema| schema.to_value());
    let names =
        properties.as_ref().and_then(|schema| schema.get("properties")?.as_object()).map(|keys| keys.keys().cloned().collect::<Vec<_>>());
    names.map_or_else(|| " (lengths, batch)".into(), |names| format!(" ({})", names.join(", ")))
}

/// Whether something is where it would lie.
fn state(path: Result<PathBuf, Problem>) -> String {
    match path {
        Ok(path) if path.exists() => "here".into(),
        Ok(_) => "not fetched".into(),
        Err(problem) => format!("not known whether it was fetched: {problem}; set KVLAB_CACHE to a folder"),
    }
}

fn line(name: &str, summary: &str) -> String {
    format!("  {} {summary}\n", padded(name, widest([name]).max(14)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_home_folder_the_rest_is_listed_and_the_reason_said() {
        let homeless = || Err(Problem::new("the user has no home folder for a cache"));
        let expected = "not known whether it was fetched: the user has no home folder for a cache; set KVLAB_CACHE to a folder";
        assert_eq!(state(homeless()), expected);
        assert_eq!(state(Ok("/".into())), "here");
        assert_eq!(state(Ok("/no/such/file".into())), "not fetched");
    }
}
