//! Whose heap bytes a check counts.

use kv_metrics::{HeapMeter, ThreadMeter};

/// Whose heap bytes are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heap {
    /// Those of the calling thread, so that checks can run beside others in one process.
    Thread,
    /// Those of all threads, for a check that runs alone: a strategy may allocate on threads of its own.
    Process,
}

/// Counts from its start on.
#[derive(Debug)]
pub(crate) enum Meter {
    Thread(ThreadMeter),
    Process(HeapMeter),
}

impl Heap {
    pub(crate) fn meter(self) -> Meter {
        match self {
            Heap::Thread => Meter::Thread(ThreadMeter::start()),
            Heap::Process => Meter::Process(HeapMeter::start()),
        }
    }
}

impl Meter {
    /// Bytes allocated since the start and not freed.
    pub(crate) fn live_bytes(&self) -> i64 {
        match self {
            Meter::Thread(meter) => meter.live_bytes(),
            Meter::Process(meter) => meter.live_bytes(),
        }
    }

    /// Bytes of large live buffers that nobody touched, if they are known.
    pub(crate) fn untouched_bytes(&self) -> Option<u64> {
        match self {
            Meter::Thread(_) => None,
            Meter::Process(meter) => meter.untouched_bytes(),
        }
    }
}
