//! What was found out about quality, as a table.

use kv_report::{Results, Row};

use crate::screen::printable;
use crate::table::{Line, Side, Table};

const COLUMNS: [(&str, Side); 12] = [
    ("label", Side::Left),
    ("length", Side::Right),
    ("bits kept", Side::Right),
    ("attention error", Side::Right),
    ("mass kept", Side::Right),
    ("needles", Side::Right),
    ("recent", Side::Right),
    ("perplexity", Side::Right),
    ("beyond exact", Side::Left),
    ("KL divergence", Side::Left),
    ("same top token", Side::Right),
    ("streamed KL", Side::Left),
];

/// The column that shows in Markdown why a divergence ranks nothing.
const KL_DIVERGENCE: usize = 9;

/// The table. `None` if quality was not measured.
pub(crate) fn quality(results: &Results) -> Option<Table<'static>> {
    let rows: Vec<Line> =
        results.rows.iter().filter(|row| row.value("attn_rel_l2").or(row.value("kld_mean")).is_some()).map(line).collect();
    let below = vec![
        "attention error: relative L2 error of attention's outputs. mass kept: share of exact attention on the tokens that are held. needles, recent: planted words found, over all depths and among the newest 16 tokens.".to_owned(),
        "perplexity, KL divergence (nats, in brackets the interval, 95 %), same top token: prompt exact, the cache was given the exactly computed prompt and read token by token. streamed: it held the text from its first token.".to_owned(),
    ];
    (!rows.is_empty()).then(|| Table { above: vec!["Quality".into()], columns: &COLUMNS, rows, remark_column: KL_DIVERGENCE, below })
}

fn line(row: &Row) -> Line {
    let known = |id: &str, show: fn(f64) -> String| row.value(id).map_or("-".to_owned(), show);
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let with_interval = |id: &str, show: fn(f64) -> String| {
        let interval = row.values.get(id).and_then(|value| value.interval);
        let beside = interval.map_or(String::new(), |(low, high)| format!(" [{}, {}]", show(low), show(high)));
        format!("{}{beside}", known(id, show))
    };
    let fields = [
        printable(&row.cell.label),
        row.cell.seq_len.to_string(),
        known("effective_bits", |bits| format!("{bits:.2}")),
        known("attn_rel_l2", scientific),
        known("retained_mass", percent),
        known("needle_acc", percent),
        known("recency_acc", percent),
        known("ppl", |perplexity| format!("{perplexity:.3}")),
        with_interval("ppl_delta", |delta| format!("{delta:+.3}")),
        with_interval("kld_mean", scientific),
        known("same_top1", percent),
        with_interval("streamed_kld_mean", scientific),
    ];
    Line { fields: fields.into(), remark: row.unranked().map(printable).unwrap_or_default() }
}

/// Two significant digits: errors of formats differ by powers of ten.
fn scientific(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { format!("{value:.1e}") }
}
