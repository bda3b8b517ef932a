//! Characters of a text that nobody sees.

/// The first character that is invisible where it stands. What shapes letters and emoji is not: joiners between them, variation
/// selectors behind them, and the tags of a flag.
pub(crate) fn hidden(text: &str) -> Option<char> {
    let characters: Vec<char> = text.chars().collect();
    let is_hidden = |index: usize| {
        let before = index.checked_sub(1).map(|before| characters[before]);
        let after = characters.get(index + 1).copied();
        match kind(characters[index]) {
            Kind::Visible => false,
            Kind::Joiner => !(before.is_some_and(may_be_joined) && after.is_some_and(may_be_joined)),
            Kind::Variation => !before.is_some_and(may_vary),
            Kind::Tag => !before.is_some_and(|before| before == BLACK_FLAG || kind(before) == Kind::Tag),
            Kind::Hidden => true,
        }
    };
    (0..characters.len()).find(|index| is_hidden(*index)).map(|index| characters[index])
}

/// The text as it looks to most readers: white space is one blank, and what only shapes other characters is left out.
pub(crate) fn as_seen(text: &str) -> String {
    let shown = text.chars().filter(|character| !matches!(kind(*character), Kind::Joiner | Kind::Variation | Kind::Hidden));
    shown.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text with what nobody sees written out. Blanks are left as they are.
pub(crate) fn written_out(text: &str) -> String {
    let is_seen = |character: char| kind(character) == Kind::Visible && (character == ' ' || !character.is_whitespace());
    let written = |character: char| if is_seen(character) { character.into() } else { character.escape_unicode().to_string() };
    text.chars().map(written).collect()
}

/// The flag that the flags of England, Scotland and Wales begin with.
const BLACK_FLAG: char = '\u{1f3f4}';

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// White space too.
    Visible,
    Joiner,
    /// It chooses how the character before it looks.
    Variation,
    /// A letter of a flag's region.
    Tag,
    Hidden,
}

fn kind(character: char) -> Kind {
    match character {
        '\u{200c}' | '\u{200d}' => Kind::Joiner,
        '\u{180b}'..='\u{180d}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => Kind::Variation,
        '\u{e0020}'..='\u{e007f}' => Kind::Tag,
        // Without width or ink, or the direction of a text.
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}' | '\u{200b}' => Kind::Hidden,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' => Kind::Hidden,
        '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e001f}' | '\u{e0080}'..='\u{e00ff}' => Kind::Hidden,
        _ => Kind::Visible,
    }
}

/// Whether a joiner beside it may change how it looks: Persian and Indic letters, and emoji.
fn may_be_joined(character: char) -> bool {
    match kind(character) {
        Kind::Visible => !character.is_ascii() && !character.is_whitespace(),
        kind => kind == Kind::Variation,
    }
}

/// Whether a variation selector behind it may change how it looks.
fn may_vary(character: char) -> bool {
    kind(character) == Kind::Visible && (!character.is_ascii() || character.is_ascii_digit() || matches!(character, '#' | '*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shapes_letters_and_emoji_is_not_hidden() {
        for text in [
            "contiguous f16",
            "تسمية من اليمين",
            "תווית",
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "👩\u{200d}💻",
            "👩\u{200d}❤\u{fe0f}\u{200d}👨",
            "1\u{fe0f}\u{20e3}",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "e\u{301}té",
            "日本語のラベル",
        ] {
            assert_eq!(hidden(text), None, "{text}");
        }
    }

    #[test]
    fn what_changes_nothing_that_is_seen_is_hidden() {
        for (text, character) in [
            ("a\u{200b}", '\u{200b}'),
            ("a\u{200d}b", '\u{200d}'),
            ("👩\u{200d}", '\u{200d}'),
            ("\u{202e}abc\u{202c}", '\u{202e}'),
            ("a\u{2066}b", '\u{2066}'),
            ("a\u{fe0f}", '\u{fe0f}'),
            ("a\u{e0061}", '\u{e0061}'),
            ("\u{feff}a", '\u{feff}'),
            ("co\u{ad}op", '\u{ad}'),
        ] {
            assert_eq!(hidden(text), Some(character), "{text:?}");
        }
    }

    #[test]
    fn texts_that_look_alike_are_seen_alike_and_written_out_otherwise() {
        assert_eq!(as_seen("a \u{a0}b\u{3000}c"), as_seen("a b c"));
        assert_eq!(as_seen("می\u{200c}خواهم"), as_seen("میخواهم"));
        assert_ne!(as_seen("ab"), as_seen("a b"));
        assert_eq!(written_out("a\u{a0}b c\u{200b}"), "a\\u{a0}b c\\u{200b}");
    }
}
