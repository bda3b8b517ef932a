//! `generate`: greedy text with one strategy, and what it cost.

use std::process::ExitCode;
use std::time::Instant;

use kv_core::{Entry, KvCache, Registry};
use kv_metrics::quantile;
use kv_model::{Model, ModelConfig, ModelError};
use kv_report::counted;
use kv_script::{Event, Interpreter, Script, ScriptError, names};

use super::trace::{Trace, TraceRow};
use super::{print, prompt, use_threads};
use crate::cli::GenerateArguments;
use crate::config::{parameters, unknown_field_help};
use crate::drivers::ModelDriver;
use crate::models::{self, ModelFolders, ModelSource};
use crate::problem::known_strategy;
use crate::progress::say;
use crate::{Problem, build, exit, free_memory};

pub(crate) fn generate(registry: &Registry, arguments: &GenerateArguments) -> Result<ExitCode, Problem> {
    let source = ModelSource::of_argument(&arguments.model, &ModelFolders::of_environment())?;
    source.require_text()?;
    let entry = known_strategy(registry, &arguments.strategy)?;
    let config = parameters(&arguments.sets)?;
    if arguments.prefill_chunk == 0 {
        return Err(Problem::new("`--prefill-chunk 0`: a step feeds at least 1 token"));
    }
    if let Some(known) = source.known_config() {
        build_cache(entry, &config, &known.geometry)?;
    }
    let prompt = prompt::read(&arguments.prompt)?;
    build::require_optimised()?;
    use_threads(arguments.threads)?;
    say(&format!("loading {}", source.label()));
    let (model, _) = models::load(&source, arguments.pages.pages())?;
    model.text_notes.iter().for_each(|note| say(note));
    let mut cache = build_cache(entry, &config, &model.decoder.config().geometry)?;
    continue_prompt(&model, cache.as_mut(), &prompt, arguments)
}

/// The cache with these parameters.
///
/// # Errors
/// A [`Problem`] that names the parameter.
pub(super) fn build_cache(entry: &Entry, config: &toml::Table, geometry: &kv_core::Geometry) -> Result<Box<dyn KvCache>, Problem> {
    entry.build(config, geometry).map_err(|error| {
        let help =
            unknown_field_help(&error.to_string()).unwrap_or_else(|| format!("`runner describe {}` explains every parameter", entry.id()));
        Problem::new(format!("`--set`: strategy `{}` cannot be built: {error}", entry.id())).help(help)
    })
}

fn continue_prompt(model: &Model, cache: &mut dyn KvCache, prompt_text: &str, arguments: &GenerateArguments) -> Result<ExitCode, Problem> {
    let stopped = |error: ScriptError<ModelError>| Problem::new(format!("generation stopped: {error}"));
    let prompt = model.tokenizer.encode(prompt_text).map_err(|error| Problem::new("the prompt cannot be tokenized").caused_by(error))?;
    if prompt.is_empty() {
        return Err(Problem::new("the prompt is empty: a step needs at least one token"));
    }
    let most = new_tokens(prompt.len(), arguments.max_new_tokens, cache, model.decoder.config())?;
    let step = if cache.recomputes() { prompt.len() } else { arguments.prefill_chunk.min(prompt.len()) };
    let bytes = cache.least_bytes(prompt.len()).saturating_add(model.decoder.config().step_bytes(step));
    free_memory::require(bytes, &format!("a prompt of {} in steps of {step}", counted(prompt.len(), "token")))?;
    // The text may end long before it has all the tokens that it may have.
    let longest = prompt.len().saturating_add(most);
    if free_memory::require(cache.least_bytes(longest), "").is_err() {
        say(&format!("the cache of all {longest} tokens would not fit into memory: `--max-new-tokens` below {most} is safer"));
    }
    let unreadable = |error: kv_model::LoadError| Problem::new("the tokens cannot be turned into text").caused_by(error);
    let mut text = model.tokenizer.stream(&prompt).map_err(unreadable)?;
    let trace = if arguments.trace { Some(Trace::new()?) } else { None };
    let mut written = String::new();
    let mut write = |piece: &str| {
        written.push_str(piece);
        if trace.is_none() { print(piece) } else { Ok(()) }
    };

    let mut interpreter = Interpreter::new(ModelDriver::new(&model.decoder));
    // The script of one sequence: it is opened, then fed.
    let sequences = names(1);
    let script = Script::prefill(&[&prompt], step);
    let (open, feed) = script.events.split_at(sequences.len());
    open.iter().try_for_each(|event| interpreter.run(cache, event)).map_err(stopped)?;
    let start = Instant::now();
    let mut before = TraceRow::before(cache, 0, prompt.len());
    feed.iter().try_for_each(|event| interpreter.run(cache, event)).map_err(stopped)?;
    let ttft = start.elapsed();
    if let Some(trace) = &trace {
        trace.prompt(before, cache, prompt.len(), ttft)?;
    }
    let decode = Event::Step { sequences: sequences.clone() };
    let mut steps = vec![];
    let mut failure = None;
    for step in 0..most {
        let Some(next) = interpreter.next_token(&sequences[0]).filter(|next| !model.tokenizer.is_end(*next)) else { break };
        let piece = text.push(next).map_err(unreadable)?;
        write(&piece)?;
        if step + 1 == most {
            break;
        }
        before = TraceRow::before(cache, prompt.len() + step, 1);
        let start = Instant::now();
        if let Err(error) = interpreter.run(cache, &decode) {
            failure = Some(error);
            break;
        }
        let elapsed = start.elapsed();
        steps.push(elapsed.as_secs_f64() * 1e3);
        if let Some(trace) = &trace {
            let shown = model.tokenizer.has_text(next).then_some(piece.as_str());
            trace.token(before, cache, next, shown, elapsed)?;
        }
    }
    write(&text.finish().map_err(unreadable)?)?;
    match trace {
        Some(_) => print(&format!("\n{prompt_text}{written}\n"))?,
        None => print("\n")?,
    }
    say(&costs(cache, prompt.len(), ttft.as_secs_f64() * 1e3, &steps));
    match failure {
        Some(error) => {
            say(&format!("generation stopped early: {error}"));
            Ok(exit::some_failed())
        }
        None => Ok(exit::OK),
    }
}

/// How many tokens are generated: as many as were asked for, or as a sequence with this cache has room for.
///
/// # Errors
/// A [`Problem`] if there is no room for one.
fn new_tokens(prompt: usize, asked_for: usize, cache: &dyn KvCache, model: &ModelConfig) -> Result<usize, Problem> {
    let context = model.geometry.context;
    let Some(reach) = cache.reach(context) else { return Ok(asked_for) };
    let beyond = |new: usize| ModelError::Reach { needed: prompt.saturating_add(new), reach, context };
    let room = reach.saturating_sub(prompt);
    if room == 0 {
        let help = format!(
            "the longest prompt has {} tokens; with a window that fits into the context there is no limit: `--strategy sliding`",
            reach.saturating_sub(1)
        );
        return Err(Problem::new(format!("there is no room for a new token behind the prompt's {prompt}: {}", beyond(1))).help(help));
    }
    if asked_for > room {
        say(&format!("generation stops after {room} of the {asked_for} tokens requested: {}", beyond(asked_for)));
    }
    Ok(asked_for.min(room))
}

fn costs(cache: &dyn KvCache, prompt: usize, ttft_ms: f64, steps: &[f64]) -> String {
    let usage = cache.usage();
    let tpot =
        quantile(steps, 0.5).map_or("no step".to_owned(), |milliseconds| format!("{milliseconds:.2} ms (median of {})", steps.len()));
    format!(
        "TTFT {ttft_ms:.1} ms for {}; TPOT {tpot}; cache {} bytes ({} payload, {} metadata, {} slack) for {} of {} tokens; {}",
        counted(prompt, "token"),
        usage.reserved_bytes(),
        usage.payload_bytes,
        usage.metadata_bytes,
        usage.slack_bytes,
        usage.resident_tokens,
        usage.seen_tokens,
        cache.guarantee()
    )
}
