//! How a text is split before merges apply; `tokenizer.ggml.pre` names it.
//!
//! The names and patterns are those of llama.cpp (`llm_tokenizer_bpe` in `llama-vocab.cpp`), which splits by one
//! expression after another, each within the pieces that the one before it left.

use serde_json::{Value, json};

use crate::LoadError;

/// What a name of `tokenizer.ggml.pre` stands for.
pub(super) struct Splitting {
    /// As `tokenizer.json` has it.
    pub(super) normalizer: Value,
    /// As `tokenizer.json` has it.
    pub(super) pre_tokenizer: Value,
    /// Whether a piece that is in the vocabulary is taken whole.
    pub(super) ignore_merges: bool,
    /// Whether a prompt starts with the BOS token if the file does not say.
    pub(super) adds_bos: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";

/// Mistral's, of which a word with a capital inside is two.
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|",
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

impl Splitting {
    /// The splitting of this name.
    ///
    /// # Errors
    /// [`LoadError::Key`] with the names that are known.
    pub(super) fn of(pre: &str) -> Result<Splitting, LoadError> {
        let by = |patterns: &[&str]| Splitting {
            normalizer: Value::Null,
            pre_tokenizer: in_turn(patterns),
            ignore_merges: false,
            adds_bos: false,
        };
        match pre {
            "default" => Ok(by(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"])),
            "gpt-2" | "gpt2" | "exaone4" | "jais" | "mpt" | "olmo" | "phi-2" | "trillion" => Ok(by(&[GPT2])),
            "smollm" | "codeshell" | "command-r" | "exaone" | "minerva-7b" | "refact" | "starcoder" => Ok(by(&[r"\p{N}", GPT2])),
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "lfm2" | "pixtral" => {
                Ok(Splitting { ignore_merges: true, adds_bos: true, ..by(&[&words_and_digits("{1,3}")]) })
            }
            "dbrx" | "smaug-bpe" => Ok(by(&[&words_and_digits("{1,3}")])),
            "deepseek-r1-qwen" | "hunyuan" | "megrez" | "stablelm2" => Ok(by(&[&words_and_digits("")])),
            // The original tokenizer normalizes to NFC; llama.cpp does not.
            "qwen2" => Ok(Splitting { normalizer: json!({ "type": "NFC" }), ..by(&[&words_and_digits("")]) }),
            // The original pattern, which llama.cpp approximates.
            "tekken" => Ok(Splitting { ignore_merges: true, adds_bos: true, ..by(&[TEKKEN]) }),
            other => Err(LoadError::key(
                "tokenizer.ggml.pre",
                format!(
                    "is `{other}`, which is not supported; supported: default, gpt-2, smollm, llama-bpe, qwen2, tekken, and the names that llama.cpp splits like one of them"
                ),
            )),
        }
    }
}

/// The pattern of Llama 3 and Qwen 2, which differ in how many digits go together.
fn words_and_digits(digits: &str) -> String {
    format!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
}

/// Splits by one pattern after another, and spells the bytes of the pieces as `tokenizer.ggml.tokens` does.
fn in_turn(patterns: &[&str]) -> Value {
    let split = |pattern: &&str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    let steps: Vec<Value> = patterns.iter().map(split).chain([bytes]).collect();
    json!({ "type": "Sequence", "pretokenizers": steps })
}

#[cfg(test)]
mod tests {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper};

    use super::*;

    /// The pieces of a text, with `_` for a space.
    fn pieces(pre: &str, text: &str) -> String {
        let pre_tokenizer: PreTokenizerWrapper = serde_json::from_value(Splitting::of(pre).unwrap().pre_tokenizer).unwrap();
        let mut split = PreTokenizedString::from(text);
        pre_tokenizer.pre_tokenize(&mut split).unwrap();
        let pieces = split.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
        pieces.into_iter().map(|(piece, _, _)| piece.replace('Ġ', "_").replace('Ċ', "n")).collect::<Vec<_>>().join(" ")
    }

    /// As `llm_tokenizer_bpe` splits them, worked out by hand.
    #[test]
    fn each_name_splits_as_llama_cpp_does() {
        let text = "Hello, world! It's 12345 $3.50 (a-b) x=y; 1990s";
        for (pre, expected) in [
            ("default", "Hello , _world ! _It ' s _ 123 45 _ $ 3 . 50 _ ( a - b ) _x = y ; _ 199 0 s"),
            ("gpt-2", "Hello , _world ! _It 's _12345 _$ 3 . 50 _( a - b ) _x = y ; _1990 s"),
            ("smollm", "Hello , _world ! _It 's _ 1 2 3 4 5 _$ 3 . 5 0 _( a - b ) _x = y ; _ 1 9 9 0 s"),
            ("llama-bpe", "Hello , _world ! _It 's _ 123 45 _$ 3 . 50 _( a -b ) _x =y ; _ 199 0 s"),
            ("qwen2", "Hello , _world ! _It 's _ 1 2 3 4 5 _$ 3 . 5 0 _( a -b ) _x =y ; _ 1 9 9 0 s"),
            ("tekken", "Hello , _world ! _It 's _ 1 2 3 4 5 _$ 3 . 5 0 _( a -b ) _x =y ; _ 1 9 9 0 s"),
        ] {
            assert_eq!(pieces(pre, text), expected, "{pre}");
        }
        assert_eq!(pieces("default", "a  b\n\nc |`~ 1٢34"), "a _ _b n n c _ | ` ~ _ 1Ù¢34");
        assert_eq!(pieces("tekken", "fooBar HTML aB/\n/c"), "foo Bar _HTML _a B /n/ c");
        assert_eq!(pieces("qwen2", "fooBar HTML aB/\n/c"), "fooBar _HTML _aB /n /c");
    }

    #[test]
    fn a_splitting_that_is_not_known_is_refused() {
        let message = Splitting::of("bloom").err().unwrap().to_string();
        assert!(message.starts_with("key `tokenizer.ggml.pre` is `bloom`"), "{message}");
    }
}
