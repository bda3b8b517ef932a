//! What the model finds of the facts in its prompt, as a table.

use kv_report::{LOOKUP, NEEDLE, RECALLS, Recall, Results, Row, recall_sentences};

use crate::screen::printable;
use crate::table::{Line, Side, Table};

const COLUMNS: [(&str, Side); 6] = [
    ("label", Side::Left),
    ("length", Side::Right),
    ("needles", Side::Left),
    ("exact cache", Side::Left),
    ("lookups", Side::Left),
    ("exact cache", Side::Left),
];

/// The table, of the rows in which a task tells caches apart. `None` if there are none.
pub(crate) fn recall(results: &Results) -> Option<Table<'static>> {
    let tells = |row: &&Row| RECALLS.iter().any(|recall| recall.discriminates(row));
    let rows: Vec<Line> = results.rows.iter().filter(tells).map(line).collect();
    let below = recall_sentences(results).iter().map(|sentence| printable(sentence)).collect();
    (!rows.is_empty()).then(|| Table { above: vec!["Recall".into()], columns: &COLUMNS, rows, remark_column: 0, below })
}

fn line(row: &Row) -> Line {
    let [needles, needles_exact] = shares(row, NEEDLE);
    let [lookups, lookups_exact] = shares(row, LOOKUP);
    let fields = [printable(&row.cell.label), row.cell.seq_len.to_string(), needles, needles_exact, lookups, lookups_exact];
    Line { fields: fields.into(), remark: String::new() }
}

/// The shares of right answers with the row's cache and with an exact one, with their intervals.
fn shares(row: &Row, recall: Recall) -> [String; 2] {
    let percent = |share: f64| format!("{:.0}", 100.0 * share);
    [recall.accuracy, recall.dense].map(|id| match row.values.get(id).filter(|_| recall.discriminates(row)) {
        Some(value) => {
            let beside = value.interval.map_or(String::new(), |(low, high)| format!(" [{}, {}]", percent(low), percent(high)));
            format!("{} %{beside}", percent(value.value))
        }
        None => "-".to_owned(),
    })
}
