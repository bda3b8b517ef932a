//! A small trained model and a text that it was not trained on, in the program. `small/README.md` says what they are.

/// The name of the small model.
pub const SMALL: &str = "small";

/// Its file: 2.6 million weights in q8_0, with its tokenizer, for [`gguf::load`](crate::gguf::load).
pub const SMALL_GGUF: &[u8] = include_bytes!("../small/kvlab-small.gguf");

/// Addresses to Congress of 2019 to 2021 and the last chapters of Moby-Dick, 222 KB, in the public domain.
pub const HELD_OUT_TEXT: &str = include_str!("../small/held-out.txt");
