//! `roofline`: how much of the machine's read bandwidth decode attention uses.

use std::process::ExitCode;

use kv_core::{Geometry, Registry};
use kv_model::Preset;

use super::{print, use_threads};
use crate::cli::RooflineArguments;
use crate::problem::did_you_mean;
use crate::roofline::{Roofline, Settings, Spread, bytes_of_all, measure};
use crate::{Problem, exit, free_memory};

/// Beyond these the medians do not move.
const MOST_ROUNDS: usize = 10_000;

pub(crate) fn roofline(registry: &Registry, arguments: &RooflineArguments) -> Result<ExitCode, Problem> {
    let RooflineArguments { models, tokens, rounds, threads, json } = arguments;
    if *tokens == 0 || !(1..=MOST_ROUNDS).contains(rounds) {
        return Err(Problem::new(format!(
            "`--tokens {tokens} --rounds {rounds}`: there must be at least 1 token, and 1 to {MOST_ROUNDS} rounds"
        )));
    }
    let models: Vec<(String, Geometry)> = models.iter().map(|name| shape_of(name)).collect::<Result<_, _>>()?;
    for (name, geometry) in &models {
        free_memory::require(bytes_of_all(geometry, *tokens), &format!("{name} with {tokens} tokens in every format and layout"))?;
    }
    use_threads(*threads)?;
    let settings = Settings { models, tokens: *tokens, rounds: *rounds };
    // On a thread of the pool: handing each layer's work over from outside would be timed as well.
    let result = rayon::scope(|_| measure(registry, &settings));
    let result = result.map_err(|error| {
        Problem::new(format!("cannot fill the caches: {error}")).help("`roofline` reads caches of the strategies in `runner::builtin()`")
    })?;
    let text = if *json { serde_json::to_string_pretty(&result).unwrap_or_default() + "\n" } else { as_table(&result) };
    print(&text)?;
    Ok(exit::OK)
}

fn shape_of(name: &str) -> Result<(String, Geometry), Problem> {
    let preset = Preset::find(name).ok_or_else(|| {
        let known = Preset::ALL.map(|preset| preset.name);
        let help = did_you_mean(name, known).unwrap_or_else(|| format!("known: {}", known.join(", ")));
        Problem::new(format!("unknown model shape `{name}`")).help(help)
    })?;
    Ok((name.to_owned(), preset.config(None).geometry))
}

fn as_table(result: &Roofline) -> String {
    let cache = result.last_level_cache_bytes.map_or("of unknown size".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    let mut text = format!(
        "read bandwidth {} GB/s, {} threads, kernel path {}, last-level cache {cache}\n\
         one query per layer over {} tokens, {} rounds in turns: medians, and in brackets the quartiles of all rounds\n",
        gigabytes(result.read_bandwidth),
        result.threads,
        result.kernel_path,
        result.tokens,
        result.rounds,
    );
    let mut model = "";
    for row in &result.rows {
        if row.model != model {
            model = &row.model;
            text.push_str(&format!(
                "\n{model}\n{:10} {:22} {:>12} {:>21} {:>21} {:>12} {:>14}\n",
                "format", "layout", "µs per layer", "GB/s", "of the bandwidth", "× f32", "× contiguous"
            ));
        }
        text.push_str(&format!(
            "{:10} {:22} {:>12.1} {:>21} {:>21} {:>12.2} {:>14.2}\n",
            row.format,
            row.layout,
            1e6 * row.layer_seconds.median,
            gigabytes(row.bytes_per_second),
            spread(row.of_bandwidth, 1.0, 2),
            row.tokens_per_second_over_f32.median,
            row.tokens_per_second_over_contiguous.median,
        ));
    }
    text
}

fn gigabytes(rate: Spread) -> String {
    spread(rate, 1e-9, 1)
}

fn spread(spread: Spread, scale: f64, digits: usize) -> String {
    let Spread { median, lower_quartile, upper_quartile } = spread;
    format!("{:.digits$} [{:.digits$}, {:.digits$}]", scale * median, scale * lower_quartile, scale * upper_quartile)
}
