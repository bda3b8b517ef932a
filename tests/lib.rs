//! Holds the workspace's `[[test]]` targets, and what the tests of several crates share.

pub mod chain;
pub mod gguf;
pub mod tokenizers;
