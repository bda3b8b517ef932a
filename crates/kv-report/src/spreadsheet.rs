//! Text that is safe in a spreadsheet.
//!
//! A spreadsheet takes a text that begins with `=`, `+`, `-`, `@`, a tab or a carriage return for a formula. Labels and
//! the names of models come from files, so such a text gets a `'` in front, which spreadsheets show as text; reading takes
//! it off again.

/// A text that no spreadsheet takes for a formula. One that would be read back as another gets a `'` as well.
pub(crate) fn as_text(text: &str) -> String {
    if is_formula(text.trim_start_matches('\'')) { format!("'{text}") } else { text.to_owned() }
}

/// What [`as_text`] was made of.
pub(crate) fn of_text(text: &str) -> &str {
    match text.strip_prefix('\'') {
        Some(original) if is_formula(original.trim_start_matches('\'')) => original,
        _ => text,
    }
}

/// Whether a spreadsheet takes a text for a formula.
pub(crate) fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r'])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const TEXTS: [&str; 13] =
        ["=1+1", "+1", "-5 degrees", "@SUM(A1)", "\tx", "\rx", "'=1", "''-1", "'quoted'", "'", "", "plain", "a=1"];

    #[test]
    fn no_text_is_a_formula_and_every_text_comes_back() {
        for text in TEXTS {
            assert!(!is_formula(&as_text(text)), "{text}");
            assert_eq!(of_text(&as_text(text)), text);
        }
    }
}
