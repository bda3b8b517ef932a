//! What tests of scripts share.

use kv_core::{Geometry, Rope};
use kv_metrics::HeapMeter;

use super::order::Order;
use super::outcome::Outcome;
use super::perform;
use super::refusal::Refusal;
use super::stage::RowsHost;
use crate::config::Workload;
use crate::worker::protocol::{InstanceSpec, Purpose, RowsSpec, ScriptSpec, ScriptedTask};
use crate::workloads::Scripted;

/// What is measured of a script in a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measured {
    Times,
    /// All are 0, unless the counting allocator is installed.
    Bytes,
}

/// A small shape.
pub(super) fn geometry() -> Geometry {
    Geometry { layers: 1, heads: 2, kv_heads: 1, key_dim: 16, value_dim: 16, rope: Rope::new(1e4, 16), context: 2048 }
}

/// A built-in strategy.
pub(super) fn instance((strategy, config): (&str, &str)) -> Result<InstanceSpec, Refusal> {
    let config = toml::from_str(config).map_err(|error| error.to_string())?;
    Ok(InstanceSpec { id: strategy.into(), strategy: strategy.into(), config })
}

/// What runs a script on generated rows.
pub(super) fn task(scripted: Scripted) -> ScriptedTask {
    let (seq_len, batch) = scripted.size();
    let geometry = scripted.geometry(&geometry());
    ScriptedTask {
        rows: RowsSpec::Generated { geometry: geometry.clone(), seed: 5 },
        geometry,
        // Its name is not read.
        script: ScriptSpec {
            workload: Workload::Serve,
            scripted: Some(scripted),
            seq_len,
            batch,
            decode_steps: 2,
            prefill_chunk: 64,
            seed: 5,
        },
        instances: vec![],
        text: vec![],
        image: None,
        purpose: Purpose::Bytes,
    }
}

/// Runs a script once on generated rows, with a built-in strategy.
pub(super) fn run(scripted: Scripted, strategy: (&str, &str), measured: Measured) -> Result<Outcome, Refusal> {
    let (instance, task) = (instance(strategy)?, task(scripted));
    let registry = crate::builtin();
    match measured {
        Measured::Times => perform(&RowsHost::timed(&registry, &task, &instance), &task, Order::Usual, &|_, _| {}),
        Measured::Bytes => perform(&RowsHost::weighed(&registry, &task, &instance, &HeapMeter::start()), &task, Order::Usual, &|_, _| {}),
    }
}

impl Outcome {
    /// The number of a metric at a place.
    pub(super) fn at(&self, variant: &str, metric: &str, place: usize) -> Option<f64> {
        let is_meant = |point: &&kv_report::WorkloadPoint| point.variant == variant && point.metric == metric && point.at == place as f64;
        self.points.iter().find(is_meant).map(|point| point.value)
    }
}
