//! The memory ledger as a table: each level with what it differs from the one before.

use kv_report::{Results, Row};

use crate::screen::printable;
use crate::table::{Line, Side, Table};

const COLUMNS: [(&str, Side); 14] = [
    ("workload", Side::Left),
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
    ("bits kept", Side::Right),
    ("transient prefill, decode", Side::Right),
    ("per sequence, a fork", Side::Right),
];

/// The table. `None` if no bytes were counted. Workloads have a column if there are several.
pub(crate) fn ledger(results: &Results) -> Option<Table<'static>> {
    let rows: Vec<&Row> = results.rows.iter().filter(|row| row.value("usage_bytes").is_some()).collect();
    let left_out = usize::from(rows.windows(2).all(|pair| pair[0].cell.workload == pair[1].cell.workload));
    let below = vec![
        "Bytes between steps at exactly this length. Beside a level, in brackets, what it differs by from the one before it.".to_owned(),
        "resident: pages that came with the cache. kept: freed pages that the allocator had not given back. untouched: reserved, and not resident. unexplained: resident beyond heap + kept - untouched, with memory mapped beside the heap.".to_owned(),
        "A warning: formula, cache and heap differ by more than the larger of 0.1 % and 4 KiB, or resident pages are unexplained by more than the larger of 1 % and 1 MiB.".to_owned(),
        "bits kept: payload and metadata over the values of the tokens that the cache holds; `plan` has bits/value, of all bytes over the values of all tokens.".to_owned(),
        "transient: the most that a call took beyond what it held before and after. per sequence: (heap - shared) / batch. a fork: what a fork of the first sequence adds after the decode steps, at once and after a step of its own.".to_owned(),
    ];
    let lines = rows.iter().map(|row| Line { fields: fields(row)[left_out..].to_vec(), remark: String::new() }).collect();
    let table = Table { above: vec!["Memory ledger".into()], columns: &COLUMNS[left_out..], rows: lines, remark_column: 0, below };
    (!rows.is_empty()).then_some(table)
}

fn fields(row: &Row) -> [String; COLUMNS.len()] {
    let bytes = |id: &str| row.value(id).map_or("-".to_owned(), |bytes| format!("{bytes:.0}"));
    let with = |id: &str, residual: &str| {
        let beside = row.value(residual).map_or(String::new(), |residual| format!(" ({residual:+.0})"));
        format!("{}{beside}", bytes(id))
    };
    [
        row.cell.workload.clone(),
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
    ]
}
