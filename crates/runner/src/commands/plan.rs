//! `plan`: what caches take, from each strategy's formula.

use std::path::Path;
use std::process::ExitCode;

use kv_core::{Geometry, PredictedBytes, Registry};
use kv_kernels::WeightFormat;
use kv_report::counted;

use super::print;
use crate::cli::PlanArguments;
use crate::config::{ConfigFile, Instance, changed, load_configs};
use crate::footprint::{Answer, Footprint, Longest};
use crate::free_memory::size;
use crate::models::{ModelFolders, ModelShape};
use crate::plan::{check_instances, is_baseline};
use crate::problem::{did_you_mean, known_strategy};
use crate::screen::printable;
use crate::sizes::{UNITS, parse_bytes};
use crate::table::{Line, Side, Table};
use crate::{Problem, exit};

/// The strategies that are compared if the user names none.
const SHIPPED: (&str, &str) = ("bench-configs/plan.toml", include_str!("../../../../bench-configs/plan.toml"));

/// The columns; the last is for `--memory` alone.
const COLUMNS: [(&str, Side); 7] = [
    ("strategy", Side::Left),
    ("predicted", Side::Right),
    ("bytes", Side::Right),
    ("bits/value", Side::Right),
    ("bytes/token", Side::Right),
    ("of baseline's", Side::Right),
    ("longest context", Side::Right),
];

/// The column that shows in Markdown why a row has no bytes.
const PREDICTED: usize = 1;

pub(crate) fn plan(registry: &Registry, arguments: &PlanArguments) -> Result<ExitCode, Problem> {
    let PlanArguments { context, batch, .. } = *arguments;
    if context == Some(0) {
        return Err(Problem::new("`--context 0`: a cache of no tokens takes nothing").help("the smallest context is 1 token"));
    }
    if batch == 0 {
        return Err(Problem::new("`--batch 0`: there is no sequence").help("`--batch 1` is the default"));
    }
    let memory = arguments.memory.as_deref().map(memory).transpose()?;
    let format = arguments.weights.as_deref().map(weight_format).transpose()?;
    let file = strategies(registry, arguments)?;
    let shape = ModelShape::of_argument(&arguments.model, format, &ModelFolders::of_environment())?;
    let context = context.unwrap_or(shape.config.geometry.context);
    let question = Question { context, batch, memory, shape: &shape, geometry: asked_geometry(&shape.config.geometry, context) };

    let rows = file.config.strategies.iter().map(|instance| question.row(registry, instance)).collect::<Result<Vec<_>, _>>()?;
    let marked = file.config.strategies.iter().zip(&rows).find(|(instance, _)| is_baseline(instance)).map(|(_, row)| row);
    let reference = reference(marked, &rows);
    let columns = if memory.is_some() { COLUMNS.len() } else { COLUMNS.len() - 1 };
    let table = Table {
        above: question.above(),
        columns: &COLUMNS[..columns],
        rows: rows.iter().map(|row| question.line(row, reference)).collect(),
        remark_column: PREDICTED,
        below: question.below(marked, reference),
    };
    print(&table.text(arguments.format))?;
    Ok(exit::OK)
}

/// The list of strategies: the user's, or the shipped one as far as this program has them.
fn strategies(registry: &Registry, arguments: &PlanArguments) -> Result<ConfigFile, Problem> {
    let also = &arguments.also;
    let file = match &arguments.strategies {
        // Its models do not matter.
        Some(path) => load_configs(path, &[], also)?.swap_remove(0),
        None => {
            let (name, text) = SHIPPED;
            let mut file = changed(Path::new(name), name.to_owned(), text.to_owned(), &[], also)?.swap_remove(0);
            file.config.strategies.retain(|instance| {
                let id = instance.strategy.get_ref();
                registry.get(id).is_ok() || also.contains(id)
            });
            if file.config.strategies.is_empty() {
                let ids: Vec<&str> = registry.iter().map(|entry| entry.id()).collect();
                return Err(Problem::new(format!("this program has none of the strategies of {name}"))
                    .help(format!("`--also ID` adds one: {}", ids.join(", "))));
            }
            file
        }
    };
    check_instances(&file, registry)?;
    Ok(file)
}

fn memory(text: &str) -> Result<u64, Problem> {
    parse_bytes(text).map_err(|wrong| Problem::new(format!("`--memory {text}` {wrong}")).help(format!("{UNITS}; for example 8GiB")))
}

fn weight_format(name: &str) -> Result<WeightFormat, Problem> {
    let known = WeightFormat::ALL.map(WeightFormat::name);
    WeightFormat::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
        let problem = Problem::new(format!("`--weights {name}`: unknown format; known are {}", known.join(", ")));
        match did_you_mean(name, known) {
            Some(help) => problem.help(help),
            None => problem,
        }
    })
}

/// The model's attention with room for the context asked for, if a machine can count that far.
fn asked_geometry(own: &Geometry, context: usize) -> Geometry {
    let asked = Geometry { context: context.max(own.context), ..own.clone() };
    if asked.check().is_ok() { asked } else { own.clone() }
}

/// What is asked about every strategy.
struct Question<'a> {
    context: usize,
    batch: usize,
    memory: Option<u64>,
    shape: &'a ModelShape,
    geometry: Geometry,
}

/// What is known of one strategy.
struct Answered {
    label: String,
    /// The bytes, or why there are none.
    bytes: Result<PredictedBytes, String>,
    /// `None` if there is no formula to ask.
    longest: Option<Longest>,
}

/// The row that the others are compared with: the marked one, or else the first that has bytes.
fn reference<'a>(marked: Option<&'a Answered>, rows: &'a [Answered]) -> Option<(&'a str, usize)> {
    let known = |row: &'a Answered| Some((row.label.as_str(), row.bytes.as_ref().ok()?.total())).filter(|(_, bytes)| *bytes > 0);
    marked.and_then(known).or_else(|| rows.iter().find_map(known))
}

impl Question<'_> {
    fn row(&self, registry: &Registry, instance: &Instance) -> Result<Answered, Problem> {
        let strategy = *known_strategy(registry, instance.strategy.get_ref())?;
        let footprint = Footprint::of(strategy, instance.config.get_ref(), &self.geometry, self.batch);
        let most = instance.max_length.unwrap_or(usize::MAX);
        let bytes = match &footprint {
            Err(reason) => Err(reason.clone()),
            Ok(_) if self.context > most => Err(format!("left out above {most} tokens (`max_length`)")),
            Ok(footprint) => match footprint.answer(self.context) {
                Answer::Bytes(bytes) => Ok(bytes),
                Answer::Uncountable => Err("more bytes than can be counted".to_owned()),
                Answer::DoesNotSay => Err("does not say".to_owned()),
                Answer::NoRoom { most } => Err(format!("has room for {most} tokens of each sequence only")),
            },
        };
        let says = footprint.as_ref().ok().filter(|footprint| footprint.answer(1) != Answer::DoesNotSay);
        let longest = says.map(|footprint| match footprint.longest(self.room()) {
            Longest::Tokens(tokens) => Longest::Tokens(tokens.min(most)),
            Longest::Any if most < usize::MAX => Longest::Tokens(most),
            longest => longest,
        });
        Ok(Answered { label: printable(instance.label.get_ref()), bytes: bytes.map_err(|reason| printable(&reason)), longest })
    }

    /// Bytes that the weights leave for a cache.
    fn room(&self) -> usize {
        let memory = usize::try_from(self.memory.unwrap_or(0)).unwrap_or(usize::MAX);
        memory.saturating_sub(self.shape.weight_bytes)
    }

    fn line(&self, row: &Answered, reference: Option<(&str, usize)>) -> Line {
        let longest = match row.longest {
            None => "-".to_owned(),
            Some(Longest::Nothing) => "nothing".to_owned(),
            Some(Longest::Tokens(tokens)) => tokens.to_string(),
            Some(Longest::Any) => "any".to_owned(),
        };
        let unknown = || "-".to_owned();
        let [human, exact, bits, per_token, share] = match &row.bytes {
            Err(_) => std::array::from_fn(|_| unknown()),
            Ok(bytes) => {
                let bytes = bytes.total();
                let tokens = self.context as f64 * self.batch as f64;
                let values = self.geometry.values_per_token() as f64;
                [
                    size(bytes as u64),
                    bytes.to_string(),
                    format!("{:.2}", 8.0 * bytes as f64 / tokens / values),
                    format!("{:.1}", bytes as f64 / tokens),
                    reference.map_or_else(unknown, |(_, of)| format!("{:.3}", bytes as f64 / of as f64)),
                ]
            }
        };
        let mut fields = vec![row.label.clone(), human, exact, bits, per_token, share];
        if self.memory.is_some() {
            fields.push(longest);
        }
        Line { fields, remark: row.bytes.as_ref().err().cloned().unwrap_or_default() }
    }

    fn above(&self) -> Vec<String> {
        let ModelShape { label, config, weight_bytes, weights } = self.shape;
        let Geometry { layers, kv_heads, key_dim, value_dim, context, .. } = config.geometry;
        let mut above = vec![
            format!(
                "{}: {layers} layers of {kv_heads} KV heads, with keys of {key_dim} and values of {value_dim}, {} values per token",
                printable(label),
                config.geometry.values_per_token()
            ),
            format!("weights: {weights}, {} ({weight_bytes} bytes)", size(*weight_bytes as u64)),
            format!(
                "context: {} in {}; the model was made for {context}{}",
                counted(self.context, "token"),
                self.sequences(),
                self.beyond()
            ),
        ];
        if let Some(memory) = self.memory {
            let room = match self.room() {
                0 => "the weights alone do not fit".to_owned(),
                room => format!("the weights leave {} for the cache", size(room as u64)),
            };
            above.push(format!("memory: {}; {room}", size(memory)));
        }
        above
    }

    fn sequences(&self) -> String {
        match self.batch {
            1 => "1 sequence".to_owned(),
            batch => format!("each of {batch} sequences that share nothing"),
        }
    }

    fn beyond(&self) -> &'static str {
        if self.context > self.shape.config.geometry.context { ": what it writes beyond that may make no sense" } else { "" }
    }

    fn below(&self, marked: Option<&Answered>, reference: Option<(&str, usize)>) -> Vec<String> {
        let mut below = vec![
            "Predicted by each strategy's formula; nothing was run. It is what a cache takes between steps: codes, scales, \
             and what is reserved and not filled."
                .to_owned(),
            "bits/value: all bytes over the values of all tokens of the context, also of those that a strategy evicts; a run's bits kept \
             are of payload and metadata over the values of the tokens that the cache holds."
                .to_owned(),
        ];
        if let Some((label, _)) = reference {
            let unknown = marked.filter(|marked| marked.label != label);
            let unknown = unknown.map_or(String::new(), |marked| format!("The marked baseline {} has no number here. ", marked.label));
            below.push(format!("{unknown}The baseline is {label}."));
        }
        if self.memory.is_some() {
            below.push(
                "longest context: tokens of each sequence for which weights and cache fit into the memory, found by bisection over \
                 the formula. The program and its activations come on top."
                    .to_owned(),
            );
        }
        below
    }
}
