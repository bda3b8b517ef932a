//! Text in the embedded font.

use plotters::prelude::*;
use plotters::style::TextStyle;
use plotters_backend::BackendTextStyle;

/// The embedded font is registered as the generic family, whose name an SVG hands to its viewer.
pub(super) const FONT: &str = "sans-serif";

/// A style of text, by its height in units of length.
pub(super) fn text(size: u32, (red, green, blue): (u8, u8, u8)) -> TextStyle<'static> {
    (FONT, size).into_font().color(&RGBColor(red, green, blue))
}

/// Lines of at most this width, broken between words, and within a word that is wider.
pub(super) fn wrapped(words: &str, size: u32, width: u32) -> Vec<String> {
    let style = text(size, (0, 0, 0));
    let fits = |text: &str| style.layout_box(text).is_ok_and(|((left, _), (right, _))| (right - left) <= width as i32);
    let mut lines = vec![String::new()];
    for word in words.split(' ') {
        let last = lines.last_mut().expect("there is always a line");
        let longer = if last.is_empty() { word.to_owned() } else { format!("{last} {word}") };
        if fits(&longer) {
            *last = longer;
            continue;
        }
        let mut rest = if last.is_empty() {
            std::mem::take(last)
        } else {
            lines.push(String::new());
            String::new()
        };
        for character in word.chars() {
            rest.push(character);
            if !fits(&rest) && rest.chars().count() > 1 {
                rest.pop();
                *lines.last_mut().expect("there is always a line") = std::mem::replace(&mut rest, character.into());
                lines.push(String::new());
            }
        }
        *lines.last_mut().expect("there is always a line") = rest;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_within_long_ones() {
        super::super::register();
        assert_eq!(wrapped("a b", 20, 1000), ["a b"]);
        assert_eq!(wrapped("", 20, 1000), [""]);
        let lines = wrapped("two words and aVeryVeryLongWordThatNoLineCanHold end", 20, 120);
        assert!(lines.len() > 3, "{lines:?}");
        assert_eq!(lines.concat().replace(' ', ""), "twowordsandaVeryVeryLongWordThatNoLineCanHoldend");
        let style = text(20, (0, 0, 0));
        assert!(lines.iter().all(|line| style.layout_box(line).unwrap().1.0 <= 121), "{lines:?}");
        // A width that holds no character still ends.
        assert_eq!(wrapped("abc", 20, 1), ["a", "b", "c"]);
    }
}
