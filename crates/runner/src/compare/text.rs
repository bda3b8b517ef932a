//! A comparison as text, for a terminal or in Markdown.

use kv_report::{Changed, Comparison, Difference, TimeChange, TimeTable, counted};

use crate::screen::{printable, wrapped};
use crate::table::{self, Format, Line, Side, Table};

/// The most rows of a table: a comment has room for no more, and nobody reads them. The page has all.
const MOST_ROWS: usize = 100;

/// The comparison under a title.
pub(crate) fn text(title: &str, comparison: &Comparison, format: Format) -> String {
    let Comparison { before, after, violations, .. } = comparison;
    let mut text = match format {
        Format::Plain => format!("{}\n\n", printable(title)),
        Format::Markdown => format!("### {}\n\n", escaped(title)),
    };
    let sides = [before, after].map(|side| format!("{}: {}", side.name, side.what));
    text.push_str(&list(&sides, format));
    if !violations.is_empty() {
        text.push_str(&heading("What was to fail", format));
        text.push_str(&list(violations, format));
    }
    text.push_str(&heading("What was found", format));
    text.push_str(&list(&comparison.sentences(), format));
    if !comparison.changed.is_empty() {
        text.push_str(&heading("What is not the same beside the numbers", format));
        text.push_str(&changed(comparison, format));
    }
    if let Some(table) = comparison.time_table() {
        text.push_str(&heading("Times", format));
        text.push_str(&times(comparison, table, format));
    }
    if !comparison.differences.is_empty() {
        text.push_str(&heading("Values that do not depend on the machine, and differ", format));
        text.push_str(&differences(comparison, format));
    }
    text
}

fn heading(words: &str, format: Format) -> String {
    match format {
        Format::Plain => format!("\n{words}\n\n"),
        Format::Markdown => format!("\n#### {words}\n\n"),
    }
}

fn list(sentences: &[String], format: Format) -> String {
    let line = |sentence: &String| match format {
        Format::Plain => wrapped(&printable(sentence)) + "\n",
        Format::Markdown => format!("- {}\n", escaped(sentence)),
    };
    sentences.iter().map(line).collect()
}

fn escaped(text: &str) -> String {
    table::escaped(&printable(text))
}

fn changed(comparison: &Comparison, format: Format) -> String {
    let row = |changed: &Changed| vec![changed.what.clone(), changed.before.clone(), changed.after.clone()];
    let columns = [("what", Side::Left), (comparison.before.name, Side::Left), (comparison.after.name, Side::Left)];
    table(&columns, comparison.changed.iter().map(row).collect(), vec![], format)
}

fn times(comparison: &Comparison, times: &TimeTable, format: Format) -> String {
    let ratio = comparison.ratio_heading();
    let mut columns = vec![
        ("cell", Side::Left),
        ("metric", Side::Left),
        (comparison.before.name, Side::Right),
        (comparison.after.name, Side::Right),
        (ratio.as_str(), Side::Left),
    ];
    if times.has_baselines() {
        columns.push(("of the baseline's", Side::Left));
    }
    columns.push(("verdict", Side::Left));
    let row = |row: &TimeChange| {
        let (before, after) = row.shown_ms();
        let mut fields = vec![row.name(), row.metric.to_owned(), before, after, row.change.to_string()];
        if times.has_baselines() {
            fields.push(row.shown_of_baseline());
        }
        fields.push(row.verdict.to_string());
        fields
    };
    table(&columns, times.rows.iter().map(row).collect(), [times.how.clone(), times.floor.clone()].concat(), format)
}

fn differences(comparison: &Comparison, format: Format) -> String {
    let row = |difference: &Difference| {
        let Difference { place, what, before, after, change, direction } = difference;
        vec![place.to_string(), what.clone(), before.text.clone(), after.text.clone(), change.clone(), direction.to_string()]
    };
    let columns = [
        ("cell", Side::Left),
        ("metric", Side::Left),
        (comparison.before.name, Side::Right),
        (comparison.after.name, Side::Right),
        ("change", Side::Right),
        ("verdict", Side::Left),
    ];
    table(&columns, comparison.differences.iter().map(row).collect(), vec![], format)
}

/// A table whose texts are printable and which has not too many rows.
fn table(columns: &[(&str, Side)], rows: Vec<Vec<String>>, mut below: Vec<String>, format: Format) -> String {
    let left_out = rows.len().saturating_sub(MOST_ROWS);
    if left_out > 0 {
        below.insert(0, format!("The page has {} (`--format html`).", counted(left_out, "more row")));
    }
    let line = |fields: Vec<String>| Line { fields: fields.iter().map(|field| printable(field)).collect(), remark: String::new() };
    let table = Table {
        above: vec![],
        columns,
        rows: rows.into_iter().take(MOST_ROWS).map(line).collect(),
        remark_column: 0,
        below: below.iter().map(|sentence| printable(sentence)).collect(),
    };
    table.text(format)
}
