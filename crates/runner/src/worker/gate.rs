//! The worker that holds one instance against the conformance suite, so that a strategy proves itself before a number
//! about it is printed.

use kv_conformance::{CHECKS, Subject};
use kv_core::{Geometry, Registry};
use kv_report::{Pass, Status, Visit};

use super::channel::Channel;
use super::protocol::{GateTask, Work};
use crate::Problem;

pub(super) fn run(registry: &Registry, task: &GateTask, channel: &Channel) -> Result<(), Problem> {
    let GateTask { instance, geometry } = task;
    let entry = *registry.get(&instance.strategy).map_err(|error| Problem::new(error.to_string()))?;
    // A small model with rows of the real model's shape.
    let small = Geometry { layers: 3, heads: 6, kv_heads: 2, ..geometry.clone() };
    let subject = Subject::new(entry, instance.config.clone(), small).alone_in_its_process();
    let mut failures = vec![];
    for check in &CHECKS {
        channel.phase(Some(&instance.id), Work::Check(check.name.to_owned()));
        let (outcome, tokens) = kv_conformance::run(&subject, check.run);
        if let Err(failure) = outcome {
            failures.push((check.name, format!("{} (up to {tokens} tokens): {}", check.name, failure.what)));
        }
    }
    let visit = match failures.first() {
        None => Visit::passed(&instance.id, Pass::Gate),
        Some((first, _)) => {
            let all = failures.iter().map(|(_, failure)| failure.as_str()).collect::<Vec<_>>().join("; ");
            let reason = format!("it fails the conformance suite: {all}");
            Visit::failed(&instance.id, Pass::Gate, Status::Failed, first, &reason)
        }
    };
    channel.visit(visit);
    Ok(())
}
