//! What is asked of the machine's memory, beside what is free.

use crate::Problem;

/// Refuses what cannot fit, before the machine starts to swap or ends the process. `what` is what needs the bytes.
///
/// # Errors
/// A [`Problem`] with both numbers.
pub(crate) fn require(bytes: usize, what: &str) -> Result<(), Problem> {
    // Where the system does not say what is free, the attempt will.
    match available() {
        Some(free) if bytes as u64 > free => {
            Err(Problem::new(format!("{what} needs {} of memory, and {} are free", size(bytes as u64), size(free))))
        }
        _ => Ok(()),
    }
}

/// What a worker may take if the user does not say: a share of what is free, so that the machine does not start to swap.
pub(crate) fn share() -> u64 {
    const SHARE: f64 = 0.8;
    // Where the system does not say what is free, nothing is limited.
    available().map_or(u64::MAX, |free| (free as f64 * SHARE) as u64)
}

fn available() -> Option<u64> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    // A container may have less than its host. Its page cache makes room.
    let of_group = system.cgroup_limits().map_or(u64::MAX, |limits| limits.total_memory.saturating_sub(limits.rss));
    Some(system.available_memory().min(of_group))
}

pub(crate) fn size(bytes: u64) -> String {
    const KIB: f64 = (1u64 << 10) as f64;
    const MIB: f64 = (1u64 << 20) as f64;
    const GIB: f64 = (1u64 << 30) as f64;
    let bytes = bytes as f64;
    match bytes {
        _ if bytes < KIB => format!("{bytes} bytes"),
        // Of less, two decimals of a MiB would say next to nothing.
        _ if bytes < 0.1 * MIB => format!("{:.1} KiB", bytes / KIB),
        _ if bytes >= GIB => format!("{:.1} GiB", bytes / GIB),
        _ if bytes >= 10.0 * MIB => format!("{:.0} MiB", bytes / MIB),
        _ => format!("{:.2} MiB", bytes / MIB),
    }
}
