//! `list`: what there is.

use std::process::ExitCode;

use kv_core::Registry;
use kv_model::Preset;

use super::print;
use crate::models::CATALOG;
use crate::{Problem, exit};

pub(crate) fn list(registry: &Registry) -> Result<ExitCode, Problem> {
    let mut text = String::from("strategies (`runner describe ID` explains the parameters)\n");
    for entry in registry.iter() {
        text.push_str(&format!("  {:<14} {}\n", entry.id(), entry.summary()));
    }
    text.push_str("\nmodels with random weights (preset = \"…\")\n");
    for preset in Preset::ALL {
        text.push_str(&format!("  {:<14} {}\n", preset.name, preset.summary));
    }
    text.push_str("\nto fetch (`runner fetch NAME`; a model is then fetched = \"…\")\n");
    for item in CATALOG {
        let state = if item.path()?.exists() { "here" } else { "not fetched" };
        text.push_str(&format!("  {:<14} {} ({state})\n", item.name, item.summary));
    }
    print(&text);
    Ok(exit::OK)
}
