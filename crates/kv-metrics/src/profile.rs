//! A profile of the heap with dhat: where every block was allocated, how many, how large, and how long they lived.

use std::path::Path;

use crate::allocator::{AllocatorMode, Engaged};

/// Profiles the heap of the whole process from its start until it is dropped. It then writes the profile to its file, for
/// dhat's viewer. Only one can exist at a time, and no [`HeapMeter`](crate::HeapMeter) beside it.
///
/// Every allocation of every thread takes a lock and walks the stack: nothing may be timed meanwhile. Large buffers lie in
/// the pages that the system gives them, and [`ThreadMeter`](crate::ThreadMeter)s count the profiler's own memory too. In a
/// program that does not install the [`CountingAllocator`](crate::CountingAllocator) the profile is empty.
///
/// A file that cannot be written is told on the error stream only, because dhat says so to nobody else. Whoever needs the
/// file reads it afterwards.
#[derive(Debug)]
#[must_use = "it profiles until it is dropped"]
pub struct HeapProfile {
    // Fields are dropped in this order. dhat must see every block freed that it has seen allocated, or it would meet an
    // address twice. So calls go to dhat from before it begins until after it has ended; in between they change nothing.
    _profiler: dhat::Profiler,
    _profiling: Engaged,
}

impl HeapProfile {
    /// Frames kept of each stack. From a kernel to the strategy that called it there are about as many.
    const FRAMES: usize = 16;

    /// Starts to profile. Blocks while a [`HeapMeter`](crate::HeapMeter) or another profile exists. The file is written at
    /// the end, and replaced if it exists.
    pub fn start(file: &Path) -> HeapProfile {
        let profiling = Engaged::start(AllocatorMode::Profiling, || {});
        let profiler = dhat::Profiler::builder().file_name(file).trim_backtraces(Some(HeapProfile::FRAMES)).build();
        HeapProfile { _profiler: profiler, _profiling: profiling }
    }
}
