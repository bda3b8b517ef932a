//! Labels of strategies: whoever reads one can tell it from the others.

use toml::Spanned;

use super::ConfigFile;
use crate::Problem;
use crate::invisible::{as_seen, hidden, written_out};

/// Refuses labels of a config's strategies that cannot be read, or cannot be told apart.
///
/// # Errors
/// A [`Problem`] that points at the label and says what would be right.
pub(crate) fn check_labels(file: &ConfigFile) -> Result<(), Problem> {
    let labels: Vec<&Spanned<String>> = file.config.strategies.iter().map(|instance| &instance.label).collect();
    for (index, label) in labels.iter().enumerate() {
        check(file, label)?;
        let text = label.get_ref();
        let Some(other) = labels[..index].iter().map(|other| other.get_ref()).find(|other| as_seen(other) == as_seen(text)) else {
            continue;
        };
        let message = if other == text {
            format!("two strategies are labeled `{text}`")
        } else {
            format!("the labels `{}` and `{}` look alike", written_out(other), written_out(text))
        };
        return Err(file.problem(label, message).help("a label names a line in every chart, so each must be unique"));
    }
    Ok(())
}

fn check(file: &ConfigFile, label: &Spanned<String>) -> Result<(), Problem> {
    let text = label.get_ref();
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(file.problem(label, "a label must not be empty: it names the line in every chart"));
    }
    if text.chars().any(char::is_control) {
        return Err(file
            .problem(label, format!("the label `{text}` has control characters in it"))
            .help("a label is shown on the terminal and in every chart: use letters, digits, blanks and signs"));
    }
    if trimmed != text {
        return Err(file
            .problem(label, format!("the label `{}` begins or ends with white space, which no chart shows", written_out(text)))
            .help(format!("`{}` would be right", written_out(trimmed))));
    }
    if let Some(hidden) = hidden(text) {
        let message = format!("the label `{}` has `{}` in it, which nobody sees", written_out(text), hidden.escape_unicode());
        return Err(file.problem(label, message).help("letters of any script, digits, blanks, signs and emoji are right"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn refusal(labels: &[&str]) -> Option<String> {
        let strategy = |label: &&str| format!("[[strategy]]\nlabel = {}\nuse = 'naive'\n", toml::Value::from(*label));
        let text = format!("[model]\npreset = 'tiny'\n[sweep]\nlengths = [16]\n{}", labels.iter().map(strategy).collect::<String>());
        let file = ConfigFile::of_text(Path::new("labels.toml"), "labels.toml".into(), text).unwrap();
        check_labels(&file).err().map(|problem| problem.to_string())
    }

    #[test]
    fn labels_that_look_alike_are_refused_with_what_nobody_sees_written_out() {
        for (labels, expected) in [
            (&["A", "A"][..], "two strategies are labeled `A`"),
            (&["A", "A "], "the label `A ` begins or ends with white space"),
            (&["\u{a0}A"], "the label `\\u{a0}A` begins or ends with white space"),
            (&["A\u{200b}"], "the label `A\\u{200b}` has `\\u{200b}` in it"),
            (&["A \u{202e}B\u{202c}"], "the label `A \\u{202e}B\\u{202c}` has `\\u{202e}` in it"),
            (&["A B", "A  B"], "the labels `A B` and `A  B` look alike"),
            (&["A B", "A\u{a0}B"], "the labels `A B` and `A\\u{a0}B` look alike"),
            (&["میخواهم", "می\u{200c}خواهم"], "the labels `میخواهم` and `می\\u{200c}خواهم` look alike"),
            (&[" "], "a label must not be empty"),
        ] {
            let refusal = refusal(labels).unwrap_or_default();
            assert!(refusal.contains(expected), "{labels:?}: {refusal}");
        }
        assert_eq!(refusal(&["A", "a", "تسمية من اليمين", "👩\u{200d}💻", "<script>alert(1)</script>", "=HYPERLINK(\"x\")"]), None);
    }
}
