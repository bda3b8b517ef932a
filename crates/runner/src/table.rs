//! Tables on the standard output: in columns for a terminal, or in Markdown.

use clap::ValueEnum;

use crate::screen::{padded, screen_width, widest};

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
    /// The table as text. Columns that do not fit the screen are left out, and named.
    pub(crate) fn text(&self, format: Format) -> String {
        match format {
            Format::Plain => self.plain(screen_width()),
            Format::Markdown => self.markdown(),
        }
    }

    fn plain(&self, screen: Option<usize>) -> String {
        let (shown, left_out) = screen.map_or_else(|| ((0..self.columns.len()).collect(), vec![]), |screen| self.fitting(screen));
        let most = screen.map_or(usize::MAX, |_| LONGEST_FIELD);
        let names = self.names();
        let widths: Vec<usize> = shown.iter().map(|column| self.width(*column, most)).collect();
        let line = |fields: &[String], after: &str| {
            let mut line = String::new();
            for (column, width) in shown.iter().zip(&widths) {
                let field = cut(&fields[*column], most);
                let fill = padded("", width.saturating_sub(widest([field.as_str()])));
                match self.columns[*column].1 {
                    Side::Left => line.extend([&field, &fill, "  "]),
                    Side::Right => line.extend([&fill, field.as_str(), "  "]),
                }
            }
            format!("{}{after}\n", if after.is_empty() { line.trim_end() } else { &line })
        };
        let sentence = |sentence: &String| screen.map_or_else(|| sentence.clone(), |screen| textwrap::fill(sentence, screen)) + "\n";
        let mut text: String = self.above.iter().map(sentence).collect();
        if !self.above.is_empty() {
            text.push('\n');
        }
        text.push_str(&line(&names, ""));
        for row in &self.rows {
            text.push_str(&line(&row.fields, &row.remark));
        }
        let below: Vec<String> = left_out.into_iter().chain(self.below.iter().cloned()).collect();
        if !below.is_empty() {
            text.push('\n');
        }
        text.extend(below.iter().map(sentence));
        text
    }

    /// The width of a column whose fields are cut at `most`.
    fn width(&self, column: usize, most: usize) -> usize {
        let fields = self.rows.iter().map(|row| row.fields[column].as_str());
        widest(fields.chain([self.columns[column].0])).min(most)
    }

    /// The columns that fit a screen, and what is not shown. Columns that say the same in all rows go first, then those on the
    /// right.
    fn fitting(&self, screen: usize) -> (Vec<usize>, Vec<String>) {
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let fits = |shown: &[usize]| shown.iter().map(|column| self.width(*column, LONGEST_FIELD) + 2).sum::<usize>() <= screen + 2;
        let mut alike = vec![];
        let first = |column: usize| self.rows.first().map(|row| row.fields[column].as_str());
        let is_alike =
            |column: &usize| self.rows.len() > 1 && self.rows.iter().all(|row| Some(row.fields[*column].as_str()) == first(*column));
        while let Some(at) = shown.iter().position(is_alike).filter(|_| !fits(&shown)) {
            let column = shown.remove(at);
            alike.push(format!("{} {}", self.columns[column].0, first(column).unwrap_or_default()));
        }
        let mut narrow = vec![];
        while !fits(&shown) && shown.len() > 1 {
            narrow.extend(shown.pop().map(|column| self.columns[column].0));
        }
        narrow.reverse();
        let sentence = |words: &str, columns: Vec<String>| (!columns.is_empty()).then(|| format!("{words}: {}.", columns.join(", ")));
        let narrow: Vec<String> = narrow.into_iter().map(str::to_owned).collect();
        let left_out = [sentence("The same in all rows", alike), sentence(&format!("Left out on a screen of {screen} columns"), narrow)];
        (shown, left_out.into_iter().flatten().collect())
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

/// The longest field on a screen that cannot show everything.
const LONGEST_FIELD: usize = 28;

/// A text that is no longer than this, with a mark where it was cut.
fn cut(text: &str, most: usize) -> String {
    if widest([text]) <= most { text.to_owned() } else { format!("{}…", padded(text, most - 1).trim_end()) }
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

    /// Columns of the widths 6, 40, 9 and 9, of which the first says the same everywhere.
    fn wide() -> Table<'static> {
        const COLUMNS: [(&str, Side); 4] = [("kind", Side::Left), ("label", Side::Left), ("first", Side::Right), ("second", Side::Right)];
        let row = |label: &str, number: &str| Line {
            fields: vec!["decode".into(), label.into(), number.into(), number.into()],
            remark: String::new(),
        };
        Table {
            above: vec![],
            columns: &COLUMNS,
            rows: vec![row("short", "123456789"), row(&"long".repeat(10), "1")],
            remark_column: 0,
            below: vec!["A sentence that is a good deal longer than the screen is wide.".into()],
        }
    }

    #[test]
    fn without_a_screen_nothing_is_left_out() {
        let text = wide().plain(None);
        assert!(text.lines().any(|line| line.contains(&"long".repeat(10)) && line.starts_with("decode")), "{text}");
        assert!(text.ends_with("screen is wide.\n") && !text.contains("Left out"), "{text}");
    }

    #[test]
    fn a_narrow_screen_shows_what_fits_and_names_the_rest() {
        for (screen, columns, expected) in [
            (52, "label                             first     second", "The same in all rows: kind decode."),
            (45, "label                             first", "Left out on a screen of 45 columns: second."),
            (10, "label", "Left out on a screen of 10"),
        ] {
            let text = wide().plain(Some(screen));
            assert_eq!(text.lines().next().unwrap(), columns, "{text}");
            assert!(text.replace('\n', " ").contains(expected), "{text}");
            assert!(text.contains("longlonglonglonglonglonglon…"), "{text}");
            assert!(text.lines().all(|line| widest([line]) <= screen.max(LONGEST_FIELD)), "{text}");
        }
    }

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
