//! Tables on the standard output: in columns for a terminal, or in Markdown.

use clap::ValueEnum;

use crate::screen::{padded, widest};

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Columns in line, for a terminal.
    #[default]
    Plain,
    /// A table in Markdown, for a README or a pull request.
    Markdown,
}

/// The side on which the fields of a column stand: numbers stand on the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// A table with sentences around it. Its texts are printable.
pub(crate) struct Table<'a> {
    /// Sentences above.
    pub(crate) above: Vec<String>,
    /// The columns.
    pub(crate) columns: &'a [(&'a str, Side)],
    /// The rows.
    pub(crate) rows: Vec<Line>,
    /// The column that shows the remarks in Markdown, which has no room after a row.
    pub(crate) remark_column: usize,
    /// Sentences below.
    pub(crate) below: Vec<String>,
}

/// A row of a table.
pub(crate) struct Line {
    /// One for each column.
    pub(crate) fields: Vec<String>,
    /// What comes after the row on the screen; may be empty.
    pub(crate) remark: String,
}

impl Table<'_> {
    /// The table as text.
    pub(crate) fn text(&self, format: Format) -> String {
        match format {
            Format::Plain => self.plain(),
            Format::Markdown => self.markdown(),
        }
    }

    fn plain(&self) -> String {
        let fields = |column: usize| self.rows.iter().map(move |row| row.fields[column].as_str());
        let widths: Vec<usize> = self.columns.iter().enumerate().map(|(column, (name, _))| widest(fields(column).chain([*name]))).collect();
        let line = |fields: &[String], after: &str| {
            let mut line = String::new();
            for ((field, width), (_, side)) in fields.iter().zip(&widths).zip(self.columns) {
                let fill = padded("", width.saturating_sub(widest([field.as_str()])));
                match side {
                    Side::Left => line.extend([field, &fill, "  "]),
                    Side::Right => line.extend([&fill, field.as_str(), "  "]),
                }
            }
            format!("{}{after}\n", if after.is_empty() { line.trim_end() } else { &line })
        };
        let mut text = String::new();
        self.above.iter().for_each(|sentence| text.extend([sentence, "\n"]));
        if !self.above.is_empty() {
            text.push('\n');
        }
        text.push_str(&line(&self.names(), ""));
        for row in &self.rows {
            text.push_str(&line(&row.fields, &row.remark));
        }
        if !self.below.is_empty() {
            text.push('\n');
        }
        self.below.iter().for_each(|sentence| text.extend([sentence, "\n"]));
        text
    }

    fn markdown(&self) -> String {
        let line = |fields: Vec<String>| format!("| {} |\n", fields.join(" | "));
        let mut text = String::new();
        self.above.iter().for_each(|sentence| text.extend([&escaped(sentence), "\n\n"]));
        text.push_str(&line(self.names()));
        text.push_str(&line(self.columns.iter().map(|(_, side)| if *side == Side::Left { ":--" } else { "--:" }.to_owned()).collect()));
        for row in &self.rows {
            let mut fields: Vec<String> = row.fields.iter().map(|field| escaped(field)).collect();
            if !row.remark.is_empty() {
                fields[self.remark_column] = escaped(&row.remark);
            }
            text.push_str(&line(fields));
        }
        self.below.iter().for_each(|sentence| text.extend(["\n", &escaped(sentence), "\n"]));
        text
    }

    fn names(&self) -> Vec<String> {
        self.columns.iter().map(|(name, _)| (*name).to_owned()).collect()
    }
}

/// Text that Markdown shows as it is in a cell of a table.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        if matches!(character, '|' | '*' | '_' | '`' | '<' | '[' | ']' | '\\') {
            escaped.push('\\');
        }
        escaped.push(if character == '\n' { ' ' } else { character });
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_shows_any_label_as_it_is() {
        let columns: Vec<(&str, Side)> = vec![("name", Side::Right); 11];
        let fields = (0..columns.len()).map(|column| if column == 1 { "a|b_c*".into() } else { column.to_string() }).collect();
        let table = Table {
            above: vec![],
            columns: &columns,
            rows: vec![Line { fields, remark: String::new() }],
            remark_column: 7,
            below: vec!["Noise.".into()],
        };
        let text = table.text(Format::Markdown);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].starts_with(r"| 0 | a\|b\_c\* | 2 |"), "{text}");
        assert!(lines[..3].iter().all(|line| line.replace(r"\|", "").matches('|').count() == columns.len() + 1), "{text}");
        assert_eq!(lines.last(), Some(&"Noise."));
    }
}
