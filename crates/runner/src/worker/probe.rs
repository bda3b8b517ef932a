//! The worker that asks instances what they are. Building a cache runs a strategy's code, so the runner does not do it.

use kv_core::{Entry, KvCache, Registry};

use super::caught;
use super::channel::Channel;
use super::protocol::{InstanceSpec, Message, ProbeFailure, ProbeTask, Probed, Work};
use crate::Problem;
use crate::footprint::{Answer, Footprint};

pub(super) fn run(registry: &Registry, task: &ProbeTask, channel: &Channel) -> Result<(), Problem> {
    for instance in &task.instances {
        channel.phase(Some(&instance.id), Work::Build);
        let entry = registry.get(&instance.strategy).map_err(|error| Problem::new(error.to_string()))?;
        // A panic is the outer error, a config that is refused the inner one.
        let answer = match caught(|| Ok(probed(task, instance, entry))) {
            Ok(answer) => answer.map_err(ProbeFailure::Config),
            Err(panic) => Err(ProbeFailure::Panic(panic)),
        };
        channel.send(&Message::Probed { id: instance.id.clone(), answer });
    }
    Ok(())
}

fn probed(task: &ProbeTask, instance: &InstanceSpec, entry: &Entry) -> Result<Probed, String> {
    let cache = entry.build(&instance.config, &task.geometry).map_err(|error| error.to_string())?;
    let predict = |&(tokens, sequences): &(usize, usize)| {
        let predicted = entry.predicted_bytes(&instance.config, &task.geometry, tokens, sequences).map_err(|error| error.to_string())?;
        Ok(predicted.map(|bytes| bytes.total() as u64))
    };
    let predicted = task.sizes.iter().map(predict).collect::<Result<Vec<_>, String>>()?;
    let is_predicted = predicted.iter().all(Option::is_some);
    let bytes = if is_predicted { predicted } else { task.sizes.iter().map(|size| least(cache.as_ref(), *size)).collect() };
    let room = task.sizes.iter().map(|size| room(task, instance, entry, *size)).collect::<Result<Vec<_>, String>>()?;
    Ok(Probed { recomputes: cache.recomputes(), bytes, is_predicted, reach: cache.reach(task.geometry.context), room })
}

/// The most tokens of each sequence, if these are more.
fn room(task: &ProbeTask, instance: &InstanceSpec, entry: &Entry, (tokens, sequences): (usize, usize)) -> Result<Option<usize>, String> {
    match Footprint::of(*entry, &instance.config, &task.geometry, sequences)?.answer(tokens) {
        Answer::NoRoom { most } => Ok(Some(most)),
        Answer::Bytes(_) | Answer::Uncountable | Answer::DoesNotSay => Ok(None),
    }
}

/// The least that a cache says it takes, if it says anything.
fn least(cache: &dyn KvCache, (tokens, sequences): (usize, usize)) -> Option<u64> {
    Some(cache.least_bytes(tokens)).filter(|bytes| *bytes > 0).map(|bytes| bytes.saturating_mul(sequences) as u64)
}
