//! The table that shows, step by step, what a cache saves.

use std::time::Duration;

use kv_core::KvCache;

use super::print;
use crate::Problem;
use crate::screen::padded;

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
    /// Before a sequence of `seen` tokens is fed `fresh` more.
    pub(super) fn before(cache: &dyn KvCache, seen: usize, fresh: usize) -> TraceRow {
        let computed = if cache.recomputes() { seen + fresh } else { fresh };
        TraceRow { seen, resident: cache.usage().resident_tokens, computed }
    }
}

impl Trace {
    pub(super) fn new() -> Result<Trace, Problem> {
        print(
            "A row counts keys and values of one head in one layer; every head of every layer has as many.\n\
             positions run: positions the model processed; computed: rows of keys and values it computed; held: rows that \
             the cache held before, of which a full window reads all but the oldest; evicted: rows dropped from it\n",
        )?;
        print(&format!(
            "{} {:>13} {:>9} {:>8} {:>8} {:>12} {:>9}\n",
            padded("token fed", TOKEN_WIDTH),
            "positions run",
            "computed",
            "held",
            "evicted",
            "cache bytes",
            "ms"
        ))?;
        Ok(Trace)
    }

    /// The row of a prompt of so many tokens.
    pub(super) fn prompt(&self, before: TraceRow, cache: &dyn KvCache, tokens: usize, elapsed: Duration) -> Result<(), Problem> {
        let plural = if tokens == 1 { "" } else { "s" };
        self.row(before, cache, &format!("prompt, {tokens} token{plural}"), tokens, elapsed)
    }

    /// The row of a token, on one line. `text` is what it completed, perhaps nothing; none if its id stands for no text.
    pub(super) fn token(
        &self,
        before: TraceRow,
        cache: &dyn KvCache,
        id: u32,
        text: Option<&str>,
        elapsed: Duration,
    ) -> Result<(), Problem> {
        let shown = match text {
            Some("") => "(incomplete)".into(),
            None => format!("(no text, id {id})"),
            Some(text) => {
                text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect::<String>()
            }
        };
        self.row(before, cache, &shown, 1, elapsed)
    }

    fn row(&self, before: TraceRow, cache: &dyn KvCache, fed: &str, tokens: usize, elapsed: Duration) -> Result<(), Problem> {
        let TraceRow { seen, resident, computed } = before;
        let usage = cache.usage();
        let end = seen + tokens;
        let run = format!("{}..{end}", end - computed);
        let evicted = resident + computed - usage.resident_tokens;
        let milliseconds = elapsed.as_secs_f64() * 1e3;
        let bytes = usage.reserved_bytes();
        print(&format!("{} {run:>13} {computed:>9} {resident:>8} {evicted:>8} {bytes:>12} {milliseconds:>9.2}\n", padded(fed, TOKEN_WIDTH)))
    }
}
