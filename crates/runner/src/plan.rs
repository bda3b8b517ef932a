//! From a config to the cells that will be run, every impossible value refused before the first.

use globset::{Glob, GlobMatcher};
use kv_core::{Entry, Geometry, Registry};
use kv_model::ModelConfig;
use toml::Spanned;

use crate::config::{ConfigFile, Instance, Workload, unknown_field_help};
use crate::problem::known_strategy;
use crate::{Problem, free_memory};

/// A sweep that can be run.
#[derive(Debug)]
pub struct Plan {
    /// The cells, in the order in which they are run: all strategies at one length after another.
    pub cells: Vec<Cell>,
    /// Decode steps a cell times.
    pub decode_steps: usize,
    /// Tokens of a prompt that are fed in one step.
    pub prefill_chunk: usize,
}

/// One strategy instance at one length and batch under one workload.
#[derive(Debug, Clone)]
pub struct Cell {
    /// The instance's name.
    pub label: String,
    /// The strategy.
    pub strategy: Entry,
    /// The strategy's parameters.
    pub config: toml::Table,
    /// What is done.
    pub workload: Workload,
    /// Tokens: of the prompt, or at the end.
    pub seq_len: usize,
    /// Sequences that are stepped together.
    pub batch: usize,
    /// Whether the cache recomputes everything at every step.
    pub recomputes: bool,
}

/// Checks a config against the model and the registered strategies, and lists its cells; `only` is a glob
/// over labels.
///
/// # Errors
/// A [`Problem`] that points at the value and says what would be right.
pub fn plan(file: &ConfigFile, registry: &Registry, model: &ModelConfig, only: Option<&str>) -> Result<Plan, Problem> {
    model.geometry.check().map_err(|error| file.problem(&file.config.model, format!("impossible model: {error}")))?;
    let sweep = &file.config.sweep;
    let context = model.geometry.context;
    let at_least_one = |name: &str, value: &Spanned<usize>| match value.get_ref() {
        0 => Err(file.problem(value, format!("`{name}` is 0: it must be at least 1"))),
        _ => Ok(*value.get_ref()),
    };
    let decode_steps = at_least_one("decode_steps", &sweep.decode_steps)?;
    if decode_steps < 2 {
        let message = "`decode_steps` is 1: it must be at least 2, because the first step of a cell is a warm-up and does not count";
        return Err(file.problem(&sweep.decode_steps, message));
    }
    let prefill_chunk = at_least_one("prefill_chunk", &sweep.prefill_chunk)?;
    let lengths = &sweep.lengths.get_ref().0;
    if lengths.first().is_none_or(|first| *first == 0) {
        return Err(file
            .problem(&sweep.lengths, "`lengths` must name at least one length, and none of 0")
            .help("for example \"128-4096*2\""));
    }
    let batches = &sweep.batch.get_ref().0;
    if batches.is_empty() || batches.contains(&0) {
        return Err(file
            .problem(&sweep.batch, "`batch` must name at least one number of sequences, and none of 0")
            .help("for example [1, 4]"));
    }
    let workloads = &sweep.workloads.0;
    if workloads.is_empty() {
        return Err(file.problem_at(None, "`sweep.workloads` is empty").help("supported: \"decode\", \"generate\""));
    }
    check_instances(file, registry, &model.geometry)?;
    let matcher = only.map(glob).transpose()?;

    let mut cells = vec![];
    for workload in workloads {
        let steps_after = steps_after(*workload, decode_steps);
        for batch in batches {
            for seq_len in lengths {
                let instances = file.config.strategies.iter().filter(|instance| instance.max_length.is_none_or(|most| *seq_len <= most));
                for instance in instances.filter(|instance| matches(&matcher, instance)) {
                    let positions = seq_len.saturating_add(steps_after);
                    if positions > context {
                        let message = format!(
                            "length {seq_len} with {steps_after} decode steps needs {positions} positions, and the model's context is {context}"
                        );
                        let help = format!(
                            "the largest length is {}; `max_length` leaves long cells out for one strategy",
                            context.saturating_sub(steps_after)
                        );
                        return Err(file.problem(&sweep.lengths, message).help(help));
                    }
                    let strategy = *strategy(file, registry, instance)?;
                    let cache = strategy.build(instance.config.get_ref(), &model.geometry);
                    cells.push(Cell {
                        label: instance.label.get_ref().clone(),
                        strategy,
                        config: instance.config.get_ref().clone(),
                        workload: *workload,
                        seq_len: *seq_len,
                        batch: *batch,
                        recomputes: cache.is_ok_and(|cache| cache.recomputes()),
                    });
                }
            }
        }
    }
    if cells.is_empty() {
        let labels: Vec<&str> = file.config.strategies.iter().map(|instance| instance.label.get_ref().as_str()).collect();
        let message = match only {
            Some(only) => format!("`--only {only}` matches none of the labels: {}", labels.join(", ")),
            None => "`max_length` leaves out every cell".into(),
        };
        return Err(Problem::new(message));
    }
    // A chunk longer than any prompt is the whole prompt.
    Ok(Plan { cells, decode_steps, prefill_chunk: prefill_chunk.min(context) })
}

/// Steps that a workload takes after the cell's length is reached.
fn steps_after(workload: Workload, decode_steps: usize) -> usize {
    match workload {
        Workload::Decode => decode_steps,
        Workload::Generate => 0,
    }
}

/// Checks that each cell's caches and logits fit into the memory that is free.
///
/// # Errors
/// A [`Problem`] that names the first cell that does not, with the numbers.
pub(crate) fn check_memory(plan: &Plan, model: &ModelConfig) -> Result<(), Problem> {
    for Cell { label, strategy, config, workload, seq_len, batch, recomputes, .. } in &plan.cells {
        let positions = seq_len + steps_after(*workload, plan.decode_steps);
        let cache = strategy.build(config, &model.geometry).map_or(0, |cache| cache.least_bytes(positions));
        let logits = model.vocabulary.saturating_mul(size_of::<f32>());
        let step = if *recomputes { positions } else { plan.prefill_chunk.min(*seq_len) };
        let sequence = cache.saturating_add(logits).saturating_add(model.step_bytes(step));
        let what = format!("`{label}` at length {seq_len} with {batch} sequences at once");
        free_memory::require(batch.saturating_mul(sequence), &what).map_err(|problem| {
            problem.help("shorter `lengths` or a smaller `batch` need less; `max_length` leaves long cells out for one strategy")
        })?;
    }
    Ok(())
}

fn check_instances(file: &ConfigFile, registry: &Registry, geometry: &Geometry) -> Result<(), Problem> {
    let instances = &file.config.strategies;
    if instances.is_empty() {
        let help = "add one:\n[[strategy]]\nlabel = \"paged/16\"\nuse = \"paged\"\nconfig = { block_size = 16 }";
        return Err(file.problem_at(None, "there is no [[strategy]]: nothing to measure").help(help));
    }
    let mut baselines = instances.iter().filter_map(|instance| instance.baseline.as_ref().filter(|baseline| *baseline.get_ref()));
    if let (Some(_), Some(second)) = (baselines.next(), baselines.next()) {
        return Err(file
            .problem(second, "two strategies are marked as the baseline")
            .help("one comparison has one baseline: leave one `baseline = true`"));
    }
    for (index, instance) in instances.iter().enumerate() {
        let label = instance.label.get_ref();
        if label.trim().is_empty() {
            return Err(file.problem(&instance.label, "a label must not be empty: it names the line in every chart"));
        }
        if label.chars().any(char::is_control) {
            return Err(file
                .problem(&instance.label, format!("the label `{label}` has control characters in it"))
                .help("a label is shown on the terminal and in every chart: use letters, digits, blanks and signs"));
        }
        if instances[..index].iter().any(|other| other.label.get_ref() == label) {
            return Err(file
                .problem(&instance.label, format!("two strategies are labeled `{label}`"))
                .help("a label names a line in every chart, so each must be unique"));
        }
        let strategy = strategy(file, registry, instance)?;
        strategy.build(instance.config.get_ref(), geometry).map_err(|error| {
            let id = strategy.id();
            let help = unknown_field_help(&error.to_string())
                .unwrap_or_else(|| format!("`runner describe {id}` explains every parameter of `{id}`"));
            let message = format!("strategy `{label}` cannot be built: {error}");
            let problem = if instance.config.get_ref().is_empty() {
                file.problem(&instance.label, message)
            } else {
                file.problem(&instance.config, message)
            };
            problem.help(help)
        })?;
    }
    Ok(())
}

/// The strategy that an instance uses.
fn strategy<'a>(file: &ConfigFile, registry: &'a Registry, instance: &Instance) -> Result<&'a Entry, Problem> {
    known_strategy(registry, instance.strategy.get_ref()).map_err(|problem| problem.within(file, &instance.strategy))
}

fn glob(pattern: &str) -> Result<GlobMatcher, Problem> {
    let glob = Glob::new(pattern).map_err(|error| Problem::new(format!("`--only {pattern}` is not a glob")).caused_by(error))?;
    Ok(glob.compile_matcher())
}

fn matches(matcher: &Option<GlobMatcher>, instance: &Instance) -> bool {
    matcher.as_ref().is_none_or(|matcher| matcher.is_match(instance.label.get_ref()))
}

impl Cell {
    /// Seconds the cell will take, roughly: for the estimate of a dry run and the weights of the progress bar.
    ///
    /// A token costs one multiply-add per weight, and a cached token `heads · (key_dim + value_dim)` of them per layer.
    /// Several tokens at once run at the speed of arithmetic, single tokens at the speed of decoding the weights.
    pub fn estimated_seconds(&self, model: &ModelConfig, plan: &Plan, threads: usize) -> f64 {
        const MATRIX_RATE: f64 = 20e9;
        const ATTENTION_RATE: f64 = 6e9;
        const WEIGHTS_PER_SECOND: f64 = 5e9;
        let Geometry { layers, heads, key_dim, value_dim, .. } = model.geometry;
        let weights = model.weights() as f64;
        let pair = (layers * heads * (key_dim + value_dim)) as f64;
        let threads = threads as f64;
        let many = |tokens: f64| tokens * weights / (MATRIX_RATE * threads) + tokens * tokens / 2.0 * pair / (ATTENTION_RATE * threads);
        let one = |depth: f64| weights / (WEIGHTS_PER_SECOND * threads) + depth * pair / (ATTENTION_RATE * threads);
        let length = self.seq_len as f64;
        let step = |depth: f64| if self.recomputes { many(depth).max(one(0.0)) } else { one(depth) };
        let seconds = match self.workload {
            Workload::Decode => many(length) + plan.decode_steps as f64 * step(length),
            // The mean of a quadratic from 0 to its end is a third of it.
            Workload::Generate if self.recomputes => length * step(length) / 2.5,
            Workload::Generate => length * step(length / 2.0),
        };
        seconds * self.batch as f64
    }
}
