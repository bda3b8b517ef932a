//! The memory ledger as a table: each level with what it differs from the one before.

use kv_report::{Results, Row};

use crate::screen::printable;
use crate::table::{Line, Side, Table};

const COLUMNS: [(&str, Side); 13] = [
    ("label", Side::Left),
    ("length", Side::Right),
    ("batch", Side::Right),
    ("formula", Side::Right),
    ("cache says", Side::Right),
    ("heap", Side::Right),
    ("resident", Side::Right),
    ("kept", Side::Right),
    ("untouched", Side::Right),
    ("unexplained", Side::Right),
    ("bits", Side::Right),
    ("transient prefill, decode", Side::Right),
    ("alone, a fork", Side::Right),
];

/// The table. `None` if no bytes were counted.
pub(crate) fn ledger(results: &Results) -> Option<Table<'static>> {
    let rows: Vec<Line> = results.rows.iter().filter(|row| row.value("usage_bytes").is_some()).map(line).collect();
    let below = vec![
        "Bytes between steps at exactly this length. Beside a level, in brackets, what it differs by from the one before it.".to_owned(),
        "resident: pages that came with the cache. kept: freed pages that the allocator had not given back. untouched: reserved, and not resident. unexplained: resident beyond heap + kept - untouched; memory mapped beside the heap shows there from 1 MiB on (or 1 %).".to_owned(),
        "transient: the most that a call took beyond what it held before and after. alone: what each sequence holds without the others. a fork: what a fork of the first adds at once, and after a step of its own.".to_owned(),
    ];
    (!rows.is_empty()).then(|| Table { above: vec!["Memory ledger".into()], columns: &COLUMNS, rows, remark_column: 0, below })
}

fn line(row: &Row) -> Line {
    let bytes = |id: &str| row.value(id).map_or("-".to_owned(), |bytes| format!("{bytes:.0}"));
    let with = |id: &str, residual: &str| {
        let beside = row.value(residual).map_or(String::new(), |residual| format!(" ({residual:+.0})"));
        format!("{}{beside}", bytes(id))
    };
    let fields = [
        printable(&row.cell.label),
        row.cell.seq_len.to_string(),
        row.cell.batch.to_string(),
        bytes("formula_bytes"),
        with("usage_bytes", "formula_residual_bytes"),
        with("heap_live_bytes", "ledger_residual_bytes"),
        bytes("rss_bytes"),
        bytes("allocator_kept_bytes"),
        bytes("untouched_bytes"),
        row.value("rss_residual_bytes").map_or("-".to_owned(), |residual| format!("{residual:+.0}")),
        row.value("effective_bits").map_or("-".to_owned(), |bits| format!("{bits:.2}")),
        format!("{}, {}", bytes("transient_peak_prefill_bytes"), bytes("transient_peak_decode_bytes")),
        format!("{}, {}, {}", bytes("sequence_bytes"), bytes("fork_bytes"), bytes("fork_step_bytes")),
    ];
    Line { fields: fields.into(), remark: String::new() }
}
