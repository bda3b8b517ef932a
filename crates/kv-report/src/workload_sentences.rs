//! What was found of each strategy instance in each workload that is a script of its own, in a sentence.

use crate::forked_sentences::{of_classify, of_multimodal};
use crate::rows_sentences::{of_serve, of_summarise};
use crate::shown::{bytes, with_interval};
use crate::speculative_sentence::of_speculative;
use crate::stream_sentence::of_stream;
use crate::{Results, Row, Status, counted};

/// One sentence for each row of such a workload, in the order of the rows.
pub fn workload_sentences(results: &Results) -> Vec<String> {
    results.rows.iter().filter(|row| row.status == Status::Unsupported || !row.workload.is_empty()).map(sentence).collect()
}

fn sentence(row: &Row) -> String {
    let (label, workload) = (&row.cell.label, &row.cell.workload);
    if row.status != Status::Ok {
        let reason = row.error.as_ref().map_or(String::new(), |error| format!(": {error}"));
        return format!("{workload}: {label} was not measured ({}{reason}).", row.status);
    }
    let found = match workload.as_str() {
        "chat" => of_chat(row),
        "classify" => of_classify(row),
        "multimodal" => of_multimodal(row),
        "serve" => of_serve(row),
        "stream" => of_stream(row),
        "summarise" => of_summarise(row),
        "speculative" => of_speculative(row),
        _ => vec![],
    };
    let mut found = found.join("; ");
    if let Some(difference) = row.value("first_difference_tokens") {
        found.push_str(&format!("; its text first differs from the one it is set beside after {}", counted(difference as usize, "token")));
    }
    format!("{workload}: {label} {}.", found.trim_start_matches("; "))
}

fn of_chat(row: &Row) -> Vec<String> {
    let mut found = vec![];
    if let Some((_, ratio)) = row.along("shared prefix", "ttft_ratio").find(|(turn, _)| *turn == 1.0) {
        // The median of so many users is none who waits for the system prompt.
        let whose = if row.cell.batch > 2 { " of users after the first" } else { "" };
        found.push(format!("answers the first turn{whose} in {} of the time with a shared system prompt", with_interval(ratio)));
    }
    let last = |variant| row.along(variant, "heap_bytes").last().map(|(_, value)| value.value);
    if let Some((shared, separate)) = last("shared prefix").zip(last("separate")) {
        let users = counted(row.cell.batch, "user");
        found.push(format!("holds {users} in {} with it and in {} without", bytes(shared), bytes(separate)));
    }
    match ["shared prefix", "separate"].into_iter().find_map(|variant| row.along(variant, "break_even_turn").next()) {
        Some((_, turn)) => found.push(format!("has paid for itself against recomputing at the end of turn {:.0}", turn.value)),
        None if row.cell.baseline.is_none() => found.push("recomputes".into()),
        None => found.push("does not pay for itself against recomputing within these turns".into()),
    }
    found
}
