//! The speed-ups of several models as a table.

use kv_report::{Overview, SpeedUp, SpeedUps, overview_sentences, shown_speed_up};

use crate::screen::printable;
use crate::table::{Line, Side, Table};

const COLUMNS: [(&str, Side); 6] = [
    ("model", Side::Left),
    ("length", Side::Right),
    ("batch", Side::Right),
    ("recomputed (ms)", Side::Right),
    ("baseline (ms)", Side::Right),
    ("times as fast", Side::Left),
];

/// The table, with what the models show together below it.
pub(crate) fn speed_up_table(overview: &Overview) -> Table<'static> {
    let speed_ups = overview.speed_ups();
    Table {
        above: vec!["Keys and values kept or recomputed".into()],
        columns: &COLUMNS,
        rows: speed_ups.iter().flat_map(|model| model.points.iter().map(move |point| line(model, point))).collect(),
        remark_column: 0,
        below: overview_sentences(overview).iter().map(|sentence| printable(sentence)).collect(),
    }
}

fn line(model: &SpeedUps, point: &SpeedUp) -> Line {
    let fields = vec![
        printable(&model.name),
        point.seq_len.to_string(),
        point.batch.to_string(),
        format!("{:.2}", point.recomputed_ms),
        format!("{:.2}", point.baseline_ms),
        shown_speed_up(point),
    ];
    Line { fields, remark: String::new() }
}
