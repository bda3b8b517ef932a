//! The worker that runs workloads that are scripts of their own.
//!
//! To be timed, all instances of a block run the script in turns, several times, each time with fresh caches. To be weighed, one
//! instance runs it on rows of the model's shape, without the model, so that every byte is the cache's.

mod chat;
mod classify;
mod multimodal;
mod order;
mod outcome;
mod refusal;
mod serve;
mod serve_bytes;
mod serve_record;
mod speculative;
mod stage;
mod stream;
mod summarise;
#[cfg(test)]
mod testing;

use kv_core::Registry;
use kv_metrics::HeapMeter;
use kv_report::{Fill, Pass, Status, Visit};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::channel::Channel;
use super::disturbance::{Disturbance, Watch};
use super::protocol::{InstanceSpec, Message, Purpose, RowsSpec, ScriptedTask, Work};
use super::{caught, memory_bandwidth, on_the_pool, record};
use crate::Problem;
use crate::roofline::last_level_cache;
use crate::workloads::Scripted;
use order::Order;
use outcome::{Outcome, Rounds};
use refusal::Refusal;
use stage::{Host, ModelHost, RowsHost};

pub(super) fn run(registry: &Registry, task: &ScriptedTask, channel: &Channel) -> Result<(), Problem> {
    match (&task.purpose, &task.rows) {
        (Purpose::Bytes, _) => weigh(registry, task, channel),
        (Purpose::Time { .. }, RowsSpec::Model(model)) if is_of_model(task) => {
            let (model, loaded) = record::load(model, channel)?;
            channel.send(&Message::Model(loaded));
            let host = |instance| ModelHost { registry, instance, decoder: &model.decoder };
            time(task, channel, &host);
        }
        (Purpose::Time { .. }, _) => time(task, channel, &|instance| RowsHost::timed(registry, task, instance)),
    }
    Ok(())
}

fn is_of_model(task: &ScriptedTask) -> bool {
    task.script.scripted.as_ref().is_some_and(Scripted::needs_model)
}

/// Runs the script of a task once, its ways of doing the work in this order.
fn perform<H: Host>(host: &H, task: &ScriptedTask, order: Order, progress: &dyn Fn(usize, usize)) -> Result<Outcome, Refusal> {
    let script = &task.script;
    match &script.scripted {
        Some(Scripted::Chat(chat)) => chat::run(host, chat, script, order, progress),
        Some(Scripted::Classify(classify)) => classify::run(host, classify, script, order, progress),
        Some(Scripted::Multimodal(multimodal)) => multimodal::run(host, multimodal, script, task.image.as_deref(), order, progress),
        Some(Scripted::Serve(serve)) => serve::run(host, serve, script, progress),
        Some(Scripted::Summarise(summarise)) => summarise::run(host, summarise, script, progress),
        Some(Scripted::Stream(stream)) => stream::run(host, stream, script, &task.text, progress),
        Some(Scripted::Speculative(speculative)) => speculative::run(host, speculative, script, order, progress),
        None => Err(Refusal::Failed(format!("the workload `{}` is no script of its own", script.workload))),
    }
}

/// An instance that takes its turns.
struct Player<'a, H> {
    instance: &'a InstanceSpec,
    /// Whether it is the baseline's double.
    is_control: bool,
    host: H,
    turns: Vec<u32>,
    rounds: Rounds,
    disturbance: Disturbance,
}

/// Lets all instances run the script in turns.
fn time<'a, H: Host>(task: &'a ScriptedTask, channel: &Channel, host: &dyn Fn(&'a InstanceSpec) -> H) {
    let Purpose::Time { launch, control, rounds, order_seed } = &task.purpose else { return };
    let mut order = ChaCha8Rng::seed_from_u64((*order_seed).into());
    let doubled = task.instances.iter().filter(|instance| control.as_ref() == Some(&instance.id)).map(|instance| (instance, true));
    let player = |(instance, is_control)| Player {
        instance,
        is_control,
        host: host(instance),
        turns: vec![],
        rounds: Rounds::default(),
        disturbance: Disturbance::default(),
    };
    let mut players: Vec<Player<'a, H>> = task.instances.iter().map(|instance| (instance, false)).chain(doubled).map(player).collect();
    let of = |player: &Player<'a, H>, visit: Visit| Visit {
        launch: *launch,
        process: Some(std::process::id()),
        control: player.is_control,
        turns: player.turns.clone(),
        ..visit
    };
    let bandwidth = on_the_pool(memory_bandwidth::measure);
    for round in 0..*rounds {
        let mut turns: Vec<usize> = (0..players.len()).collect();
        turns.shuffle(&mut order);
        let mut failed = vec![];
        for (turn, index) in turns.into_iter().enumerate() {
            let player = &mut players[index];
            player.turns.push(turn as u32);
            channel.phase(Some(&player.instance.id), Work::Script);
            let watch = Watch::start();
            let order = Order::of_round(round);
            let ran = caught(|| Ok(on_the_pool(|| perform(&player.host, task, order, &|done, all| channel.progress(done, all)))));
            player.disturbance.add(watch.stop());
            match ran.unwrap_or_else(|panic| Err(Refusal::Failed(panic))) {
                Ok(outcome) => player.rounds.add(round as u32, outcome),
                Err(refusal) => {
                    let visit =
                        Visit::failed(&player.instance.id, Pass::Latency, refusal.status(), &Work::Script.to_string(), refusal.reason());
                    channel.visit(of(player, visit));
                    failed.push(index);
                }
            }
        }
        failed.sort_unstable();
        failed.into_iter().rev().for_each(|index| drop(players.remove(index)));
    }
    for player in players {
        let visit = of(&player, Visit::passed(&player.instance.id, Pass::Latency));
        let guarantee = caught(|| player.host.cache().map(|cache| cache.guarantee().to_string())).ok();
        let mut values = player.disturbance.values();
        values.extend(bandwidth.map(|bandwidth| ("read_bandwidth", bandwidth)));
        values.extend(last_level_cache().map(|bytes| ("last_level_cache_bytes", bytes as f64)));
        let fill = if is_of_model(task) { Fill::Prefill } else { Fill::Generated };
        let mut visit = Visit { guarantee, fill: Some(fill), ..player.rounds.into_visit(visit) };
        visit.values.extend(values.into_iter().map(|(id, value)| (id.to_owned(), value)));
        channel.visit(visit);
    }
}

/// Counts the bytes of an instance along the script.
fn weigh(registry: &Registry, task: &ScriptedTask, channel: &Channel) {
    let Some(instance) = task.instances.first() else { return };
    channel.phase(Some(&instance.id), Work::CountBytes);
    let mut visit = Visit::passed(&instance.id, Pass::Memory);
    if !kv_metrics::counts_allocations() {
        visit.notes.push("heap bytes were not counted: the program does not install the counting allocator".into());
        return channel.visit(visit);
    }
    let counted = caught(|| {
        Ok(on_the_pool(|| {
            rayon::broadcast(|_| ());
            let meter = HeapMeter::start();
            perform(&RowsHost::weighed(registry, task, instance, &meter), task, Order::Usual, &|done, all| channel.progress(done, all))
        }))
    });
    channel.visit(match counted.unwrap_or_else(|panic| Err(Refusal::Failed(panic))) {
        Ok(outcome) => {
            let mut rounds = Rounds::default();
            rounds.add(0, outcome);
            rounds.into_visit(visit)
        }
        // What cannot be done is said by those who time it.
        Err(refusal) if refusal.status() == Status::Unsupported => visit,
        Err(refusal) => Visit::failed(&instance.id, Pass::Memory, refusal.status(), &Work::CountBytes.to_string(), refusal.reason()),
    });
}
