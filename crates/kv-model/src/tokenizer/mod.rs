//! Text to token ids and back.

mod guard;
mod limits;
mod stream;
mod trained;

pub use guard::panic_becomes_error;
pub use stream::TextStream;

use crate::LoadError;
use trained::Trained;

/// A model's tokenizer, with what a driver must know beside it.
#[derive(Debug)]
pub struct TextTokenizer {
    vocabulary: Vocabulary,
    /// Ids a prompt starts with, beside those that the vocabulary itself adds.
    before: Vec<u32>,
    /// Ids a prompt ends with, likewise.
    after: Vec<u32>,
    /// Ids that end a text.
    ends: Vec<u32>,
}

#[derive(Debug)]
enum Vocabulary {
    Trained(Box<Trained>),
    /// The ids below 256 are UTF-8 bytes and the others mean nothing.
    Bytes,
    /// There is none, so that ids cannot be turned into text.
    Missing,
}

impl TextTokenizer {
    /// The tokenizer of a model that was made without one: one token a byte.
    pub fn bytes() -> TextTokenizer {
        TextTokenizer::of(Vocabulary::Bytes)
    }

    /// Stands in for a tokenizer that is missing from the model's files; it refuses every text.
    pub fn missing() -> TextTokenizer {
        TextTokenizer::of(Vocabulary::Missing)
    }

    /// A tokenizer from the text of a `tokenizer.json`. What it says of truncation and padding is left out.
    ///
    /// # Errors
    /// [`LoadError::Tokenizer`].
    pub fn from_json(json: &str) -> Result<TextTokenizer, LoadError> {
        Ok(TextTokenizer::of(Vocabulary::Trained(Box::new(Trained::read(json)?))))
    }

    fn of(vocabulary: Vocabulary) -> TextTokenizer {
        TextTokenizer { vocabulary, before: vec![], after: vec![], ends: vec![] }
    }

    /// Puts ids before and after every prompt.
    #[must_use]
    pub fn between(self, before: Vec<u32>, after: Vec<u32>) -> TextTokenizer {
        TextTokenizer { before, after, ..self }
    }

    /// Sets the ids that end a text.
    #[must_use]
    pub fn ended_by(self, ends: Vec<u32>) -> TextTokenizer {
        TextTokenizer { ends, ..self }
    }

    /// A prompt's ids, with what the model wants around it.
    ///
    /// # Errors
    /// [`LoadError::NoTokenizer`] if there is none, [`LoadError::Tokenizer`] if it refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, LoadError> {
        let ids = match &self.vocabulary {
            Vocabulary::Bytes => bytes(text),
            Vocabulary::Trained(trained) => trained.encode(text)?,
            Vocabulary::Missing => return Err(LoadError::NoTokenizer),
        };
        Ok([self.before.as_slice(), &ids, &self.after].concat())
    }

    /// The ids of a text that stands behind another one, with nothing put around them: those of both texts together after the
    /// last that they share with the first alone.
    ///
    /// # Errors
    /// As [`encode`](TextTokenizer::encode).
    pub fn continuation(&self, before: &str, text: &str) -> Result<Vec<u32>, LoadError> {
        let plain = |text: &str| match &self.vocabulary {
            Vocabulary::Bytes => Ok(bytes(text)),
            Vocabulary::Trained(trained) => trained.encode_plain(text),
            Vocabulary::Missing => Err(LoadError::NoTokenizer),
        };
        let (before, both) = (plain(before)?, plain(&format!("{before}{text}"))?);
        let shared = before.iter().zip(&both).take_while(|(before, both)| before == both).count();
        Ok(both[shared..].to_vec())
    }

    /// Whether the text ends with this id.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// A stream that continues the text of the ids `before`.
    ///
    /// # Errors
    /// [`LoadError::NoTokenizer`] if there is none, [`LoadError::Tokenizer`] if it cannot decode them.
    pub fn stream(&self, before: &[u32]) -> Result<TextStream<'_>, LoadError> {
        TextStream::new(self, before)
    }

    /// The text of ids; what is no text is replacement characters.
    ///
    /// # Errors
    /// [`LoadError::NoTokenizer`] if there is none, [`LoadError::Tokenizer`] if it cannot decode them.
    pub fn decode(&self, ids: &[u32]) -> Result<String, LoadError> {
        match &self.vocabulary {
            Vocabulary::Bytes => {
                let bytes: Vec<u8> = ids.iter().filter_map(|id| u8::try_from(*id).ok()).collect();
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Vocabulary::Trained(trained) => trained.decode(ids),
            Vocabulary::Missing => Err(LoadError::NoTokenizer),
        }
    }

    /// The id of a token, if the vocabulary has it.
    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        match &self.vocabulary {
            Vocabulary::Trained(trained) => trained.id(token),
            Vocabulary::Bytes | Vocabulary::Missing => None,
        }
    }

    /// Whether an id stands for text, be it only a part of a character.
    pub fn has_text(&self, id: u32) -> bool {
        match &self.vocabulary {
            Vocabulary::Bytes => id < 256,
            Vocabulary::Trained(trained) => trained.has_text(id),
            Vocabulary::Missing => false,
        }
    }
}

fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}
