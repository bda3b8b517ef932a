//! A file's text in a message.

/// Characters beyond which the middle of a text is left out.
const LONGEST: usize = 600;
const START: usize = 400;
const END: usize = 160;

/// Text that may come from a file, as a message can show it: control characters are escaped, and the middle of a
/// long text is left out, so that both what was said before an echoed string and after it remain.
pub(crate) fn excerpt(text: &str) -> String {
    let characters = text.chars().count();
    if characters <= LONGEST {
        return printable(text);
    }
    let after = |count: usize| text.char_indices().nth(count).map_or(text.len(), |(at, _)| at);
    let (start, end) = (&text[..after(START)], &text[after(characters - END)..]);
    format!("{} … ({} characters left out) … {}", printable(start), characters - START - END, printable(end))
}

fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn a_long_text_keeps_its_start_and_its_end() {
        let message = format!("is `{}`; supported: llama, qwen2", "ä".repeat(110_000));
        let shown = excerpt(&message);
        assert!(shown.starts_with("is `ääää") && shown.ends_with("`; supported: llama, qwen2"), "{shown}");
        assert!(shown.chars().count() < 700, "{} characters", shown.chars().count());
        assert!(shown.contains("(109470 characters left out)"), "{shown}");
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(excerpt("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
    }
}
