//! `best`: which measured strategy fits, and for each other why not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use kv_core::{Geometry, Registry, Rope};
use kv_report::{Answer, Candidate, Question, Results, RunRecord, counted};

use super::print;
use super::report::stored;
use crate::footprint::{self, Footprint};
use crate::screen::printable;
use crate::sizes::{UNITS, parse_bytes};
use crate::{Problem, exit};

/// Arguments of `best`.
#[derive(Debug, Args)]
#[command(
    after_help = "For example, what holds 8192 tokens in 64 MiB and changes next to nothing:\n  runner best reports/smollm2 --context 8192 --bytes 64MiB --max-kld 0.01"
)]
pub(crate) struct BestArguments {
    /// The folder of a run that measured quality: its config has a table `[quality]`.
    folder: PathBuf,
    /// Tokens of the sequence.
    #[arg(long, value_name = "TOKENS")]
    context: usize,
    /// The most memory that the cache may take, for example 64MiB.
    #[arg(long, value_name = "SIZE")]
    bytes: Option<String>,
    /// The largest mean KL divergence of the next token's distribution from that with an exact cache, in nats, prompt exact: read
    /// after an exactly computed prompt.
    #[arg(long, value_name = "NATS", allow_negative_numbers = true)]
    max_kld: Option<f64>,
    /// The longest time per output token, in milliseconds. It holds only where it was measured at exactly this context.
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    max_tpot_ms: Option<f64>,
}

pub(crate) fn best(registry: &Registry, arguments: &BestArguments) -> Result<ExitCode, Problem> {
    let BestArguments { folder, context, bytes, max_kld, max_tpot_ms } = arguments;
    if *context == 0 {
        return Err(Problem::new("`--context 0`: a sequence has at least 1 token"));
    }
    for (flag, bound) in [("--max-kld", max_kld), ("--max-tpot-ms", max_tpot_ms)] {
        if let Some(bound) = bound.filter(|bound| !(bound.is_finite() && *bound >= 0.0)) {
            return Err(Problem::new(format!("`{flag} {bound}`: a bound is a number that is not negative")));
        }
    }
    let bytes = bytes.as_ref().map(|size| parse_bytes(size).map_err(|wrong| Problem::new(format!("`--bytes {size}` {wrong}")).help(UNITS)));
    let results = stored(folder)?;
    require_quality(folder, &results)?;
    require_countable(&results.run, *context)?;
    let question = Question {
        context: *context,
        bytes: bytes.transpose()?,
        max_kld: *max_kld,
        max_tpot_ms: *max_tpot_ms,
        predicted: predicted(registry, &results.run, *context),
    };
    let answer = kv_report::best(&results, &question);
    print(&text(&question, &answer, results.run.model.geometry.context))?;
    Ok(if answer.winner().is_some() { exit::OK } else { exit::some_failed() })
}

/// Refuses a run that was not asked for quality: a cache that loses most would be as good as any.
fn require_quality(folder: &Path, results: &Results) -> Result<(), Problem> {
    if kv_report::has_quality(results) || results.run.config.get("quality").is_some() {
        return Ok(());
    }
    let message = format!("`{}` measured no quality: its config has no section [quality]", folder.display());
    Err(Problem::new(message).help(
        "add `[quality]` with a `text` to the config and run it again, as bench-configs/quickstart.toml does; without a text it compares attention alone",
    ))
}

/// Refuses a context for which bytes cannot be counted.
fn require_countable(run: &RunRecord, context: usize) -> Result<(), Problem> {
    let at = |context| geometry(run, context).check();
    match at(context) {
        // Older results do not say what shape the model has.
        Err(error) if at(1).is_ok() => {
            let lengths = || run.cells.iter().map(|cell| cell.seq_len);
            let measured = lengths().min().zip(lengths().max());
            let help = measured.map_or(String::new(), |(least, most)| format!(": this run measured {least} to {most} tokens"));
            Err(Problem::new(format!("`--context {context}`: {error}")).help(format!("ask for fewer tokens{help}")))
        }
        _ => Ok(()),
    }
}

/// What the formulas of a run's strategies say at this context, by label. A strategy that this program does not have says nothing.
fn predicted(registry: &Registry, run: &RunRecord, context: usize) -> BTreeMap<String, u64> {
    let geometry = geometry(run, context);
    let instances = run.config.get("strategy").and_then(|strategies| strategies.as_array()).into_iter().flatten();
    let bytes = instances.filter_map(|instance| {
        let (label, id) = (instance.get("label")?.as_str()?, instance.get("use")?.as_str()?);
        let config = instance.get("config").map_or(Some(toml::Table::new()), |config| toml::Table::try_from(config).ok())?;
        let footprint = Footprint::of(*registry.get(id).ok()?, &config, &geometry, 1).ok()?;
        match footprint.answer(context) {
            footprint::Answer::Bytes(bytes) => Some((label.to_owned(), bytes.total() as u64)),
            _ => None,
        }
    });
    bytes.collect()
}

/// The shape of a run's model, with room for a context.
fn geometry(run: &RunRecord, context: usize) -> Geometry {
    let of = &run.model.geometry;
    Geometry {
        layers: of.layers,
        heads: of.heads,
        kv_heads: of.kv_heads,
        key_dim: of.key_dim,
        value_dim: of.value_dim,
        // Bytes do not depend on it.
        rope: Rope::new(10_000.0, of.key_dim - of.key_dim % 2),
        context: of.context.max(context),
    }
}

fn text(question: &Question, answer: &Answer, context: usize) -> String {
    let bound = |name: &str, value: Option<String>| value.map(|value| format!("{name} {value}"));
    let bounds: Vec<String> = [
        bound("bytes at most", question.bytes.map(|bytes| bytes.to_string())),
        bound("KL divergence (prompt exact) at most", question.max_kld.map(|kld| kld.to_string())),
        bound("milliseconds per token at most", question.max_tpot_ms.map(|ms| ms.to_string())),
    ]
    .into_iter()
    .flatten()
    .collect();
    let made_for = if question.context > context {
        format!(" The model was made for {context}: what it writes beyond that may make no sense.")
    } else {
        String::new()
    };
    let shown = if bounds.is_empty() { "no bounds".to_owned() } else { bounds.join(", ") };
    let far = answer.far.as_ref().map_or(String::new(), |far| format!(" {far}"));
    let mut text = format!("One sequence of {}, {shown}.{made_for}{far}\n\n", counted(question.context, "token"));
    text.push_str(&match answer.winner() {
        Some(Candidate { label, sentence, .. }) => format!("{}\n  {}\n", printable(label), printable(sentence)),
        None => "None of the strategies that were measured fits.\n".to_owned(),
    });
    text.push_str(&format!("\n{}\n", answer.rule));
    if bounds.is_empty() {
        text.push_str("Nothing was asked for but the context, so the most exact is named: `--bytes`, `--max-kld` and `--max-tpot-ms` are bounds that it must fit.\n");
    }
    let others: Vec<&Candidate> = answer.candidates.iter().skip(usize::from(answer.winner().is_some())).collect();
    if !others.is_empty() {
        text.push_str("\nWhy not the others:\n");
    }
    for Candidate { label, sentence, why_not, .. } in others {
        text.push_str(&format!("\n{}\n  {}\n", printable(label), printable(sentence)));
        why_not.iter().for_each(|reason| text.push_str(&format!("  {}\n", printable(reason))));
    }
    text
}
