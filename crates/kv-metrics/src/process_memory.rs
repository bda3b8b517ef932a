//! What the system says of this process's memory: the pages that it holds.

use std::ops::Range;

/// Memory of this process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Pages of its own that lie in memory: the heap, stacks, and whatever else was mapped without a file. `RssAnon` in
    /// proc_pid_status(5).
    pub resident: u64,
    /// All pages in memory, where a page that `n` processes share counts for `1 / n`. `Pss` in proc_pid_smaps(5). `None` if
    /// the system does not say.
    pub proportional: Option<u64>,
    /// The most pages that it had in memory, files included, since [`begin_resident_peak`]. `VmHWM`.
    pub peak: u64,
    /// All pages in memory, files included. `VmRSS`.
    pub resident_with_files: u64,
}

impl ProcessMemory {
    /// The memory now. `None` if the system does not say.
    pub fn now() -> Option<ProcessMemory> {
        system::now()
    }
}

/// Lets the peak of resident pages begin anew at those that are resident now. False if the system refuses.
pub fn begin_resident_peak() -> bool {
    system::begin_peak()
}

/// Bytes of these stretches of addresses whose pages are not in memory: neither resident nor swapped out. A page that a stretch
/// has in part is taken to be there. `None` if the system does not say.
pub(crate) fn untouched_bytes(stretches: &[Range<usize>]) -> Option<u64> {
    system::untouched(stretches)
}

/// Lets the allocator map every buffer of 128 KiB or more on its own from now on, and unmap it when it is freed. It would raise
/// that limit otherwise, take buffers from memory that was used before, and write zeros to all of it when a buffer of zeros is
/// asked for (M_MMAP_THRESHOLD in mallopt(3)). Does nothing with other allocators than glibc's.
pub fn map_large_buffers_alone() {
    glibc::fix_threshold();
}

/// Lets the allocator give back to the system what it holds and has handed to nobody.
pub fn give_back_free_memory() {
    glibc::trim();
}

#[cfg(target_os = "linux")]
mod system {
    use std::ops::Range;

    use procfs::process::{ClearRefs, MemoryPageFlags, PageInfo, Process};

    use super::ProcessMemory;

    const KIB: u64 = 1024;

    pub(super) fn now() -> Option<ProcessMemory> {
        let process = Process::myself().ok()?;
        let status = process.status().ok()?;
        let proportional = process.smaps_rollup().ok().and_then(|maps| {
            let pss = |map: &procfs::process::MemoryMap| map.extension.map.get("Pss").copied();
            maps.memory_map_rollup.0.iter().map(pss).sum()
        });
        Some(ProcessMemory {
            resident: status.rssanon? * KIB,
            proportional,
            peak: status.vmhwm? * KIB,
            resident_with_files: status.vmrss? * KIB,
        })
    }

    /// From proc_pid_pagemap(5).
    pub(super) fn untouched(stretches: &[Range<usize>]) -> Option<u64> {
        let page = usize::try_from(procfs::page_size()).ok()?;
        let mut pages = Process::myself().ok()?.pagemap().ok()?;
        let mut untouched = 0;
        for stretch in stretches {
            let whole = stretch.start.div_ceil(page)..stretch.end / page;
            if !whole.is_empty() {
                let infos = pages.get_range_info(whole).ok()?;
                untouched += infos.iter().filter(|info| !is_there(info)).count() * page;
            }
        }
        Some(untouched as u64)
    }

    fn is_there(info: &PageInfo) -> bool {
        match info {
            PageInfo::MemoryPage(page) => page.contains(MemoryPageFlags::PRESENT),
            PageInfo::SwapPage(_) => true,
        }
    }

    pub(super) fn begin_peak() -> bool {
        Process::myself().and_then(|process| process.clear_refs(ClearRefs::PeakRSS)).is_ok()
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn now() -> Option<super::ProcessMemory> {
        None
    }

    pub(super) fn untouched(_: &[std::ops::Range<usize>]) -> Option<u64> {
        None
    }

    pub(super) fn begin_peak() -> bool {
        false
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    pub(super) fn trim() {
        // SAFETY: the function gives back pages in which nothing lives.
        unsafe { libc::malloc_trim(0) };
    }

    pub(super) fn fix_threshold() {
        // SAFETY: the function changes where later buffers come from, and nothing about those that exist.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, crate::book::LARGE as i32) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod glibc {
    pub(super) fn trim() {}

    pub(super) fn fix_threshold() {}
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    const BYTES: usize = 64 << 20;

    #[test]
    fn touched_memory_is_resident_and_reserved_memory_is_not() {
        give_back_free_memory();
        let before = ProcessMemory::now().unwrap();
        let reserved: Vec<u8> = std::hint::black_box(vec![0; BYTES]);
        let untouched = ProcessMemory::now().unwrap();
        assert!(untouched.resident - before.resident < BYTES as u64 / 8, "zeroed pages stay lazy");
        let touched: Vec<u8> = std::hint::black_box(vec![1; BYTES]);
        let after = ProcessMemory::now().unwrap();
        assert!(after.resident - before.resident >= BYTES as u64);
        let stretch = |bytes: &[u8]| bytes.as_ptr().addr()..bytes.as_ptr().addr() + bytes.len();
        let half = BYTES / 2;
        let missing = untouched_bytes(&[stretch(&reserved), stretch(&touched[half..])]).unwrap();
        assert!(missing <= BYTES as u64 && missing > BYTES as u64 - BYTES as u64 / 8, "{missing}");
        drop((reserved, touched));
        if begin_resident_peak() {
            let peak = ProcessMemory::now().unwrap().peak;
            assert!(peak < after.peak, "{peak} of {}", after.peak);
        }
    }
}
