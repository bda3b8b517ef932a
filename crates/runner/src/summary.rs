//! The table at the end of a run: what was measured, how it compares, and how much of that is noise.

use clap::ValueEnum;
use kv_report::{Results, Row, is_baseline, noise, ratio};

use crate::screen::{padded, printable, widest};

/// How the table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Columns in line, for a terminal.
    #[default]
    Plain,
    /// A table in Markdown, for a README or a pull request.
    Markdown,
}

/// The table.
pub(crate) struct Summary {
    rows: Vec<[String; COLUMNS.len()]>,
    /// What comes after a row on the screen: how it failed.
    failures: Vec<String>,
    /// Sentences under the table.
    below: Vec<String>,
}

/// The columns; the numbers stand on the right.
const COLUMNS: [(&str, Side); 11] = [
    ("workload", Side::Left),
    ("label", Side::Left),
    ("length", Side::Right),
    ("batch", Side::Right),
    ("first (ms)", Side::Right),
    ("token (ms)", Side::Right),
    ("of baseline's", Side::Left),
    ("verdict", Side::Left),
    ("cache (ms)", Side::Right),
    ("of baseline's", Side::Left),
    ("heap (MiB)", Side::Right),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Summary {
    /// The table of a run.
    pub(crate) fn of(results: &Results) -> Summary {
        let rows = results.rows.iter().map(fields).collect();
        let failures = results.rows.iter().map(failure).collect();
        let level = results.run.of_level().join("; ");
        let level = (!level.is_empty()).then_some(level);
        let below = level.iter().chain(&noise(results)).map(|sentence| printable(sentence)).collect();
        Summary { rows, failures, below }
    }

    /// The table as text.
    pub(crate) fn text(&self, format: Format) -> String {
        match format {
            Format::Plain => self.plain(),
            Format::Markdown => self.markdown(),
        }
    }

    fn plain(&self) -> String {
        let widths: Vec<usize> =
            (0..COLUMNS.len()).map(|column| widest(self.rows.iter().map(|row| row[column].as_str()).chain([COLUMNS[column].0]))).collect();
        let line = |fields: &[String], after: &str| {
            let mut line = String::new();
            for ((field, width), (_, side)) in fields.iter().zip(&widths).zip(COLUMNS) {
                let fill = padded("", width.saturating_sub(widest([field.as_str()])));
                match side {
                    Side::Left => line.extend([field, &fill, "  "]),
                    Side::Right => line.extend([&fill, field.as_str(), "  "]),
                }
            }
            format!("{}{after}\n", if after.is_empty() { line.trim_end() } else { &line })
        };
        let mut text = line(&COLUMNS.map(|(name, _)| name.to_owned()), "");
        for (row, failure) in self.rows.iter().zip(&self.failures) {
            text.push_str(&line(row, failure));
        }
        if !self.below.is_empty() {
            text.push('\n');
        }
        self.below.iter().for_each(|sentence| text.extend([sentence, "\n"]));
        text
    }

    fn markdown(&self) -> String {
        let line = |fields: Vec<String>| format!("| {} |\n", fields.join(" | "));
        let mut text = line(COLUMNS.iter().map(|(name, _)| (*name).to_owned()).collect());
        text.push_str(&line(COLUMNS.iter().map(|(_, side)| if *side == Side::Left { ":--" } else { "--:" }.to_owned()).collect()));
        for (row, failure) in self.rows.iter().zip(&self.failures) {
            let mut fields: Vec<String> = row.iter().map(|field| escaped(field)).collect();
            if !failure.is_empty() {
                fields[7] = escaped(failure);
            }
            text.push_str(&line(fields));
        }
        self.below.iter().for_each(|sentence| text.extend(["\n", &escaped(sentence), "\n"]));
        text
    }
}

/// Text that Markdown shows as it is in a cell of a table.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        if matches!(character, '|' | '*' | '_' | '`' | '<' | '[' | ']' | '\\') {
            escaped.push('\\');
        }
        escaped.push(if character == '\n' { ' ' } else { character });
    }
    escaped
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
        number(row.value("ttft_ms")),
        number(row.value("tpot_ms_p50")),
        of_baseline("tpot_ratio"),
        if is_baseline { "baseline".to_owned() } else { verdict.unwrap_or_else(|| "-".to_owned()) },
        number(row.value("cache_ms_p50")),
        of_baseline("cache_ratio"),
        number(row.value("heap_live_bytes").map(|bytes| bytes / MIB)),
    ]
}

/// How a row failed, if it did.
fn failure(row: &Row) -> String {
    let Some(error) = &row.error else { return String::new() };
    let phase = row.phase.as_ref().map_or(String::new(), |phase| format!(" ({phase})"));
    format!("{}{phase}: {}", row.status, printable(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_shows_any_label_as_it_is() {
        let summary = Summary {
            rows: vec![std::array::from_fn(|column| if column == 1 { "a|b_c*".into() } else { column.to_string() })],
            failures: vec![String::new()],
            below: vec!["Noise.".into()],
        };
        let text = summary.text(Format::Markdown);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].starts_with(r"| 0 | a\|b\_c\* | 2 |"), "{text}");
        assert!(lines[..3].iter().all(|line| line.replace(r"\|", "").matches('|').count() == COLUMNS.len() + 1), "{text}");
        assert_eq!(lines.last(), Some(&"Noise."));
    }
}
