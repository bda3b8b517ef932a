//! A text token by token: the heap after every commit, and the time that keeping each token takes.
//!
//! Attention is left out. What it costs grows with the length and is timed elsewhere; here it would hide what is looked for: the
//! doubling of a buffer, the sealing of a group, an eviction.

use std::time::{Duration, Instant};

use kv_core::KvCache;
use kv_metrics::{AllocatorMode, HeapMeter, allocator_mode};
use kv_report::{Pass, TextPoint, Visit};
use kv_script::{Attention, Event, Interpreter, Name, RowsDriver, Script};

use crate::drivers::CellRows;
use crate::timed::Timed;
use crate::worker::channel::Channel;
use crate::worker::weighed::Weighed;

/// How often a text is timed. Of each token the shortest time counts: what the machine does beside hits another token each time,
/// and what the cache does hits the same.
const TIMES: usize = 5;
/// After this time, a text is not timed again.
const MOST_TIME: Duration = Duration::from_secs(1);
/// A text is followed this long at most: a cache that copies all of itself at every step takes time that grows with the square
/// of the length.
const LONGEST: Duration = Duration::from_secs(10);

/// Follows a text of so many tokens, fed to each of `batch` sequences. It is timed first, with counting off, and then its bytes
/// are counted.
pub(super) fn follow(
    id: &str,
    build: &dyn Fn() -> Result<Box<dyn KvCache>, String>,
    rows: &CellRows,
    (tokens, batch): (usize, usize),
    channel: &Channel,
) -> Result<Visit, String> {
    let mut visit = Visit::passed(id, Pass::Text);
    visit.text = (1..=tokens).map(|tokens| TextPoint { tokens, heap_bytes: None, keep_ms: None }).collect();
    let began = Instant::now();
    if allocator_mode() != AllocatorMode::Idle {
        return Err("bytes are being counted, so nothing can be timed".into());
    }
    for time in 0..TIMES {
        if time > 0 && began.elapsed() > MOST_TIME {
            break;
        }
        let mut points = visit.text.iter_mut();
        let mut cache = Timed::new(build()?);
        let fed = Feeding::new(rows, (tokens, batch)).feed(&mut cache, channel, |cache| {
            let spent = cache.take_spent().cache.as_secs_f64() * 1e3;
            points.next().into_iter().for_each(|point| point.keep_ms = Some(point.keep_ms.unwrap_or(f64::INFINITY).min(spent)));
        })?;
        visit.text.truncate(fed);
    }
    if visit.text.len() < tokens {
        let (followed, seconds) = (visit.text.len(), LONGEST.as_secs());
        visit.notes.push(format!("along the text it was followed for {followed} of {tokens} tokens, which took {seconds} s"));
    }
    let tokens = visit.text.len();
    if !kv_metrics::counts_allocations() {
        return Ok(visit);
    }

    // What feeds the cache is there before anything is counted, and the rows that it gives are lent, as in the ledger.
    let feeding = Feeding::new(rows, (tokens, batch)).rehearsed(build()?)?;
    let mut points = visit.text.iter_mut();
    let meter = HeapMeter::start();
    let mut cache = Weighed::new(build()?, &meter);
    let counted = feeding.feed(&mut cache, channel, |_| {
        let own = meter.own_bytes();
        points.next().into_iter().for_each(|point| point.heap_bytes = Some(own.max(0) as u64));
    })?;
    drop(cache);
    drop(meter);
    if counted < tokens {
        let seconds = LONGEST.as_secs();
        visit.notes.push(format!("along the text bytes were counted for {counted} of {tokens} tokens, which took {seconds} s"));
    }
    let heap: Vec<(f64, f64)> =
        visit.text.iter().filter_map(|point| Some((point.tokens as f64 * batch as f64, point.heap_bytes? as f64))).collect();
    if let Some((slope, intercept)) = kv_metrics::straight_line(&heap) {
        visit.values.insert("heap_slope".into(), slope);
        visit.values.insert("heap_intercept_bytes".into(), intercept);
    }
    Ok(visit)
}

/// A text that is fed token by token.
struct Feeding {
    script: Script,
    interpreter: Interpreter<RowsDriver<CellRows>>,
    tokens: usize,
}

impl Feeding {
    fn new(rows: &CellRows, (tokens, batch): (usize, usize)) -> Feeding {
        let first = vec![0];
        let script = Script::prefill(&vec![first.as_slice(); batch], 1).then(Script::decode(batch, tokens.saturating_sub(1)));
        let driver = RowsDriver { source: rows.clone(), attention: Attention::Skipped };
        Feeding { script, interpreter: Interpreter::new(driver), tokens }
    }

    /// The same, with the interpreter's table made: it stays when all sequences are closed.
    fn rehearsed(mut self, mut nobody: Box<dyn KvCache>) -> Result<Feeding, String> {
        let sequence = Name::new("0");
        for event in [Event::Open { sequence: sequence.clone() }, Event::Close { sequence }] {
            self.interpreter.run(nobody.as_mut(), &event).map_err(|error| error.to_string())?;
        }
        Ok(self)
    }

    /// Feeds it, and shows the cache after each token. Answers how many were fed before the time was over.
    fn feed<C: KvCache>(mut self, cache: &mut C, channel: &Channel, mut look: impl FnMut(&mut C)) -> Result<usize, String> {
        const SAID_EVERY: usize = 256;
        let mut fed = 0;
        let began = Instant::now();
        for event in &self.script.events {
            self.interpreter.run(cache, event).map_err(|error| error.to_string())?;
            if matches!(event, Event::Append { .. } | Event::Step { .. }) {
                fed += 1;
                look(cache);
                if began.elapsed() > LONGEST {
                    break;
                }
                if fed % SAID_EVERY == 0 {
                    channel.progress(fed, self.tokens);
                }
            }
        }
        Ok(fed)
    }
}
