//! Text as its tokens come.

use super::TextTokenizer;
use crate::LoadError;

/// Turns ids into text as they come. Only the bytes of an incomplete character wait for the rest.
///
/// A token's text depends on the tokens before it: a leading space is kept unless it opens the text, and bytes may
/// complete a character. So each token is decoded together with the last few, and the difference is handed out.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a TextTokenizer,
    /// The last ids that have a text.
    window: Vec<u32>,
    /// Bytes of the window's text that were handed out already, or belong to the text that is continued.
    told: usize,
    /// Bytes of the text that is continued, until something was handed out. Between `told` and here are only
    /// replacement characters: the next ids may complete a character there, or leave them as they are.
    continued: usize,
}

/// Ids kept as context. Up to three replacement characters wait at the end of the window, and each may itself be
/// spelt in three ids. The context is longer, so that a character cut by the window's start is not counted with them.
const CONTEXT: usize = 16;
/// Ids after which the window is cut back to the context.
const LONGEST_WINDOW: usize = 48;

impl<'a> TextStream<'a> {
    pub(super) fn new(tokenizer: &'a TextTokenizer, before: &[u32]) -> Result<TextStream<'a>, LoadError> {
        let meaningful = before.iter().rev().copied().filter(|id| tokenizer.has_text(*id));
        let mut window: Vec<u32> = meaningful.take(CONTEXT).collect();
        window.reverse();
        let text = tokenizer.decode(&window)?;
        Ok(TextStream { tokenizer, window, told: complete(&text), continued: text.len() })
    }

    /// Adds a token and answers the text that is now complete, perhaps none.
    ///
    /// # Errors
    /// [`LoadError::Tokenizer`] if the tokenizer cannot decode it.
    pub fn push(&mut self, id: u32) -> Result<String, LoadError> {
        if !self.tokenizer.has_text(id) {
            return Ok(String::new());
        }
        self.window.push(id);
        let text = self.tokenizer.decode(&self.window)?;
        let end = complete(&text);
        let new = text.get(self.start(&text)..end).unwrap_or_default().to_owned();
        self.told = self.told.max(end);
        if !new.is_empty() {
            self.continued = 0;
        }
        if self.window.len() > LONGEST_WINDOW {
            self.window.drain(..self.window.len() - CONTEXT);
            // What was not handed out stands at the end. It may begin after the last character that is surely complete:
            // three bytes that were three replacement characters may since have become one.
            let left = self.tokenizer.decode(&self.window)?.len();
            let moved = |place: usize| (place + left).saturating_sub(text.len());
            (self.told, self.continued) = (moved(self.told), moved(self.continued));
        }
        Ok(new)
    }

    /// The text of a character that never became complete, as replacement characters.
    ///
    /// # Errors
    /// [`LoadError::Tokenizer`] if the tokenizer cannot decode it.
    pub fn finish(self) -> Result<String, LoadError> {
        let text = self.tokenizer.decode(&self.window)?;
        Ok(text.get(self.start(&text)..).unwrap_or_default().to_owned())
    }

    /// Where the text begins that was not handed out and is not that of the prompt.
    fn start(&self, text: &str) -> usize {
        let mut start = self.told;
        while start < self.continued && text.get(start..).is_some_and(|rest| rest.starts_with(char::REPLACEMENT_CHARACTER)) {
            start += char::REPLACEMENT_CHARACTER.len_utf8();
        }
        start
    }
}

/// Bytes of the text that later tokens cannot change: all but the replacement characters at its end that may stand
/// for the bytes of one character.
fn complete(text: &str) -> usize {
    const MOST_BYTES_OF_A_PART: usize = 3;
    let mut end = text;
    for _ in 0..MOST_BYTES_OF_A_PART {
        end = end.strip_suffix(char::REPLACEMENT_CHARACTER).unwrap_or(end);
    }
    end.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(tokenizer: &TextTokenizer, before: &[u32], ids: &[u32]) -> Vec<String> {
        let mut stream = tokenizer.stream(before).unwrap();
        let mut pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
        pieces.push(stream.finish().unwrap());
        pieces
    }

    #[test]
    fn a_character_appears_when_its_last_byte_does() {
        let tokenizer = TextTokenizer::bytes();
        let ids = tokenizer.encode("é水🙂").unwrap();
        assert_eq!(pieces(&tokenizer, &[], &ids), ["", "é", "", "", "水", "", "", "", "🙂", ""]);
    }

    #[test]
    fn what_is_no_text_does_not_stop_the_stream() {
        let ids = [0xFF, 0xFF, 0xFF, 0xFF, u32::from(b'a'), 900, u32::from(b'b')];
        assert_eq!(pieces(&TextTokenizer::bytes(), &[], &ids).concat(), "����ab");
    }

    #[test]
    fn ids_without_a_meaning_do_not_part_a_character() {
        let ids: Vec<u32> = [vec![0xE6, 0xB0], vec![900; 100], vec![0xB4]].concat();
        assert_eq!(pieces(&TextTokenizer::bytes(), &[], &ids).concat(), "水");
    }

    #[test]
    fn a_character_that_the_prompt_began_is_completed() {
        assert_eq!(pieces(&TextTokenizer::bytes(), &[0x61, 0xE6, 0xB0], &[0xB4, 0x62]), ["水", "b", ""]);
    }
}
