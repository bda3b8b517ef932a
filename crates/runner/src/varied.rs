//! What a sweep varies: workloads, and the lengths and batches of those that have them.

use kv_model::ModelConfig;

use crate::Problem;
use crate::config::{ConfigFile, Workload};
use crate::workloads::{Scripted, unused_section};

/// The lengths and batches of a config, and its workloads that are scripts of their own.
pub(crate) struct Varied {
    lengths: Vec<usize>,
    batches: Vec<usize>,
    /// With what each does.
    pub(crate) scripted: Vec<(Workload, Scripted)>,
}

impl Varied {
    /// What a config varies, with a model.
    ///
    /// # Errors
    /// A [`Problem`] that points at a value that makes no sense, or that nothing would read.
    pub(crate) fn of(file: &ConfigFile, model: &ModelConfig) -> Result<Varied, Problem> {
        let workloads = &file.config.sweep.workloads.0;
        if workloads.is_empty() {
            let supported = Workload::ALL.map(|workload| format!("\"{workload}\"")).join(", ");
            return Err(file.problem_at(None, "`sweep.workloads` is empty").help(format!("supported: {supported}")));
        }
        if let Some(index) = (1..workloads.len()).find(|index| workloads[..*index].contains(&workloads[*index])) {
            return Err(file.problem_at(None, format!("`sweep.workloads` names `{}` twice", workloads[index])));
        }
        if let Some(section) = unused_section(file) {
            let message = format!("the section `[{section}]` is about a workload that is not run");
            return Err(file
                .problem_at(None, message)
                .help(format!("add \"{section}\" to `workloads` in [sweep], or leave the section out")));
        }
        let mut scripted = vec![];
        for workload in workloads {
            scripted.extend(Scripted::of(*workload, file, model)?.map(|script| (*workload, script)));
        }
        let read = if workloads.iter().any(|workload| workload.has_lengths()) { Read::ByAWorkload } else { Read::ByNone };
        Ok(Varied { lengths: lengths(file, read)?, batches: batches(file, read)?, scripted })
    }

    /// What a workload does, if it is a script of its own.
    pub(crate) fn script(&self, workload: Workload) -> Option<&Scripted> {
        self.scripted.iter().find(|(other, _)| *other == workload).map(|(_, script)| script)
    }

    /// Tokens and sequences of the cells of a workload, in order.
    pub(crate) fn sizes(&self, workload: Workload) -> Vec<(usize, usize)> {
        match self.script(workload) {
            Some(script) => vec![script.size()],
            None => self.batches.iter().flat_map(|batch| self.lengths.iter().map(|length| (*length, *batch))).collect(),
        }
    }
}

/// Whether a workload of the sweep reads lengths and batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    ByAWorkload,
    ByNone,
}

/// The lengths; none if nobody reads them.
fn lengths(file: &ConfigFile, read: Read) -> Result<Vec<usize>, Problem> {
    const EXAMPLE: &str = "for example \"128-4096*2\"";
    match (&file.config.sweep.lengths, read) {
        (None, Read::ByNone) => Ok(vec![]),
        (Some(lengths), Read::ByNone) => Err(unread(file, "lengths", lengths.span())),
        (None, Read::ByAWorkload) => {
            Err(file.problem_at(None, "`lengths` is missing in [sweep]: the workloads `decode` and `generate` need them").help(EXAMPLE))
        }
        (Some(lengths), Read::ByAWorkload) if lengths.get_ref().0.first().is_none_or(|first| *first == 0) => {
            Err(file.problem(lengths, "`lengths` must name at least one length, and none of 0").help(EXAMPLE))
        }
        (Some(lengths), Read::ByAWorkload) => Ok(lengths.get_ref().0.clone()),
    }
}

/// Numbers of sequences.
fn batches(file: &ConfigFile, read: Read) -> Result<Vec<usize>, Problem> {
    match (&file.config.sweep.batch, read) {
        (None, _) => Ok(vec![1]),
        (Some(batch), Read::ByNone) => Err(unread(file, "batch", batch.span())),
        (Some(batch), Read::ByAWorkload) => {
            let batches = &batch.get_ref().0;
            if batches.is_empty() || batches.contains(&0) {
                return Err(file
                    .problem(batch, "`batch` must name at least one number of sequences, and none of 0")
                    .help("for example [1, 4]"));
            }
            Ok(batches.clone())
        }
    }
}

fn unread(file: &ConfigFile, key: &str, span: std::ops::Range<usize>) -> Problem {
    let message = format!("`{key}` in [sweep] is read by the workloads `decode` and `generate` alone, and neither is run");
    file.problem_at(Some(span), message).help(format!("leave `{key}` out: the other workloads have sections of their own"))
}
