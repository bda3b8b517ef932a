//! Memory.

use kv_core::{Geometry, Guarantee, KvCache, SeqId};
use kv_metrics::{ProcessMemory, counts_allocations, give_back_free_memory, heap_margin, resident_margin};

use crate::failure::ensure;
use crate::heap::{Heap, Meter};
use crate::{Failure, Outcome, Subject, Text, Verdict, fill};

/// `usage` equals the allocator's bytes within the larger of 0.1 % and 4 KiB. The payload is plausible for the guarantee and
/// scales with KV heads, not with query heads. After closing everything, only the reported bytes remain.
///
/// Of a subject that is [alone in its process](Subject::alone_in_its_process) the bytes of all threads are counted, and memory
/// that is mapped beside the heap is noticed from 1 MiB on. In
/// a program that does not install the [`CountingAllocator`](kv_metrics::CountingAllocator) there is nothing to compare
/// with, and the check counts as not run.
///
/// # Errors
/// A failure gives both numbers.
pub fn bytes_are_true(subject: &Subject) -> Outcome {
    scales_with_kv_heads(subject)?;
    if !counts_allocations() {
        let reason = "the program does not install the counting allocator (`runner::main` and `conformance_tests!` show the line)";
        return Ok(Verdict::NotRun(reason.into()));
    }
    agrees_with_the_allocator(subject)
}

/// The number of tokens to use: as many as fit, so that a small limit does not stop the check.
fn tokens(subject: &Subject, sequences: usize) -> Result<usize, Failure> {
    const TOKENS: usize = 300;
    let mut cache = subject.build()?;
    let seq = cache.open()?;
    match cache.begin(seq, 0..TOKENS * sequences) {
        Err(kv_core::CacheError::Full { free, .. }) => Ok((free / sequences).min(TOKENS)),
        _ => Ok(TOKENS),
    }
}

fn agrees_with_the_allocator(subject: &Subject) -> Outcome {
    let tokens = tokens(subject, 2)?;
    let text = Text::new(subject.geometry(), 40, tokens + 1);
    // Allocations made once per process or thread do not belong to the cache.
    rayon::broadcast(|_| ());
    let mut rehearsal = subject.build()?;
    let seq = rehearsal.open()?;
    fill(rehearsal.as_mut(), seq, &text, 0..tokens, 50)?;
    drop(rehearsal);

    give_back_free_memory();
    let before = ProcessMemory::now();
    let meter = subject.heap().meter();
    let mut cache = subject.build()?;
    let sequences = [cache.open()?, cache.open()?];
    for seq in sequences {
        fill(cache.as_mut(), seq, &text, 0..tokens, 50)?;
    }
    compare(cache.usage().reserved_bytes(), meter.live_bytes(), &format!("two sequences of {tokens} tokens"))?;
    if subject.heap() == Heap::Process {
        nothing_is_mapped_beside_the_heap(before, &meter)?;
    }
    let usage = cache.usage();
    let seen = 2 * tokens;
    ensure!(
        usage.seen_tokens == seen,
        "add up the tokens of all open sequences",
        "{seen} tokens were appended, but {} are reported as seen",
        usage.seen_tokens
    );
    ensure!(
        usage.resident_tokens <= seen,
        "`resident` counts the rows held, `seen` counts the tokens appended",
        "{} tokens are reported as resident, but only {seen} were seen",
        usage.resident_tokens
    );
    possible(subject.geometry(), usage.payload_bytes, usage.resident_tokens, cache.guarantee())?;
    held_rows_are_seen(cache.as_ref(), &sequences, usage.resident_tokens)?;
    match cache.fork(sequences[0]) {
        // Rows that a fork shares are allocated once, so they are reported once.
        Ok(fork) => {
            compare(cache.usage().reserved_bytes(), meter.live_bytes(), "a fork")?;
            match fill(cache.as_mut(), fork, &text, tokens..tokens + 1, 1) {
                Ok(()) => compare(cache.usage().reserved_bytes(), meter.live_bytes(), "a fork and a step of its own")?,
                Err(kv_core::CacheError::Full { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            cache.close(fork)?;
        }
        Err(kv_core::CacheError::Unsupported { .. } | kv_core::CacheError::Full { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    for seq in sequences {
        cache.close(seq)?;
    }
    compare(cache.usage().reserved_bytes(), meter.live_bytes(), "closing everything")?;
    Ok(Verdict::Passed)
}

/// Between steps, the newest query has seen every row that is held. Rows that no query will see again must be gone.
fn held_rows_are_seen(cache: &dyn KvCache, sequences: &[SeqId], resident: usize) -> Result<(), Failure> {
    let mut seen = 0;
    for seq in sequences {
        seen += cache.view(*seq, 0, 0)?.positions.len();
    }
    let mend = "evict in `commit` every row that no later query sees; check that the length is compared with the right axis";
    ensure!(seen == resident, mend, "{resident} tokens are reported as resident, but the newest queries see only {seen}");
    Ok(())
}

/// Once the allocator has given back what it keeps, resident pages have grown by what the heap holds and was touched.
fn nothing_is_mapped_beside_the_heap(before: Option<ProcessMemory>, meter: &Meter) -> Result<(), Failure> {
    give_back_free_memory();
    let heap = meter.live_bytes().unsigned_abs().saturating_sub(meter.untouched_bytes().unwrap_or(0));
    // Where the system does not say, nothing is known.
    let (Some(before), Some(after)) = (before, ProcessMemory::now()) else { return Ok(()) };
    let grown = after.resident.saturating_sub(before.resident);
    let mend = "allocate through Rust's global allocator, or report the bytes that are mapped beside it";
    ensure!(
        grown <= heap + resident_margin(heap),
        mend,
        "the process holds {grown} bytes more than before, of which {heap} are heap that was touched: the rest is mapped beside it"
    );
    Ok(())
}

fn compare(reported: usize, live: i64, when: &str) -> Result<(), Failure> {
    let allowed = heap_margin(live.unsigned_abs()) as i64;
    let residual = reported as i64 - live;
    let mend = "count capacities, not lengths; include every table and every spare block; count each shared row once";
    ensure!(
        residual.abs() <= allowed,
        mend,
        "after {when}, the cache reports {reported} bytes but the allocator counts {live}: a difference of {residual}"
    );
    Ok(())
}

/// A value stored within a fraction `e` of the row's largest needs at least `log2(1 / e)` bits.
fn possible(geometry: &Geometry, payload_bytes: usize, resident_tokens: usize, guarantee: Guarantee) -> Result<(), Failure> {
    let Geometry { layers, kv_heads, key_dim, value_dim, .. } = *geometry;
    let bits = |error: f32| if error > 0.0 { f64::from((1.0 / error).log2().floor()) } else { 32.0 };
    let (key_bits, value_bits) = match guarantee {
        Guarantee::Lossy(bound) | Guarantee::Evicts(Some(bound)) => (bits(bound.keys), bits(bound.values)),
        _ => (32.0, 32.0),
    };
    let rows = (resident_tokens * layers * kv_heads) as f64;
    let least = rows * (key_dim as f64 * key_bits + value_dim as f64 * value_bits) / 8.0;
    let most = rows * ((key_dim + value_dim) * size_of::<f32>()) as f64;
    let mend = "the payload is the size of the codes of all layers and KV heads; check bits against bytes, and values against blocks";
    let payload = payload_bytes as f64;
    ensure!(
        payload >= least && payload <= most,
        mend,
        "the payload of {resident_tokens} tokens is reported as {payload_bytes} bytes; it must be between {least} and {most}"
    );
    Ok(())
}

fn scales_with_kv_heads(subject: &Subject) -> Result<(), Failure> {
    let payload = |geometry: Geometry| -> Result<usize, Failure> {
        let tokens = tokens(subject, 1)?.min(64);
        let text = Text::new(&geometry, 41, tokens);
        let mut cache = subject.build_for(&geometry)?;
        let seq = cache.open()?;
        fill(cache.as_mut(), seq, &text, 0..tokens, 64)?;
        Ok(cache.usage().payload_bytes)
    };
    let toy = subject.geometry().clone();
    let plain = payload(toy.clone())?;
    let more_heads = payload(Geometry { heads: 2 * toy.heads, ..toy.clone() })?;
    let more_kv_heads = payload(Geometry { kv_heads: 2 * toy.kv_heads, heads: 2 * toy.heads, ..toy.clone() })?;
    let single = payload(Geometry { kv_heads: 1, ..toy.clone() })?;
    let mend = "store one row per KV head, not one row per query head";
    ensure!(more_heads == plain, mend, "with twice the query heads the payload is {more_heads} bytes; it should stay {plain}");
    ensure!(more_kv_heads == 2 * plain, mend, "with twice the KV heads the payload is {more_kv_heads} bytes; it should be twice {plain}");
    ensure!(toy.kv_heads * single == plain, mend, "one KV head takes {single} bytes, but {} take {plain}", toy.kv_heads);
    Ok(())
}
