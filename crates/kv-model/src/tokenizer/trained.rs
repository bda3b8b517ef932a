//! A tokenizer in the format of the `tokenizers` library.

use std::str::FromStr;

use tokenizers::{Decoder, DecoderWrapper, Tokenizer};

use super::guard::guarded;
use super::limits;
use crate::LoadError;

/// The library's tokenizer, with the steps of its decoder laid out one after another.
#[derive(Debug)]
pub(super) struct Trained {
    tokenizer: Tokenizer,
    decoder: Option<Vec<DecoderWrapper>>,
}

impl Trained {
    /// Reads the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`LoadError::Tokenizer`].
    pub(super) fn read(json: &str) -> Result<Trained, LoadError> {
        let json = json.strip_prefix('\u{FEFF}').unwrap_or(json);
        limits::check(json)?;
        guarded(|| {
            let mut tokenizer = Tokenizer::from_str(json)?;
            // They describe the batches of a training run and would cut or pad a prompt.
            tokenizer.with_truncation(None)?.with_padding(None);
            let decoder = tokenizer.get_decoder().map(steps);
            Ok(Trained { tokenizer, decoder })
        })
    }

    /// The ids of a text, with the special tokens that the file puts around it.
    ///
    /// # Errors
    /// [`LoadError::Tokenizer`].
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, LoadError> {
        guarded(|| Ok(self.tokenizer.encode(text, true)?.get_ids().to_vec()))
    }

    /// The ids of a text alone.
    ///
    /// # Errors
    /// [`LoadError::Tokenizer`].
    pub(super) fn encode_plain(&self, text: &str) -> Result<Vec<u32>, LoadError> {
        guarded(|| Ok(self.tokenizer.encode(text, false)?.get_ids().to_vec()))
    }

    /// The id of a token.
    pub(super) fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// Whether an id has a text.
    pub(super) fn has_text(&self, id: u32) -> bool {
        self.tokenizer.id_to_token(id).is_some_and(|token| !token.is_empty())
    }

    /// The text of ids.
    ///
    /// # Errors
    /// [`LoadError::Tokenizer`].
    pub(super) fn decode(&self, ids: &[u32]) -> Result<String, LoadError> {
        guarded(|| {
            let mut tokens: Vec<String> = ids.iter().filter_map(|id| self.tokenizer.id_to_token(*id)).collect();
            let Some(steps) = &self.decoder else { return Ok(tokens.join(" ")) };
            for step in steps {
                tokens = match step {
                    DecoderWrapper::ByteFallback(_) => join_bytes(tokens),
                    other => other.decode_chain(tokens)?,
                };
            }
            Ok(tokens.concat())
        })
    }
}

/// A decoder's steps, those of nested sequences included.
fn steps(decoder: &DecoderWrapper) -> Vec<DecoderWrapper> {
    match decoder {
        DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().flat_map(steps).collect(),
        other => vec![other.clone()],
    }
}

/// Makes text of tokens such as `<0xE3>`, each of which is a byte.
///
/// The library gives up a whole run of them if one character in it is incomplete, so that text which was already
/// shown would turn into replacement characters. Here only the bytes of that character do, one each.
fn join_bytes(tokens: Vec<String>) -> Vec<String> {
    let mut joined = vec![];
    let mut run = vec![];
    let end_run = |run: &mut Vec<u8>, joined: &mut Vec<String>| {
        if !run.is_empty() {
            let chunks = run.utf8_chunks();
            let marks = |bytes: &[u8]| char::REPLACEMENT_CHARACTER.to_string().repeat(bytes.len());
            joined.push(chunks.map(|chunk| chunk.valid().to_owned() + &marks(chunk.invalid())).collect());
            run.clear();
        }
    };
    for token in tokens {
        match byte(&token) {
            Some(byte) => run.push(byte),
            None => {
                end_run(&mut run, &mut joined);
                joined.push(token);
            }
        }
    }
    end_run(&mut run, &mut joined);
    joined
}

fn byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}
