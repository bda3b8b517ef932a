//! `profile`: who allocates what under one strategy, with dhat.
//!
//! It runs in this process, as `check` and `generate` do. The cache is fed rows of a model's shape, as in the memory pass.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kv_core::{CacheError, Entry, Geometry, KvCache, Registry};
use kv_metrics::{HeapProfile, counts_allocations};
use kv_script::{Attention, Event, Interpreter, Name, RowsDriver, Script, ScriptError};

use super::generate::build_cache;
use super::roofline::shape_of;
use super::{print, use_threads};
use crate::cli::ProfileArguments;
use crate::config::parameters;
use crate::drivers::Generated;
use crate::heap_sites::{HeapFile, Sums, functions_at};
use crate::problem::known_strategy;
use crate::progress::{human, say, tell};
use crate::worker::caught;
use crate::{Problem, exit, free_memory};

/// Tokens of the prompt that are fed in one step, unless the strategy recomputes.
const CHUNK: usize = 512;

/// Decode steps after the prompt.
const STEPS: usize = 16;

/// Sites in the table.
const SITES: usize = 10;

pub(crate) fn profile(registry: &Registry, arguments: &ProfileArguments) -> Result<ExitCode, Problem> {
    let ProfileArguments { strategy, model, sets, length, out } = arguments;
    let entry = known_strategy(registry, strategy)?;
    let config = parameters(sets)?;
    let (_, geometry) = shape_of(model)?;
    if !counts_allocations() {
        let message = "this program does not install the counting allocator, and nothing can be profiled without it";
        let help = "add to its `main.rs`: #[global_allocator] static ALLOCATOR: runner::CountingAllocator = runner::CountingAllocator;";
        return Err(Problem::new(message).help(help));
    }
    let recomputes = match caught(|| Ok(build_cache(entry, &config, &geometry))) {
        Ok(cache) => {
            let cache = cache?;
            check_length(*length, model, geometry.context, cache.reach(geometry.context))?;
            // A fork may copy everything. The script has the tokens twice.
            let tokens = length.saturating_mul(size_of::<u32>());
            let bytes = cache.least_bytes(length.saturating_add(STEPS + 1)).saturating_add(tokens).saturating_mul(2);
            free_memory::require(bytes, &format!("`{strategy}` with {length} tokens and a fork of them"))?;
            cache.recomputes()
        }
        Err(panic) => return Ok(failed(entry, &panic)),
    };
    use_threads(None)?;
    // Threads, with what they allocate once, come into being before the profile.
    rayon::broadcast(|_| ());
    let chunk = if recomputes { *length } else { CHUNK.min(*length) };
    let unwritten = |error| Problem::new(format!("`--out`: cannot write `{}`", out.display())).caused_by(error);
    let partial = Partial::beside(out).map_err(unwritten)?;
    let tokens = vec![0; *length];
    let script = Script::prefill(&[&tokens], chunk).then(Script::decode(1, STEPS));

    let began = Instant::now();
    let heap = HeapProfile::start(&partial.0);
    let outcome = caught(|| drive(entry, &config, &geometry, &script));
    drop(heap);
    let took = began.elapsed();
    let forked = match outcome {
        Ok(forked) => forked,
        Err(failure) => return Ok(failed(entry, &failure)),
    };
    let what = format!(
        "{strategy} with rows of {model}'s shape: {length} tokens in steps of {chunk}, {STEPS} decode steps, {}, closed",
        if forked { "a fork and a step of both" } else { "no fork (it supports none)" }
    );
    let file = read(&partial.0)?;
    partial.replace(out).map_err(unwritten)?;
    print(&format!("{what}\n\n{}", as_text(&file, entry.crate_name(), took, out)))?;
    Ok(exit::OK)
}

/// The file that dhat writes. It takes the place of the user's when it is whole, and is gone if it never is.
struct Partial(PathBuf);

impl Partial {
    /// An empty file beside `out`: dhat tells nobody that it cannot write.
    fn beside(out: &Path) -> io::Result<Partial> {
        if out.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let mut name = out.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let path = out.with_file_name(name);
        File::create(&path)?;
        Ok(Partial(path))
    }

    fn replace(self, out: &Path) -> io::Result<()> {
        fs::rename(&self.0, out)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It is not there any more if it took its place.
        let _ = fs::remove_file(&self.0);
    }
}

fn check_length(length: usize, model: &str, context: usize, reach: Option<usize>) -> Result<(), Problem> {
    // The step after the fork is one more.
    let longest = reach.unwrap_or(usize::MAX).saturating_sub(STEPS + 1);
    if !(1..=longest).contains(&length) {
        let message = format!("`--length {length}`: the context of `{model}` is {context}");
        let help = format!("with {STEPS} decode steps and one after the fork, a length is at least 1 and at most {longest}");
        return Err(Problem::new(message).help(help));
    }
    Ok(())
}

/// Says that the strategy failed.
fn failed(entry: &Entry, failure: &str) -> ExitCode {
    tell(Problem::new(format!("`{}` was not profiled to the end: {failure}", entry.id())));
    exit::some_failed()
}

/// Builds the cache, runs the script, forks the sequence, steps both and closes them. Answers whether it could be forked.
fn drive(entry: &Entry, config: &toml::Table, geometry: &Geometry, script: &Script) -> Result<bool, String> {
    let mut cache = entry.build(config, geometry).map_err(|error| error.to_string())?;
    let mut interpreter = Interpreter::new(RowsDriver { source: Generated::new(geometry.clone(), 0), attention: Attention::Run });
    let mut progress = Progress::new(script.events.len());
    for event in &script.events {
        run(&mut interpreter, cache.as_mut(), event)?;
        progress.advance();
    }
    let [parent, fork] = ["0", "fork"].map(Name::new);
    let sequences = match interpreter.run(cache.as_mut(), &Event::Fork { parent: parent.clone(), sequence: fork.clone() }) {
        Ok(()) => vec![parent, fork],
        Err(ScriptError::Driver(CacheError::Unsupported { .. })) => vec![parent],
        Err(error) => return Err(error.to_string()),
    };
    run(&mut interpreter, cache.as_mut(), &Event::Step { sequences: sequences.clone() })?;
    for sequence in &sequences {
        run(&mut interpreter, cache.as_mut(), &Event::Close { sequence: sequence.clone() })?;
    }
    Ok(sequences.len() > 1)
}

fn run(interpreter: &mut Interpreter<RowsDriver<Generated>>, cache: &mut dyn KvCache, event: &Event) -> Result<(), String> {
    interpreter.run(cache, event).map_err(|error| error.to_string())
}

/// Lines about a profile that takes long. What they allocate is in the profile, so a short one has none.
struct Progress {
    done: usize,
    all: usize,
    said: Instant,
}

impl Progress {
    const BETWEEN_LINES: Duration = Duration::from_secs(5);

    fn new(all: usize) -> Progress {
        Progress { done: 0, all, said: Instant::now() }
    }

    fn advance(&mut self) {
        self.done += 1;
        if self.said.elapsed() >= Progress::BETWEEN_LINES {
            say(&format!("profiling: {} of {} events", self.done, self.all));
            self.said = Instant::now();
        }
    }
}

fn read(file: &Path) -> Result<HeapFile, Problem> {
    let unreadable = || Problem::new(format!("`--out`: dhat did not write a whole profile to `{}`", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| unreadable().caused_by(error))?;
    serde_json::from_str(&text).map_err(|error| unreadable().caused_by(error))
}

/// The totals, then a row for each of the sites with the most bytes at the peak, and the rest in one.
fn as_text(file: &HeapFile, strategy_crate: &str, took: Duration, out: &Path) -> String {
    let totals = file.totals();
    let sites = file.sites(strategy_crate, functions_at);
    let unit = &file.time_unit;
    let mut text = format!(
        "in total     {:>15} bytes in {} blocks\nat the peak  {:>15} bytes in {} blocks\n\n",
        grouped(totals.total_bytes),
        grouped(totals.total_blocks),
        grouped(totals.peak_bytes),
        grouped(totals.peak_blocks)
    );
    let lifetime = format!("lifetime ({unit})");
    text.push_str(&format!("{:>15} {:>15} {:>10} {lifetime:>14}  site\n", "bytes at peak", "bytes in total", "blocks"));
    let (shown, others) = sites.split_at(SITES.min(sites.len()));
    for (site, sums) in shown {
        text.push_str(&row(site, sums));
    }
    if !others.is_empty() {
        let rest = others.iter().fold(Sums::default(), |sum, (_, sums)| sum + *sums);
        text.push_str(&row(&format!("{} other sites", others.len()), &rest));
    }
    text.push_str(
        "\nA site is the innermost function of kvlab or of the strategy. At the peak: when the heap was largest. Lifetime: the \
         mean of a block, the profiler's own time included. `runner::drivers::generated` stands for the model.\n",
    );
    if sites.iter().all(|(site, _)| site == "elsewhere") {
        text.push_str("This build has no line tables, so no site is known: the dev profile has them.\n");
    }
    let (file, took) = (out.display(), human(took.as_secs_f64()));
    text.push_str(&format!("{file} took {took}; open it with dhat's viewer, dh_view.html, which comes with Valgrind and is online.\n"));
    text
}

fn row(site: &str, sums: &Sums) -> String {
    let [peak, total, blocks, lifetime] = [sums.peak_bytes, sums.total_bytes, sums.total_blocks, sums.mean_lifetime()].map(grouped);
    format!("{peak:>15} {total:>15} {blocks:>10} {lifetime:>14}  {site}\n")
}

/// A number with its thousands set apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
