//! What a worker is told that runs a workload that is a script of its own.

use std::path::PathBuf;

use kv_core::Geometry;
use serde::{Deserialize, Serialize};

use super::protocol::{InstanceSpec, RowsSpec, ScriptSpec};

/// Runs a workload that is a script of its own: times the instances of a block, or counts the bytes of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScriptedTask {
    pub(crate) rows: RowsSpec,
    /// The shape of the caches.
    pub(crate) geometry: Geometry,
    /// What is done, its `scripted` above all.
    pub(crate) script: ScriptSpec,
    pub(crate) instances: Vec<InstanceSpec>,
    /// The tokens of the text that is fed, if one is.
    pub(crate) text: Vec<u32>,
    /// Where the image lies that is asked about, if one does.
    pub(crate) image: Option<PathBuf>,
    /// What is measured.
    pub(crate) purpose: Purpose,
}

/// What a script is run for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// Its times.
    Time {
        launch: u32,
        /// The instance that is timed twice, under the same id.
        control: Option<String>,
        /// Times that every instance runs the script.
        rounds: usize,
        /// Seed of the order of turns.
        order_seed: u32,
    },
    /// Its bytes, without a model: on rows of the model's shape.
    Bytes,
}
