//! Whether a plan has room in this machine's memory.

use crate::Problem;
use crate::free_memory::size;
use crate::sweep::{Prediction, Setting};

/// Refuses a plan of which nothing fits into memory, or whose prompt cannot be recorded there.
///
/// # Errors
/// A [`Problem`] with what is needed and what is free.
pub(super) fn require_room(prediction: &Prediction<'_>, setting: &Setting<'_>) -> Result<(), Problem> {
    require_one_that_fits(prediction)?;
    require_room_to_record(prediction, setting)
}

/// Refuses a plan of which nothing fits into memory. If some cells fit, the others are rows with the reason.
fn require_one_that_fits(prediction: &Prediction<'_>) -> Result<(), Problem> {
    let plan = prediction.plan;
    match prediction.too_large.first() {
        Some(too_large) if prediction.too_large.len() == plan.cells.len() => {
            let cell = &plan.cells[too_large.cell];
            let sequences = if cell.batch == 1 { String::new() } else { format!(" with {} sequences at once", cell.batch) };
            let what = format!("`{}` at length {}{sequences}", cell.label, cell.seq_len);
            let help = match cell.workload {
                workload if workload.has_lengths() => {
                    "shorter `lengths` or a smaller `batch` need less; `max_length` leaves long cells out for one strategy".into()
                }
                workload => format!("smaller numbers in [{workload}] need less"),
            };
            Err(Problem::new(format!("{what}: {}", prediction.refusal(too_large))).help(help))
        }
        _ => Ok(()),
    }
}

/// Refuses a prompt that cannot be recorded within the limit: computing it for every strategy instead may take hours.
fn require_room_to_record(prediction: &Prediction<'_>, setting: &Setting<'_>) -> Result<(), Problem> {
    match &prediction.recording {
        Some(recording) if recording.memory_bytes > setting.memory_limit => Err(Problem::new(format!(
            "recording the prompt of {} tokens takes {} of memory, and {} are free for a worker (`memory_limit`)",
            recording.key.tokens.len(),
            size(recording.memory_bytes),
            size(setting.memory_limit)
        ))
        .help("shorter `lengths` need less; `fill = \"prefill\"` in [sweep] records nothing and lets the model compute every prompt")),
        _ => Ok(()),
    }
}
