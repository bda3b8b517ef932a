//! The table at the end of a run: what was measured, how it compares, and how much of that is noise.

use kv_report::{Comparison, Results, Row, counted, is_baseline, noise, ratio, sentences, workload_sentences};

use crate::compare;
use crate::ledger_table::ledger;
use crate::quality_table::quality;
use crate::recall_table::recall;
use crate::screen::{printable, wrapped};
use crate::table::{Format, Line, Side, Table};

/// The columns, those that matter most first: a narrow screen does not show the last ones.
const COLUMNS: [(&str, Side); 11] = [
    ("workload", Side::Left),
    ("label", Side::Left),
    ("length", Side::Right),
    ("batch", Side::Right),
    ("token (ms)", Side::Right),
    ("of baseline's", Side::Left),
    ("verdict", Side::Left),
    ("heap (MiB)", Side::Right),
    ("first (ms)", Side::Right),
    ("cache (ms)", Side::Right),
    ("of baseline's", Side::Left),
];

/// The column that shows how a row failed, in Markdown.
const VERDICT: usize = 6;

/// The tables at the end of a run: times, the memory ledger, quality, and recall.
pub(crate) fn tables(results: &Results, format: Format) -> String {
    let others =
        [ledger(results), quality(results), recall(results)].into_iter().flatten().map(|table| format!("\n{}", table.text(format)));
    let against = results.against.as_ref().map(|comparison| format!("\n{}", against_text(comparison, format)));
    others.chain(against).fold(summary(results).text(format), |text, table| text + &table)
}

/// The sentences that answer what a run was made for, the most important ones.
pub(crate) fn answer(results: &Results) -> String {
    const MOST: usize = 3;
    let mut sentences = [sentences(results), workload_sentences(results)].concat();
    let more = sentences.len().saturating_sub(MOST);
    sentences.truncate(MOST);
    if more > 0 {
        sentences.push(format!("The page has {}.", counted(more, "more sentence")));
    }
    sentences.iter().map(|sentence| wrapped(&printable(sentence)) + "\n").collect()
}

/// How the build of a run compares with the other one.
pub(crate) fn against_text(comparison: &Comparison, format: Format) -> String {
    compare::text("This build against another one", comparison, format)
}

/// The table of a run.
pub(crate) fn summary(results: &Results) -> Table<'static> {
    let warnings = results.run.warnings.iter().map(|warning| format!("Warning: {warning}"));
    let level = results.run.of_level().join("; ");
    let level = (!level.is_empty()).then_some(level);
    let below = level.into_iter().chain(noise(results)).chain(notes(&results.rows)).chain(warnings);
    Table {
        above: vec![],
        columns: &COLUMNS,
        rows: results.rows.iter().map(|row| Line { fields: fields(row).into(), remark: failure(row) }).collect(),
        remark_column: VERDICT,
        below: below.map(|sentence| printable(&sentence)).collect(),
    }
}

fn fields(row: &Row) -> [String; COLUMNS.len()] {
    const MIB: f64 = 1024.0 * 1024.0;
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    let cell = &row.cell;
    let is_baseline = is_baseline(row);
    let of_baseline = |id: &str| if is_baseline { "1".to_owned() } else { row.values.get(id).map_or("-".to_owned(), ratio) };
    let verdict = row.values.get("tpot_ratio").and_then(|value| value.verdict.clone());
    [
        cell.workload.clone(),
        printable(&cell.label),
        cell.seq_len.to_string(),
        cell.batch.to_string(),
        number(row.value("tpot_ms_p50")),
        of_baseline("tpot_ratio"),
        if is_baseline { "baseline".to_owned() } else { verdict.unwrap_or_else(|| "-".to_owned()) },
        number(row.value("heap_live_bytes").map(|bytes| bytes / MIB)),
        number(row.value("ttft_ms")),
        number(row.value("cache_ms_p50")),
        of_baseline("cache_ratio"),
    ]
}

/// What a reader must know of the rows' numbers, each once, with the rows that it is about.
fn notes(rows: &[Row]) -> Vec<String> {
    const NAMED: usize = 3;
    const MOST: usize = 12;
    let mut notes: Vec<(&str, Vec<String>)> = vec![];
    for row in rows {
        let place = format!("{} at {}", row.cell.label, row.cell.seq_len);
        for note in &row.notes {
            match notes.iter_mut().find(|(known, _)| known == note) {
                Some((_, places)) => places.push(place.clone()),
                None => notes.push((note, vec![place.clone()])),
            }
        }
    }
    let left_out = notes.len().saturating_sub(MOST);
    let sentence = |(note, places): &(&str, Vec<String>)| {
        let more = places.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("Note, {}{more}: {note}.", places.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", "))
    };
    let mut sentences: Vec<String> = notes.iter().take(MOST).map(sentence).collect();
    if left_out > 0 {
        sentences.push(format!("The page has {}.", counted(left_out, "more note")));
    }
    sentences
}

/// How a row failed, if it did.
fn failure(row: &Row) -> String {
    let Some(error) = &row.error else { return String::new() };
    let phase = row.phase.as_ref().map_or(String::new(), |phase| format!(" ({phase})"));
    format!("{}{phase}: {}", row.status, printable(error))
}
