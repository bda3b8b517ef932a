//! What the system says of this process's memory: the pages that it holds.

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

/// Lets the allocator give back to the system what it holds and has handed to nobody.
pub fn give_back_free_memory() {
    glibc::trim();
}

#[cfg(target_os = "linux")]
mod system {
    use procfs::process::{ClearRefs, Process};

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

    pub(super) fn begin_peak() -> bool {
        Process::myself().and_then(|process| process.clear_refs(ClearRefs::PeakRSS)).is_ok()
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn now() -> Option<super::ProcessMemory> {
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
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod glibc {
    pub(super) fn trim() {}
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
        drop((reserved, touched));
        if begin_resident_peak() {
            let peak = ProcessMemory::now().unwrap().peak;
            assert!(peak < after.peak, "{peak} of {}", after.peak);
        }
    }
}
