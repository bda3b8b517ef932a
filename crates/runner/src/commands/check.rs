//! `check`: the conformance suite at run time, over any registered strategy.

use std::process::ExitCode;

use kv_conformance::{CHECKS, Outcome, Report, Subject, Verdict, report, toy_geometry};
use kv_core::{Entry, Registry};
use serde_json::json;

use super::{print, use_threads};
use crate::cli::CheckArguments;
use crate::config::{parameters, unknown_field_help};
use crate::problem::known_strategy;
use crate::progress::say;
use crate::{Problem, exit, free_memory};

/// Sequences that the suite opens in one cache, at most.
const SEQUENCES: usize = 32;

pub(crate) fn check(registry: &Registry, arguments: &CheckArguments) -> Result<ExitCode, Problem> {
    let entries = chosen(registry, &arguments.strategies)?;
    let config = parameters(&arguments.sets)?;
    let geometry = toy_geometry();
    for entry in &entries {
        let cache = entry.build(&config, &geometry).map_err(|error| {
            let help = unknown_field_help(&error.to_string())
                .unwrap_or_else(|| format!("`runner describe {}` explains every parameter", entry.id()));
            Problem::new(format!("`--set`: strategy `{}` cannot be built for keys of 64 and values of 32: {error}", entry.id())).help(help)
        })?;
        let bytes = cache.least_bytes(1).saturating_mul(SEQUENCES);
        free_memory::require(bytes, &format!("`{}` with {SEQUENCES} sequences at once", entry.id()))?;
    }
    use_threads(None)?;
    let mut results = vec![];
    for entry in entries {
        say(&format!("checking {}", entry.id()));
        let subject =
            Subject::new(*entry, config.clone(), geometry.clone()).with_long_run(arguments.tokens as usize).alone_in_its_process();
        results.push((entry.id(), report(&subject)));
    }
    let failed = results.iter().any(|(_, reports)| reports.iter().any(|report| report.outcome.is_err()));
    let text = if arguments.json { as_json(&results) } else { as_table(&results) };
    print(&text)?;
    Ok(if failed { exit::some_failed() } else { exit::OK })
}

type Results = Vec<(&'static str, Vec<Report>)>;

fn chosen<'a>(registry: &'a Registry, ids: &[String]) -> Result<Vec<&'a Entry>, Problem> {
    if ids.is_empty() {
        return Ok(registry.iter().collect());
    }
    ids.iter().map(|id| known_strategy(registry, id)).collect()
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Ok(Verdict::Passed) => "passed",
        Ok(Verdict::Skipped(_)) => "n/a",
        Ok(Verdict::NotRun(_)) => "NOT RUN",
        Err(_) => "FAILED",
    }
}

/// A row for each check and a column for each strategy, then every failure and everything skipped, with its reason, and how much
/// was skipped.
fn as_table(results: &Results) -> String {
    let width = CHECKS.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = format!("{:width$}", "check");
    results.iter().for_each(|(id, _)| text.push_str(&format!("  {id:>12}")));
    text.push('\n');
    for (row, check) in CHECKS.iter().enumerate() {
        text.push_str(&format!("{:width$}", check.name));
        for (_, reports) in results {
            let Report { outcome, tokens, .. } = &reports[row];
            let tokens = if matches!(outcome, Ok(Verdict::Passed) | Err(_)) { tokens.to_string() } else { String::new() };
            text.push_str(&format!("  {:>12}", format!("{} {tokens:>4}", word(outcome))));
        }
        text.push('\n');
    }
    text.push_str("\nThe numbers are the tokens of the longest sequence that each check fed. Longer sequences were not checked.\n");
    for (id, reports) in results {
        for Report { check, outcome, tokens } in reports {
            match outcome {
                Ok(Verdict::Passed) => {}
                Ok(Verdict::Skipped(reason)) => text.push_str(&format!("\n{id}: {} does not apply: {reason}", check.name)),
                Ok(Verdict::NotRun(reason)) => text.push_str(&format!("\n{id}: {} was NOT RUN: {reason}", check.name)),
                Err(failure) => {
                    let (name, what) = (check.name, check.what);
                    text.push_str(&format!("\n{id}: {name} FAILED after at most {tokens} tokens: {failure}\n  requires: {what}"));
                }
            }
        }
    }
    text.push('\n');
    for (id, reports) in results {
        let skipped = reports.iter().filter(|report| matches!(report.outcome, Ok(Verdict::Skipped(_)))).count();
        if skipped > 0 {
            text.push_str(&format!("\n{id}: {skipped} of {} checks do not apply", reports.len()));
        }
    }
    text.push('\n');
    text
}

fn as_json(results: &Results) -> String {
    let outcome = |Report { check, outcome, tokens }: &Report| {
        let reason = match outcome {
            Ok(Verdict::Passed) => None,
            Ok(Verdict::Skipped(reason) | Verdict::NotRun(reason)) => Some(reason.clone()),
            Err(failure) => Some(failure.what.clone()),
        };
        let mend = outcome.as_ref().err().map(|failure| failure.mend.clone());
        json!({ "check": check.name, "outcome": word(outcome).to_lowercase(), "tokens": tokens, "reason": reason, "mend": mend })
    };
    let strategies: Vec<_> =
        results.iter().map(|(id, reports)| json!({ "strategy": id, "checks": reports.iter().map(outcome).collect::<Vec<_>>() })).collect();
    serde_json::to_string_pretty(&strategies).unwrap_or_default() + "\n"
}
