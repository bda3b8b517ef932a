//! Two runs, or two builds in one run, compared: the values that are the same on every machine strictly, and times by their
//! launches.

mod builds;
mod judged;
mod runs;
mod text;

use kv_report::{BuildRecord, Comparison, FailOn, Level, Results, RunRecord, RunState, Side};

use crate::Problem;

pub(crate) use text::text;

/// Compares a run with an earlier one.
///
/// # Errors
/// A [`Problem`] if one of them is of a whole model and the other of caches alone.
pub(crate) fn between_runs(before: &Results, after: &Results) -> Result<Comparison, Problem> {
    let is_of_model = |results: &Results| results.run.level == Level::Model;
    if is_of_model(before) != is_of_model(after) {
        let what = |results: &Results| if is_of_model(results) { "a whole model" } else { "caches alone" };
        return Err(Problem::new(format!("A has numbers of {}, and B of {}: they are not comparable", what(before), what(after)))
            .help("`level` in [sweep] must be the same in both"));
    }
    let side = |name: &'static str, results: &Results| Side { name, what: run_in_words(&results.run) };
    Ok(Comparison::of((side("A", before), before), (side("B", after), after), runs::times(before, after)))
}

/// Compares this build with another one that took turns with it.
pub(crate) fn between_builds(own: &Results, other: &Results) -> Comparison {
    let program = own.run.against.as_ref().map_or("another build", |against| against.program.as_str());
    let theirs = Side { name: "theirs", what: format!("{program}, {}", build_in_words(&other.run.build)) };
    let ours = Side { name: "ours", what: format!("this build, {}", build_in_words(&own.run.build)) };
    let comparison = Comparison::of((theirs, other), (ours, own), builds::times(own, other));
    let conditions = own.run.against.as_ref().and_then(|against| FailOn::parse(against.fail_on.as_ref()?).ok());
    match conditions {
        Some(conditions) => comparison.judged(&conditions),
        None => comparison,
    }
}

fn run_in_words(run: &RunRecord) -> String {
    let state = match run.state {
        RunState::Finished => "",
        RunState::Running | RunState::Interrupted => ", not finished",
    };
    format!("{}, started {}{state}, {}", run.title, run.started, build_in_words(&run.build))
}

fn build_in_words(build: &BuildRecord) -> String {
    let changes = if build.dirty == Some(true) { " with uncommitted changes" } else { "" };
    build.commit.as_ref().map_or_else(|| "of an unknown commit".to_owned(), |commit| format!("commit {commit}{changes}"))
}
