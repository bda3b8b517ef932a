//! What the instances of a plan are: asked in a worker, because it runs their code.

use std::collections::BTreeMap;

use kv_report::{Build, BuildRecord, Status};

use super::Setting;
use super::job::instance_of;
use crate::Problem;
use crate::config::ConfigFile;
use crate::plan::{Cell, Plan, config_problem};
use crate::worker::process::{self, By, How, OnInterrupt, Program};
use crate::worker::protocol::{Message, ProbeFailure, ProbeTask, Probed, Task, Work};

/// What every instance is, by label.
#[derive(Debug)]
pub(crate) struct Probes {
    sizes: Vec<(usize, usize)>,
    known: BTreeMap<String, Probed>,
    broken: BTreeMap<String, Broken>,
    /// How the program was built, if it said so.
    build: Option<BuildRecord>,
}

/// An instance that cannot be built, or a cell that it has no room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) status: Status,
    pub(crate) phase: String,
    pub(crate) reason: String,
}

impl Probes {
    /// Asks every instance of a plan. `None` after Ctrl-C.
    ///
    /// # Errors
    /// A [`Problem`] that points at a config that its strategy refuses, or if no worker can be started.
    pub(crate) fn ask(setting: &Setting<'_>, plan: &Plan, file: &ConfigFile, build: Build) -> Result<Option<Probes>, Problem> {
        let size = |cell: &Cell| (plan.positions(cell), cell.batch);
        // Most caches end with the context.
        let within = |cell: &Cell| (plan.positions(cell).min(plan.context), cell.batch);
        let mut sizes: Vec<(usize, usize)> = plan.cells.iter().flat_map(|cell| [size(cell), within(cell)]).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let mut left: Vec<&Cell> = vec![];
        for cell in &plan.cells {
            if !left.iter().any(|other| other.label == cell.label) {
                left.push(cell);
            }
        }
        let mut probes = Probes { sizes: sizes.clone(), known: BTreeMap::new(), broken: BTreeMap::new(), build: None };
        let program = setting.program(build);
        let mut may_retry = true;
        while !left.is_empty() {
            let instances = left.iter().map(|cell| instance_of(cell, &cell.label)).collect();
            let task = ProbeTask { instances, geometry: setting.model_config.geometry.clone(), sizes: sizes.clone() };
            let mut answers = vec![];
            let ended = process::run(&program, &setting.job(Task::Probe(task)), setting.patience(0.0), OnInterrupt::AtOnce, |message| {
                match message {
                    Message::Probed { id, answer } => answers.push((id, answer)),
                    Message::Ready { build, .. } => probes.build = build,
                    _ => {}
                }
                Ok(())
            })?;
            for (label, answer) in answers {
                let Some(at) = left.iter().position(|cell| cell.label == label) else { continue };
                let cell = left.remove(at);
                match answer {
                    Ok(probed) => drop(probes.known.insert(label, probed)),
                    Err(ProbeFailure::Config(error)) => {
                        return Err(match &program {
                            Program::Own => config_problem(file, cell, &error),
                            Program::Other(path) => {
                                Problem::new(format!("`{}` refuses the parameters of `{label}`: {error}", path.display()))
                                    .help("`--only` leaves a strategy out that the two builds do not share")
                            }
                        });
                    }
                    Err(ProbeFailure::Panic(reason)) => probes.refuse(label, Status::Failed, reason),
                }
            }
            match ended.how {
                How::Finished => break,
                How::Interrupted => return Ok(None),
                How::Died(_, _, By::SomebodyElse) if std::mem::take(&mut may_retry) => {}
                How::Died(status, reason, _) => {
                    // The one in hand is to blame. The others are asked again.
                    let label = ended.phase.and_then(|phase| phase.id);
                    if let (Program::Other(path), None) = (&program, &probes.build) {
                        return Err(Problem::new(format!("`{}` does not answer as a worker: {reason}", path.display())).help(
                            "give the program of another build of this runner, for example target/debug/runner of another checkout",
                        ));
                    }
                    let Some(at) = left.iter().position(|cell| label.as_ref() == Some(&cell.label)) else {
                        return Err(Problem::new(format!("the worker that builds the strategies died: {reason}")));
                    };
                    probes.refuse(left.remove(at).label.clone(), status, reason);
                }
            }
        }
        Ok(Some(probes))
    }

    fn refuse(&mut self, label: String, status: Status, reason: String) {
        self.broken.insert(label, Broken { status, phase: Work::Build.to_string(), reason });
    }

    /// Why an instance cannot be built, if it cannot.
    pub(crate) fn broken(&self, label: &str) -> Option<&Broken> {
        self.broken.get(label)
    }

    /// Why a cell is not measured whatever the memory, if it is not: its instance cannot be built, or has no room for its tokens
    /// though they are all to be there.
    pub(crate) fn refusal(&self, plan: &Plan, cell: &Cell) -> Option<Broken> {
        let no_room = || {
            let most = self.known.get(&cell.label)?.room.get(self.size(plan, cell)?).copied().flatten()?;
            if plan.exceeds_context(cell) || plan.cache_bytes(cell).is_some() {
                return None;
            }
            let reason = format!("it has room for {most} tokens of each sequence only, and the cell needs {}", plan.positions(cell));
            Some(Broken { status: Status::Failed, phase: "plan".into(), reason })
        };
        self.broken(&cell.label).cloned().or_else(no_room)
    }

    /// Why a cell is not measured with the other build, if it is with this one: these are the other build's answers.
    pub(crate) fn refusal_beside(&self, own: &Probes, plan: &Plan, cell: &Cell) -> Option<Broken> {
        let is_another = self.recomputes(&cell.label) != own.recomputes(&cell.label);
        let recomputes = || Broken {
            status: Status::Failed,
            phase: "plan".into(),
            reason: "one of the builds recomputes with it, and the other does not".into(),
        };
        self.refusal(plan, cell).or_else(|| is_another.then(recomputes))
    }

    /// How the program was built, if it said so.
    pub(crate) fn build(&self) -> Option<&BuildRecord> {
        self.build.as_ref()
    }

    /// Whether an instance computes everything again at every step.
    pub(crate) fn recomputes(&self, label: &str) -> bool {
        self.known.get(label).is_some_and(|probed| probed.recomputes)
    }

    /// Positions of a cell's sequences in the end, no further than its cache reaches.
    pub(crate) fn positions(&self, plan: &Plan, cell: &Cell) -> usize {
        let reach = self.known.get(&cell.label).and_then(|probed| probed.reach).filter(|_| plan.exceeds_context(cell));
        plan.positions(cell).min(reach.unwrap_or(usize::MAX))
    }

    /// Bytes of a cell's caches in the end, as far as they reach. `None` if the strategy says nothing.
    pub(crate) fn bytes_in_the_end(&self, plan: &Plan, cell: &Cell) -> Option<u64> {
        if let Some(bytes) = plan.cache_bytes(cell) {
            return Some(bytes);
        }
        let size = (self.positions(plan, cell), cell.batch);
        let at = self.sizes.iter().position(|other| *other == size);
        at.and_then(|at| self.known.get(&cell.label)?.bytes.get(at).copied().flatten()).or(self.bytes(plan, cell).map(|(bytes, _)| bytes))
    }

    /// Bytes of caches of all of a cell's tokens, and whether that is a prediction or merely the least that the strategy says it takes.
    /// `None` if it says nothing.
    pub(crate) fn bytes(&self, plan: &Plan, cell: &Cell) -> Option<(u64, Certainty)> {
        let probed = self.known.get(&cell.label)?;
        if let Some(bytes) = plan.cache_bytes(cell) {
            return Some((bytes, Certainty::Predicted));
        }
        let at = self.size(plan, cell)?;
        let certainty = if probed.is_predicted { Certainty::Predicted } else { Certainty::Least };
        Some((probed.bytes.get(at).copied().flatten()?, certainty))
    }

    /// The place of a cell's size among those that were asked for.
    fn size(&self, plan: &Plan, cell: &Cell) -> Option<usize> {
        self.sizes.iter().position(|size| *size == (plan.positions(cell), cell.batch))
    }
}

/// How much a number of bytes is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// A bound.
    Predicted,
    /// It may be more.
    Least,
}
