//! The table that shows, step by step, what a cache saves.

use std::time::Duration;

use kv_core::KvCache;
use kv_model::Sequence;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::print;

/// Prints a row a step. Rows of keys and values are counted in one layer and one KV head.
pub(super) struct Trace;

/// What is known before a step.
#[derive(Clone, Copy)]
pub(super) struct TraceRow {
    seen: usize,
    resident: usize,
    computed: usize,
}

const TOKEN_WIDTH: usize = 18;

impl TraceRow {
    pub(super) fn before(cache: &dyn KvCache, sequence: &Sequence, fresh: usize) -> TraceRow {
        let seen = sequence.tokens().len();
        let computed = if cache.recomputes() { seen + fresh } else { fresh };
        TraceRow { seen, resident: cache.usage().resident_tokens, computed }
    }
}

impl Trace {
    pub(super) fn new() -> Trace {
        print("rows are keys and values of one head in one layer; every head of every layer has as many\n");
        print(&format!(
            "{} {:>13} {:>9} {:>8} {:>8} {:>12} {:>9}\n",
            padded("token fed"),
            "positions run",
            "computed",
            "reused",
            "evicted",
            "cache bytes",
            "ms"
        ));
        Trace
    }

    /// The row of a prompt of so many tokens.
    pub(super) fn prompt(&self, before: TraceRow, cache: &dyn KvCache, tokens: usize, elapsed: Duration) {
        let plural = if tokens == 1 { "" } else { "s" };
        self.row(before, cache, &format!("prompt, {tokens} token{plural}"), tokens, elapsed);
    }

    /// The row of a token that completed this text, on one line.
    pub(super) fn token(&self, before: TraceRow, cache: &dyn KvCache, text: &str, elapsed: Duration) {
        let shown = match text {
            "" => "(part of a letter)".into(),
            text => text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect::<String>(),
        };
        self.row(before, cache, &shown, 1, elapsed);
    }

    fn row(&self, before: TraceRow, cache: &dyn KvCache, fed: &str, tokens: usize, elapsed: Duration) {
        let TraceRow { seen, resident, computed } = before;
        let usage = cache.usage();
        let end = seen + tokens;
        let run = format!("{}..{end}", end - computed);
        let evicted = resident + computed - usage.resident_tokens;
        let milliseconds = elapsed.as_secs_f64() * 1e3;
        let bytes = usage.reserved_bytes();
        print(&format!("{} {run:>13} {computed:>9} {resident:>8} {evicted:>8} {bytes:>12} {milliseconds:>9.2}\n", padded(fed)));
    }
}

/// Text cut and filled to a width on the screen, where a Chinese character takes two columns.
fn padded(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        if shown.width() + character.width().unwrap_or(0) > TOKEN_WIDTH {
            break;
        }
        shown.push(character);
    }
    let fill = TOKEN_WIDTH - shown.width();
    shown + &" ".repeat(fill)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_fills_the_same_columns() {
        for text in ["", "plain", "缓存记住了前面的每一个词", "e\u{301}té", "🙂🙂", "a very long token that is cut"] {
            assert_eq!(padded(text).width(), TOKEN_WIDTH, "{text}");
        }
    }
}
