//! Text to token ids and back.

use std::str::FromStr;

use tokenizers::Tokenizer;

use crate::LoadError;

/// A model's tokenizer, with what a driver must know beside it.
#[derive(Debug)]
pub struct TextTokenizer {
    vocabulary: Vocabulary,
    /// Ids a prompt starts with.
    prefix: Vec<u32>,
    /// Ids that end a text.
    ends: Vec<u32>,
}

#[derive(Debug)]
enum Vocabulary {
    Trained(Box<Tokenizer>),
    /// The ids below 256 are UTF-8 bytes and the others mean nothing.
    Bytes,
}

/// Turns ids into text as they come; bytes of an incomplete character wait for the rest.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a TextTokenizer,
    /// Ids whose text was not yet complete.
    waiting: Vec<u32>,
}

impl TextTokenizer {
    /// The tokenizer of a model that has none: one token a byte.
    pub fn bytes() -> TextTokenizer {
        TextTokenizer { vocabulary: Vocabulary::Bytes, prefix: vec![], ends: vec![] }
    }

    /// A tokenizer from the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`LoadError::Tokenizer`].
    pub fn from_json(json: &str, prefix: Vec<u32>, ends: Vec<u32>) -> Result<TextTokenizer, LoadError> {
        let tokenizer = Tokenizer::from_str(json).map_err(|error| LoadError::Tokenizer { reason: error.to_string() })?;
        Ok(TextTokenizer { vocabulary: Vocabulary::Trained(Box::new(tokenizer)), prefix, ends })
    }

    /// A prompt's ids, with what the model wants in front of it.
    ///
    /// # Errors
    /// [`LoadError::Tokenizer`] if the tokenizer refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, LoadError> {
        let ids = match &self.vocabulary {
            Vocabulary::Bytes => text.bytes().map(u32::from).collect(),
            Vocabulary::Trained(tokenizer) => {
                let encoding = tokenizer.encode(text, true).map_err(|error| LoadError::Tokenizer { reason: error.to_string() })?;
                encoding.get_ids().to_vec()
            }
        };
        Ok(self.prefix.iter().copied().chain(ids).collect())
    }

    /// Whether the text ends with this id.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// An empty stream.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream { tokenizer: self, waiting: vec![] }
    }

    fn decode(&self, ids: &[u32]) -> String {
        match &self.vocabulary {
            Vocabulary::Bytes => {
                let bytes: Vec<u8> = ids.iter().filter_map(|id| u8::try_from(*id).ok()).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Vocabulary::Trained(tokenizer) => tokenizer.decode(ids, false).unwrap_or_default(),
        }
    }
}

impl TextStream<'_> {
    /// Adds a token and answers the text that is now complete, perhaps none.
    pub fn push(&mut self, id: u32) -> String {
        /// No character has more bytes, so no more tokens can be waiting for one.
        const LONGEST_CHARACTER: usize = 4;
        self.waiting.push(id);
        let text = self.tokenizer.decode(&self.waiting);
        if text.ends_with(char::REPLACEMENT_CHARACTER) && self.waiting.len() < LONGEST_CHARACTER {
            return String::new();
        }
        self.waiting.clear();
        text
    }

    /// The text of a character that never became complete, as replacement characters.
    pub fn finish(self) -> String {
        self.tokenizer.decode(&self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_appears_when_its_last_byte_does() {
        let tokenizer = TextTokenizer::bytes();
        let ids = tokenizer.encode("é水🙂").unwrap();
        let mut stream = tokenizer.stream();
        let pieces: Vec<String> = ids.iter().map(|id| stream.push(*id)).collect();
        assert_eq!(pieces, ["", "é", "", "", "水", "", "", "", "🙂"]);
        assert_eq!(stream.finish(), "");
    }

    #[test]
    fn what_is_no_text_does_not_stop_the_stream() {
        let tokenizer = TextTokenizer::bytes();
        let mut stream = tokenizer.stream();
        let text: String = [0xFF, 0xFF, 0xFF, 0xFF, u32::from(b'a'), 900].into_iter().map(|id| stream.push(id)).collect();
        assert!(text.ends_with('a'), "{text}");
    }
}
