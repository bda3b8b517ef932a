//! `run --dry-run`: what a plan will take.

use kv_report::counted;

use super::print;
use crate::Problem;
use crate::block::Block;
use crate::config::Level;
use crate::free_memory::size;
use crate::plan::Plan;
use crate::progress::human;
use crate::screen::printable;
use crate::sweep::{Certainty, Prediction, Setting};

/// Prints the blocks of a plan with their time and memory, what a recording takes on disk, and why a run would be refused, if it
/// would. Answers the seconds of all.
///
/// # Errors
/// A [`Problem`] if the standard output cannot be written.
pub(crate) fn print_plan(prediction: &Prediction<'_>, setting: &Setting<'_>, refusal: Option<Problem>) -> Result<f64, Problem> {
    let (plan, probes) = (prediction.plan, prediction.probes);
    let mut text = String::new();
    let mut total = 0.0;
    if let Some(recording) = &prediction.recording {
        let seconds = prediction.recording_seconds();
        total += seconds;
        text.push_str(&format!(
            "the prompt of {} is recorded, in about {} and {} of memory, and replayed into every cache; the recording \
             takes {} on disk\n\n",
            counted(recording.key.tokens.len(), "token"),
            human(seconds),
            size(recording.memory_bytes),
            size(recording.disk_bytes)
        ));
    }
    let mut texts_seconds = 0.0;
    for (texts, what, then) in [
        (&prediction.windows, "windows of the text", "the model reads on"),
        (&prediction.recall, "texts with facts", "the model is asked for them"),
    ] {
        let Some(longest) = texts.iter().max_by_key(|text| text.key.tokens.len()) else { continue };
        let seconds = prediction.text_recording_seconds(longest);
        texts_seconds += texts.len() as f64 * seconds;
        text.push_str(&format!(
            "{} {what} are recorded, up to {} tokens of each, in about {} and {} on disk each; then {then}\n\n",
            texts.len(),
            longest.key.tokens.len(),
            human(seconds),
            size(longest.disk_bytes)
        ));
    }
    total += texts_seconds;
    text.push_str(&launches(prediction));
    if setting.other.is_some() {
        text.push_str("workers of both builds take turns, which is counted in what follows\n\n");
    }
    text.push_str("about     memory       block\n");
    for block in prediction.own_blocks() {
        let seconds = setting.builds().len() as f64 * prediction.block_seconds(block);
        total += seconds;
        let (bytes, certainty) = prediction.block_bytes(block);
        let memory = match certainty {
            Certainty::Predicted => size(bytes),
            Certainty::Least => format!("> {}", size(bytes)),
        };
        text.push_str(&format!("{:<9} {memory:<12} {}\n", human(seconds), block.name));
        for cell in &block.cells {
            text.push_str(&format!("{:23}{}\n", "", cell_line(prediction, *cell)));
        }
        text.push_str(&again(plan, block));
    }
    for too_large in prediction.too_large.iter().filter(|too_large| prediction.is_own(too_large.cell)) {
        let cell = &plan.cells[too_large.cell];
        text.push_str(&format!("not measured: {} at {}: {}\n", printable(&cell.label), cell.seq_len, prediction.refusal(too_large)));
    }
    let own = || plan.cells.iter().enumerate().filter(|(index, _)| prediction.is_own(*index)).map(|(_, cell)| cell);
    for cell in own() {
        if let Some(broken) = probes.refusal(plan, cell) {
            text.push_str(&format!("not measured: {} at {}: {}\n", printable(&cell.label), cell.seq_len, printable(&broken.reason)));
        }
    }
    let ttft = prediction.ttft_seconds();
    if ttft > 0.0 {
        text.push_str(&format!("the time to first token adds about {} of that; `ttft = false` in [sweep] leaves it out\n", human(ttft)));
    }
    let judged = prediction.blocks.iter().flat_map(|block| &block.cells);
    let quality = judged.map(|cell| prediction.quality_seconds(*cell)).sum::<f64>() + texts_seconds;
    if quality > 0.0 {
        text.push_str(&format!("quality adds about {} of that, its windows included\n", human(quality)));
    }
    text.push_str(&format!(
        "\n{}, about {} on {}, in {} (an order of magnitude; the running sweep corrects it)\n",
        counted(own().count(), "cell"),
        human(total),
        counted(setting.threads, "thread"),
        counted(prediction.own_blocks().count(), "block")
    ));
    let weights = if plan.level == Level::Model { ", the model's weights included" } else { "" };
    text.push_str(&format!("a worker may take {} of memory (`memory_limit`){weights}\n", size(setting.memory_limit)));
    text.push_str(&parts(prediction));
    text.extend(refusal.map(|refusal| format!("\nWithout `--dry-run` this is refused: {}\n", refusal.line())));
    print(&text)?;
    Ok(total)
}

/// All parts of a plan that is shared, the one that was asked for marked.
fn parts(prediction: &Prediction<'_>) -> String {
    let Some((own, shares)) = prediction.shares() else { return String::new() };
    let mut text = format!("\nThis is part {own} of the plan. All parts, on machines like this one:\n");
    text.push_str("part      about     memory       blocks\n");
    for (number, share) in (1..).zip(shares) {
        let mark = if number == own.part { "<- this one" } else { "" };
        let blocks = prediction.names_of_part(number);
        let blocks = if blocks.is_empty() { "none".to_owned() } else { blocks.join("; ") };
        let (part, about) = (format!("{number}/{}", own.of), human(share.milliseconds as f64 / 1e3));
        text.push_str(format!("{part:<9} {about:<9} {:<12} {blocks} {mark}", size(share.bytes)).trim_end());
        text.push('\n');
    }
    text
}

/// How often the blocks are timed, and against what.
fn launches(prediction: &Prediction<'_>) -> String {
    let plan = prediction.plan;
    let Plan { launches, .. } = plan;
    let twice = if *launches as usize >= kv_metrics::LEAST_LAUNCHES {
        format!(", up to {} where times spread", 2 * launches)
    } else {
        String::new()
    };
    let baseline = match baselines(prediction).as_slice() {
        [] => "there is no baseline".to_owned(),
        [one] => format!("the baseline is {one}, and is timed twice to show the noise"),
        several => format!("the baselines are {}, and are timed twice to show the noise", several.join(" and ")),
    };
    let by = match *launches {
        1 => "by 1 process".to_owned(),
        launches => format!("by {launches} processes, one after the other{twice}"),
    };
    format!("each block is timed {by}; {baseline}\n\n")
}

/// The baselines of the blocks, each once: where the usual one is not measured, another takes its place.
fn baselines(prediction: &Prediction<'_>) -> Vec<String> {
    let mut labels = vec![];
    for cell in prediction.own_blocks().filter_map(|block| block.baseline) {
        let label = format!("`{}`", printable(&prediction.plan.cells[cell].label));
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    labels
}

fn cell_line(prediction: &Prediction<'_>, index: usize) -> String {
    let cell = &prediction.plan.cells[index];
    let bytes = match prediction.probes.bytes(prediction.plan, cell) {
        Some((bytes, Certainty::Predicted)) => size(bytes),
        Some((bytes, Certainty::Least)) => format!("at least {}", size(bytes)),
        None => "unknown".into(),
    };
    let seconds = prediction.latency_seconds(index, 0);
    format!("{}: about {}, its cache {bytes}", printable(&cell.label), human(seconds))
}

/// A line for the baseline where it is timed again.
fn again(plan: &Plan, block: &Block) -> String {
    block.again.map_or(String::new(), |cell| format!("{:23}and again the baseline, {}\n", "", printable(&plan.cells[cell].label)))
}
