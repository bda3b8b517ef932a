//! A text between which facts stand.

/// The longest line, in bytes, unless a single word is longer.
const LINE: usize = 72;

/// The lines of a text, wrapped at blanks and at the ends of sentences. A word that is longer than a line, as in a language
/// without blanks, is cut.
pub fn filler(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    let mut line = String::new();
    for word in text.split_whitespace().flat_map(pieces) {
        if !line.is_empty() && line.len() + 1 + word.len() > LINE {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if word.ends_with(['.', '?', '!']) {
            lines.push(std::mem::take(&mut line));
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// A word, or the pieces of one that is longer than a line.
fn pieces(word: &str) -> Vec<&str> {
    let mut pieces = vec![];
    let mut rest = word;
    while rest.len() > LINE {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(LINE));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_sentences_and_no_word_is_lost() {
        let text = "Call me Ishmael.  Some years ago,\nnever mind how long precisely, having little or no money in my purse! And so";
        let lines = filler(text);
        assert_eq!(lines[0], "Call me Ishmael.");
        assert_eq!(lines.len(), 4);
        assert_eq!(lines.join(" "), text.split_whitespace().collect::<Vec<_>>().join(" "));
        assert!(lines.iter().all(|line| line.len() <= LINE), "{lines:?}");
        assert!(filler(" \n ").is_empty());
    }

    #[test]
    fn a_text_without_blanks_is_cut_between_characters() {
        let text = "鯨".repeat(100);
        let lines = filler(&text);
        assert!(lines.iter().all(|line| line.len() <= LINE) && lines.concat() == text, "{lines:?}");
    }
}
