//! From a config to the cells that will be run, every impossible value refused before the first.

use globset::{Glob, GlobMatcher};
use kv_core::{Entry, Geometry, Registry};
use kv_model::ModelConfig;
use toml::Spanned;

use crate::Problem;
use crate::config::{ConfigFile, FillChoice, HugePages, Instance, Level, Workload, check_labels, unknown_field_help};
use crate::problem::known_strategy;
use crate::quality_plan::QualityPlan;
use crate::sizes::{UNITS, parse_bytes};
use crate::varied::Varied;
use crate::worker::protocol::ScriptSpec;
use crate::workloads::Scripted;

/// A sweep that can be run.
#[derive(Debug)]
pub struct Plan {
    /// What is run.
    pub level: Level,
    /// Positions that caches are built for: the model's context, or more for caches alone.
    pub context: usize,
    /// The cells, in the order in which they are run: all strategies at one length after another.
    pub cells: Vec<Cell>,
    /// Decode steps a cell times.
    pub decode_steps: usize,
    /// Tokens of a prompt that are fed in one step.
    pub prefill_chunk: usize,
    /// Seed of the prompts.
    pub seed: u64,
    /// How prompts come into the caches.
    pub fill: FillChoice,
    /// Times that the instances take turns in a launch, if the user says so.
    pub rounds: Option<usize>,
    /// Worker processes that time each length.
    pub launches: u32,
    /// The share by which times may differ and still be the same.
    pub margin: f64,
    /// The memory pages of large buffers.
    pub huge_pages: HugePages,
    /// In how many of them the time to first token is measured; 0 if it is left out.
    pub ttft_launches: u32,
    /// Seconds of silence after which a worker is ended, if the user says so.
    pub timeout_s: Option<u64>,
    /// Bytes that a worker may take, if the user says so.
    pub memory_limit: Option<u64>,
    /// The label of the instance that the others are compared with. `None` leaves the choice among those that do not recompute.
    pub baseline: Option<String>,
    /// Whether the user named it.
    pub baseline_is: Baseline,
    /// What is judged of quality, if anything is.
    pub quality: Option<QualityPlan>,
    /// The workloads that are scripts of their own.
    pub(crate) scripted: Vec<(Workload, Scripted)>,
}

/// Who chose the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Baseline {
    /// The config marks it.
    Marked,
    /// It follows from the strategies.
    Chosen,
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
}

/// Checks a config against the model and the registered strategies, and lists its cells; `only` is a glob
/// over labels. No cache is built: whether a strategy takes its parameters is asked in a worker.
///
/// # Errors
/// A [`Problem`] that points at the value and says what would be right.
pub fn plan(file: &ConfigFile, registry: &Registry, model: &ModelConfig, only: Option<&str>) -> Result<Plan, Problem> {
    model.geometry.check().map_err(|error| file.problem(file.model(), format!("impossible model: {error}")))?;
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
    let varied = Varied::of(file, model)?;
    if let Some(fill) = sweep.fill.as_ref().filter(|_| sweep.level == Level::Attention) {
        let message = "`fill` says what becomes of a model's prompts, and `level = \"attention\"` feeds caches with rows alone";
        return Err(file.problem(fill, message).help("leave it out"));
    }
    check_instances(file, registry)?;
    let rounds = rounds(file, decode_steps)?;
    let launches = small_number(file, "launches", &sweep.launches)?;
    let ttft_launches = small_number(file, "ttft_launches", &sweep.ttft_launches)?;
    let margin = *sweep.margin.get_ref();
    if !(margin > 0.0 && margin < 1.0) {
        return Err(file
            .problem(&sweep.margin, format!("`margin` is {margin}: it must be more than 0 and less than 1"))
            .help("0.03 is 3 %"));
    }
    if ttft_launches > launches {
        let message = format!("`ttft_launches` is {ttft_launches}: there are only {launches} `launches`");
        return Err(file.problem(&sweep.ttft_launches, message));
    }
    let timeout_s = sweep.timeout_s.as_ref().map(|seconds| at_least_one_second(file, seconds)).transpose()?;
    let memory_limit = sweep.memory_limit.as_ref().map(|limit| memory_limit(file, limit)).transpose()?;
    let matcher = only.map(glob).transpose()?;

    // Rows that a model computes end with its context; generated ones do not.
    let is_limited = sweep.level == Level::Model || file.model().get_ref().names_trained_model();
    let mut cells = vec![];
    for workload in &sweep.workloads.0 {
        let steps_after = steps_after(*workload, decode_steps);
        let may_exceed = varied.script(*workload).is_some_and(Scripted::exceeds_context);
        for (seq_len, batch) in varied.sizes(*workload) {
            let instances = file.config.strategies.iter().filter(|instance| instance.max_length.is_none_or(|most| seq_len <= most));
            for instance in instances.filter(|instance| matches(&matcher, instance)) {
                let positions = seq_len.saturating_add(steps_after);
                if positions > context && is_limited && !may_exceed {
                    return Err(beyond_context(file, *workload, (seq_len, steps_after), context));
                }
                cells.push(Cell {
                    label: instance.label.get_ref().clone(),
                    strategy: *strategy(file, registry, instance)?,
                    config: instance.config.get_ref().clone(),
                    workload: *workload,
                    seq_len,
                    batch,
                });
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
    let within = cells.iter().filter(|cell| !varied.script(cell.workload).is_some_and(Scripted::exceeds_context));
    let context = within.map(|cell| cell.seq_len.saturating_add(steps_after(cell.workload, decode_steps))).fold(context, usize::max);
    let room = Geometry { context, ..model.geometry.clone() };
    let lengths_span = sweep.lengths.as_ref().map(Spanned::span);
    room.check().map_err(|error| file.problem_at(lengths_span, format!("impossible lengths: {error}")))?;
    let quality = QualityPlan::of(file, &cells, &varied.scripted, model.geometry.context)?;
    let marked = file.config.strategies.iter().find(|instance| is_baseline(instance));
    let usual = || file.config.strategies.iter().find(|instance| is_usual_baseline(instance));
    // A chunk longer than any prompt is the whole prompt.
    Ok(Plan {
        level: sweep.level,
        context,
        cells,
        decode_steps,
        prefill_chunk: prefill_chunk.min(context),
        seed: sweep.seed,
        fill: sweep.fill.as_ref().map_or_else(FillChoice::default, |fill| *fill.get_ref()),
        rounds,
        launches,
        margin,
        huge_pages: sweep.huge_pages,
        ttft_launches: if sweep.ttft.unwrap_or(sweep.level == Level::Model) { ttft_launches } else { 0 },
        timeout_s,
        memory_limit,
        baseline: marked.or_else(usual).map(|instance| instance.label.get_ref().clone()),
        baseline_is: if marked.is_some() { Baseline::Marked } else { Baseline::Chosen },
        quality,
        scripted: varied.scripted,
    })
}

/// The refusal of a cell that needs more positions than the model has.
fn beyond_context(file: &ConfigFile, workload: Workload, (seq_len, steps_after): (usize, usize), context: usize) -> Problem {
    if !workload.has_lengths() {
        let message = format!("the workload `{workload}` needs {seq_len} positions, and the model's context is {context}");
        return file.problem_at(file.config.section_span(workload), message).help(format!("a smaller [{workload}]"));
    }
    let positions = seq_len.saturating_add(steps_after);
    let message =
        format!("length {seq_len} with {steps_after} decode steps needs {positions} positions, and the model's context is {context}");
    let help = format!(
        "the largest length is {}; `max_length` leaves long cells out for one strategy, and `level = \"attention\"` with a `preset` of random weights measures caches alone at any length",
        context.saturating_sub(steps_after)
    );
    file.problem_at(file.config.sweep.lengths.as_ref().map(Spanned::span), message).help(help)
}

/// Steps that a workload takes after the cell's length is reached.
fn steps_after(workload: Workload, decode_steps: usize) -> usize {
    match workload {
        Workload::Decode => decode_steps,
        _ => 0,
    }
}

/// Whether the config marks it as the baseline.
pub(crate) fn is_baseline(instance: &Instance) -> bool {
    instance.baseline.as_ref().is_some_and(|baseline| *baseline.get_ref())
}

/// What most engines do without being told otherwise.
pub(crate) fn is_usual_baseline(instance: &Instance) -> bool {
    let format = instance.config.get_ref().get("format").and_then(toml::Value::as_str);
    instance.strategy.get_ref() == "contiguous" && format == Some("f16")
}

/// Rounds of a launch of so many steps, where the user does not say.
pub(crate) fn usual_rounds(steps: usize) -> usize {
    const LEAST: usize = 5;
    /// Many steps are better taken in more turns than in longer ones.
    const STEPS: usize = 6;
    LEAST.max(steps / STEPS).min(steps / 2).max(1)
}

/// Rounds that the user asks for. Each takes at least 2 steps of `decode_steps`, because the first of a round does not count.
fn rounds(file: &ConfigFile, decode_steps: usize) -> Result<Option<usize>, Problem> {
    let most = decode_steps / 2;
    match &file.config.sweep.rounds {
        None => Ok(None),
        Some(rounds) if (1..=most).contains(rounds.get_ref()) => Ok(Some(*rounds.get_ref())),
        Some(rounds) => {
            let message = format!("`rounds` is {}: with {decode_steps} `decode_steps` it must be 1 to {most}", rounds.get_ref());
            Err(file.problem(rounds, message).help("a round takes at least 2 steps, and the first does not count"))
        }
    }
}

/// A number of processes.
fn small_number(file: &ConfigFile, name: &str, value: &Spanned<usize>) -> Result<u32, Problem> {
    const MOST: usize = 1000;
    match *value.get_ref() {
        number @ 1..=MOST => Ok(number as u32),
        number => Err(file.problem(value, format!("`{name}` is {number}: it must be 1 to {MOST}"))),
    }
}

fn at_least_one_second(file: &ConfigFile, seconds: &Spanned<u64>) -> Result<u64, Problem> {
    match *seconds.get_ref() {
        0 => Err(file
            .problem(seconds, "`timeout_s` is 0: nothing ends in no time")
            .help("leave it out for a limit that follows from the estimate")),
        seconds => Ok(seconds),
    }
}

fn memory_limit(file: &ConfigFile, limit: &Spanned<String>) -> Result<u64, Problem> {
    /// A process of this program takes some of it for itself.
    const LEAST: u64 = 64 << 20;
    match parse_bytes(limit.get_ref()) {
        Ok(bytes) if bytes >= LEAST => Ok(bytes),
        Ok(_) => {
            Err(file.problem(limit, format!("`memory_limit = \"{}\"` is too little: a worker itself takes up to 64 MiB", limit.get_ref())))
        }
        Err(wrong) => {
            let message = format!("`memory_limit = \"{}\"` {wrong}", limit.get_ref());
            Err(file.problem(limit, message).help(format!("{UNITS}; for example \"8 GiB\"")))
        }
    }
}

/// Checks the list of strategies, their parameters excepted.
///
/// # Errors
/// A [`Problem`] that points at the value and says what would be right.
pub(crate) fn check_instances(file: &ConfigFile, registry: &Registry) -> Result<(), Problem> {
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
    check_labels(file)?;
    for instance in instances {
        strategy(file, registry, instance)?;
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

/// A strategy that does not take its parameters: the place in the config, and what it says.
pub(crate) fn config_problem(file: &ConfigFile, cell: &Cell, error: &str) -> Problem {
    let Some(instance) = file.config.strategies.iter().find(|instance| *instance.label.get_ref() == cell.label) else {
        return Problem::new(error);
    };
    let id = cell.strategy.id();
    let help = unknown_field_help(error).unwrap_or_else(|| format!("`runner describe {id}` explains every parameter of `{id}`"));
    let message = format!("strategy `{}` cannot be built: {error}", cell.label);
    let problem =
        if instance.config.get_ref().is_empty() { file.problem(&instance.label, message) } else { file.problem(&instance.config, message) };
    problem.help(help)
}

impl Plan {
    /// What the script of a cell depends on.
    pub(crate) fn script(&self, cell: &Cell) -> ScriptSpec {
        ScriptSpec {
            workload: cell.workload,
            scripted: self.scripted.iter().find(|(workload, _)| *workload == cell.workload).map(|(_, script)| script.clone()),
            seq_len: cell.seq_len,
            batch: cell.batch,
            decode_steps: self.decode_steps,
            prefill_chunk: self.prefill_chunk,
            seed: self.seed,
        }
    }

    /// The windows of the text that the model reads, given its tokens.
    ///
    /// # Errors
    /// A [`Problem`] if the text is too short.
    pub(crate) fn windows(&self, text: &[u32]) -> Result<Vec<Vec<u32>>, Problem> {
        match &self.quality {
            Some(quality) if !quality.lengths.is_empty() => quality.cut(text),
            _ => Ok(vec![]),
        }
    }

    /// The beginning of the text that scripts are fed, given its tokens; empty if none reads it.
    ///
    /// # Errors
    /// A [`Problem`] with both numbers if the text is too short.
    pub(crate) fn text(&self, text: &[u32]) -> Result<Vec<u32>, Problem> {
        let longest = self.scripted.iter().filter_map(|(_, script)| script.text_tokens()).max();
        match (&self.quality, longest) {
            (Some(quality), Some(longest)) => quality.beginning(text, longest),
            _ => Ok(vec![]),
        }
    }

    /// Whether a cell goes on as far as its cache does.
    pub(crate) fn exceeds_context(&self, cell: &Cell) -> bool {
        self.scripted.iter().any(|(workload, script)| *workload == cell.workload && script.exceeds_context())
    }

    /// Bytes that a cell's caches take at most, where that does not follow from its size.
    pub(crate) fn cache_bytes(&self, cell: &Cell) -> Option<u64> {
        self.scripted.iter().find(|(workload, _)| *workload == cell.workload)?.1.cache_bytes()
    }

    /// Positions that a cell's sequences have in the end.
    pub(crate) fn positions(&self, cell: &Cell) -> usize {
        cell.seq_len + steps_after(cell.workload, self.decode_steps)
    }
}
