//! Texts from outside on the screen: nothing in them reaches the terminal as a command, and columns stay in line.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The text with its control characters written out, line breaks and tabs excepted: an escape character would
/// be obeyed by the terminal.
pub(crate) fn printable(text: &str) -> String {
    let shown = |c: char| if is_command(c) { c.escape_default().collect() } else { String::from(c) };
    text.chars().map(shown).collect()
}

/// The text with a `?` for every byte of a control character (a blank for the `\r` of a line's end), so that places
/// in it stay where they are.
pub(crate) fn printable_in_place(text: &str) -> String {
    let shown = |c: char| match c {
        '\r' => " ".into(),
        _ if is_command(c) => "?".repeat(c.len_utf8()),
        _ => String::from(c),
    };
    text.chars().map(shown).collect()
}

fn is_command(character: char) -> bool {
    character.is_control() && !matches!(character, '\n' | '\t')
}

/// The text cut and filled to a width on the screen, where a Chinese character takes two columns.
pub(crate) fn padded(text: &str, width: usize) -> String {
    let mut shown = String::new();
    let mut left = width;
    for character in text.chars() {
        let columns = character.width().unwrap_or(0);
        if columns > left {
            break;
        }
        left -= columns;
        shown.push(character);
    }
    let fill = width.saturating_sub(shown.width());
    shown + &" ".repeat(fill)
}

/// The columns that the widest of some texts takes.
pub(crate) fn widest<'a>(texts: impl IntoIterator<Item = &'a str>) -> usize {
    texts.into_iter().map(UnicodeWidthStr::width).max().unwrap_or(0)
}

/// The columns of the screen, if the output is read on one: those of the terminal, or what `COLUMNS` says.
pub(crate) fn screen_width() -> Option<usize> {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    said.or_else(|| terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| width.0.into()))
}

/// The text with line breaks where the screen ends.
pub(crate) fn wrapped(text: &str) -> String {
    screen_width().map_or_else(|| text.to_owned(), |width| textwrap::fill(text, width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_fills_the_same_columns() {
        for text in ["", "plain", "缓存记住了前面的每一个词", "e\u{301}té", "🙂🙂", "a very long token that is cut"] {
            assert_eq!(padded(text, 18).width(), 18, "{text}");
        }
        assert_eq!(widest(["缓存", "abc", ""]), 4);
    }

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(printable("a\u{1b}[31mb\u{9b}c\rd\ne"), "a\\u{1b}[31mb\\u{9b}c\\rd\ne");
        assert_eq!(printable_in_place("a\u{1b}b\u{9b}c\r\n"), "a?b??c \n");
    }
}
