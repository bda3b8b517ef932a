//! The ledger of a cell: formula, the cache's own account, exact heap bytes, resident pages; each held against the one before.

use kv_core::{Geometry, PredictedBytes, Usage};
use kv_metrics::{HeapMeter, ProcessMemory, begin_resident_peak, give_back_free_memory, heap_margin, resident_margin};

/// The process before the cache existed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    memory: Option<ProcessMemory>,
    /// Whether the system lets the peak of resident pages begin anew.
    knows_peaks: bool,
}

impl Start {
    pub(super) fn now() -> Start {
        give_back_free_memory();
        let knows_peaks = begin_resident_peak();
        Start { memory: ProcessMemory::now(), knows_peaks }
    }
}

/// What was found out.
pub(super) struct Findings {
    /// By the id of their metric.
    pub(super) values: Vec<(&'static str, f64)>,
    pub(super) notes: Vec<String>,
}

impl Findings {
    /// With room reserved, so that writing a number down allocates nothing.
    pub(super) fn new() -> Findings {
        const ROOM: usize = 64;
        Findings { values: Vec::with_capacity(ROOM), notes: Vec::with_capacity(ROOM) }
    }
}

/// Writes findings down. What a note takes is not counted among the cache's own bytes.
pub(super) struct Account<'a> {
    pub(super) findings: Findings,
    meter: &'a HeapMeter,
}

impl<'a> Account<'a> {
    /// `findings` were made before anything was counted.
    pub(super) fn new(findings: Findings, meter: &'a HeapMeter) -> Account<'a> {
        Account { findings, meter }
    }

    pub(super) fn meter(&self) -> &'a HeapMeter {
        self.meter
    }

    pub(super) fn note(&mut self, note: String) {
        self.meter.lend(note.as_bytes());
        self.findings.notes.push(note);
    }

    pub(super) fn put(&mut self, id: &'static str, value: i64) {
        self.put_ratio(id, value as f64);
    }

    /// Writes down what the allocator counted, where it counts.
    pub(super) fn put_counted(&mut self, id: &'static str, value: i64) {
        self.put_counted_ratio(id, value as f64);
    }

    pub(super) fn put_counted_ratio(&mut self, id: &'static str, value: f64) {
        if kv_metrics::counts_allocations() {
            self.put_ratio(id, value);
        }
    }

    pub(super) fn put_ratio(&mut self, id: &'static str, value: f64) {
        self.findings.values.push((id, value));
    }
}

/// What is known of a cache's memory at one moment between steps.
pub(super) struct Ledger<'a> {
    /// What the strategy predicted.
    pub(super) predicted: Option<PredictedBytes>,
    pub(super) usage: Usage,
    /// Sequences that are open.
    pub(super) sequences: usize,
    pub(super) meter: &'a HeapMeter,
    /// Live heap bytes since the start.
    pub(super) heap: i64,
    pub(super) start: Start,
}

impl Ledger<'_> {
    /// Writes all levels down, with what each differs from the one before, and says which differ by more than they may.
    pub(super) fn put(&self, account: &mut Account, geometry: &Geometry) {
        let Usage { payload_bytes, metadata_bytes, slack_bytes, seen_tokens, resident_tokens, .. } = self.usage;
        for (id, value) in [
            ("payload_bytes", payload_bytes),
            ("metadata_bytes", metadata_bytes),
            ("slack_bytes", slack_bytes),
            ("reserved_bytes", self.usage.reserved_bytes()),
            ("usage_bytes", self.usage.reserved_bytes()),
            ("shared_bytes", self.usage.shared_bytes),
            ("seen_tokens", seen_tokens),
            ("resident_tokens", resident_tokens),
        ] {
            account.put(id, value as i64);
        }
        if resident_tokens > 0 {
            let bits = 8.0 * (payload_bytes + metadata_bytes) as f64;
            account.put_ratio("effective_bits", bits / (resident_tokens * geometry.values_per_token()) as f64);
        }
        let usage = self.usage.reserved_bytes() as i64;
        if let Some(predicted) = self.predicted {
            let formula = i64::try_from(predicted.total()).unwrap_or(i64::MAX);
            account.put("formula_bytes", formula);
            account.put("formula_residual_bytes", usage - formula);
        }
        if !kv_metrics::counts_allocations() {
            return;
        }
        account.put("heap_live_bytes", self.heap);
        let alone = self.heap - self.usage.shared_bytes as i64;
        account.put_ratio("sequence_bytes", alone as f64 / self.sequences.max(1) as f64);
        account.put("ledger_residual_bytes", self.heap - usage);
        self.check("", account);
        self.put_resident(account);
    }

    /// Says where formula, account and heap differ by more than they may.
    pub(super) fn check(&self, when: &str, account: &mut Account) {
        let usage = self.usage.reserved_bytes() as i64;
        let margin = heap_margin(self.heap.unsigned_abs()) as i64;
        let when = if when.is_empty() { String::new() } else { format!("{when}, ") };
        let is_first = when.is_empty();
        if let Some(predicted) = self.predicted.filter(|_| is_first) {
            let residual = usage - i64::try_from(predicted.total()).unwrap_or(i64::MAX);
            if residual.abs() > margin {
                account.note(format!("ledger: {when}the cache reports {usage} bytes, {residual:+} beside its formula"));
            }
        }
        let residual = self.heap - usage;
        if kv_metrics::counts_allocations() && residual.abs() > margin {
            account.note(format!("ledger: {when}the heap holds {} bytes, {residual:+} beside what the cache reports", self.heap));
        }
    }

    /// Resident pages: what the heap explains, what the allocator adds and keeps, what was reserved and never touched.
    fn put_resident(&self, account: &mut Account) {
        let at_first = ProcessMemory::now();
        let untouched = self.meter.untouched_bytes().unwrap_or(0) as i64;
        give_back_free_memory();
        let (Some(before), Some(at_first), Some(now)) = (self.start.memory, at_first, ProcessMemory::now()) else {
            account.note("ledger: the system does not say which pages are resident".into());
            return;
        };
        let resident = at_first.resident as i64 - before.resident as i64;
        let kept = at_first.resident as i64 - now.resident as i64;
        let residual = resident - (self.heap + kept - untouched);
        account.put("rss_bytes", resident);
        account.put("allocator_kept_bytes", kept);
        account.put("untouched_bytes", untouched);
        account.put("rss_residual_bytes", residual);
        if let (Some(before), Some(now)) = (before.proportional, at_first.proportional) {
            account.put("pss_bytes", now as i64 - before as i64);
        }
        if residual.abs() > resident_margin(self.heap.unsigned_abs()) as i64 {
            account.note(format!("ledger: {resident} bytes are resident, {residual:+} beside what the heap explains"));
        }
    }
}

/// Writes down how far resident pages rose in a phase. Files that are mapped count.
pub(super) fn put_resident_peak(account: &mut Account, id: &'static str, start: &Start) {
    let Some((before, now)) = start.memory.filter(|_| start.knows_peaks).zip(ProcessMemory::now()) else { return };
    account.put(id, (now.peak as i64 - before.resident_with_files as i64).max(0));
}

/// Says what is left of a cache that is gone.
pub(super) fn check_dropped(live: i64, account: &mut Account) {
    if kv_metrics::counts_allocations() && live.unsigned_abs() > heap_margin(0) {
        account.note(format!("ledger: it leaks: {live} bytes are left after the cache is gone"));
    }
}
