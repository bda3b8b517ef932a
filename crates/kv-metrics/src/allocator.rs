//! A global allocator that can count.
//!
//! It forwards every call to the system allocator, including `alloc_zeroed` and `realloc`, so that lazily zeroed
//! pages stay lazy. When idle, it costs one addition to a thread-local counter and one predictable branch. When
//! counting, it costs some more atomic operations, and a short list is searched when a buffer that was lent may be freed. When profiling, it hands every call to dhat, which writes to zeroed
//! pages, takes one lock for the whole process and walks the stack: nothing may be timed meanwhile.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::book::{Entry, LARGE, LARGE_BUFFERS, LENT};
use crate::buffers;
use crate::process_memory::untouched_bytes;

/// The system's allocator, counting. A program whose heap bytes are to be measured installs it:
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: kv_metrics::CountingAllocator = kv_metrics::CountingAllocator;
/// # fn main() { assert!(kv_metrics::counts_allocations()); }
/// ```
///
/// In a library this line would decide for everyone who depends on it.
#[derive(Debug, Default)]
pub struct CountingAllocator;

/// Whether this program has installed the [`CountingAllocator`]; without it every meter reads 0.
pub fn counts_allocations() -> bool {
    let meter = ThreadMeter::start();
    let probe = std::hint::black_box(Box::new(0u64));
    let counts = meter.live_bytes() != 0;
    drop(probe);
    counts
}

/// What the [`CountingAllocator`] does beside allocating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AllocatorMode {
    /// Nothing that a timing could notice.
    Idle,
    /// It counts: a [`HeapMeter`] exists.
    Counting,
    /// It hands over to dhat: a [`HeapProfile`](crate::HeapProfile) exists.
    Profiling,
}

/// One byte for all modes, so that one branch asks for both when there is neither.
static MODE: AtomicU8 = AtomicU8::new(AllocatorMode::Idle as u8);

/// What the allocator does at the moment. Always [`Idle`](AllocatorMode::Idle) while times are measured.
pub fn allocator_mode() -> AllocatorMode {
    match MODE.load(Relaxed) {
        mode if mode == AllocatorMode::Counting as u8 => AllocatorMode::Counting,
        mode if mode == AllocatorMode::Profiling as u8 => AllocatorMode::Profiling,
        _ => AllocatorMode::Idle,
    }
}

/// A mode other than idle, until it is dropped. Only one can exist at a time.
#[derive(Debug)]
pub(crate) struct Engaged {
    _only_one: MutexGuard<'static, ()>,
}

impl Engaged {
    /// Blocks while another exists. `prepare` runs before the mode begins.
    pub(crate) fn start(mode: AllocatorMode, prepare: impl FnOnce()) -> Engaged {
        let only_one = ONLY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
        prepare();
        MODE.store(mode as u8, Relaxed);
        Engaged { _only_one: only_one }
    }
}

impl Drop for Engaged {
    fn drop(&mut self) {
        MODE.store(AllocatorMode::Idle as u8, Relaxed);
    }
}

/// Counts heap bytes of the whole process from its start until it is dropped. Only one can exist at a time.
#[derive(Debug)]
pub struct HeapMeter {
    _counting: Engaged,
}

/// Counts the bytes that one thread allocates and frees, independently of other threads.
///
/// It is for checks that run in parallel in one process. Memory that another thread frees, or allocates for this
/// one, is not counted.
#[derive(Debug)]
pub struct ThreadMeter {
    start: i64,
    /// A meter reads its own thread's counter, so it must not move to another.
    _stays: PhantomData<*const ()>,
}

thread_local! {
    static THREAD_LIVE: Cell<i64> = const { Cell::new(0) };
}

impl ThreadMeter {
    /// Starts counting at zero on this thread.
    pub fn start() -> ThreadMeter {
        ThreadMeter { start: THREAD_LIVE.get(), _stays: PhantomData }
    }

    /// Bytes that this thread has allocated since the start and not freed.
    pub fn live_bytes(&self) -> i64 {
        THREAD_LIVE.get() - self.start
    }
}

static LIVE: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);
/// Live bytes without those that are lent, and their peak.
static OWN: AtomicI64 = AtomicI64::new(0);
static OWN_PEAK: AtomicI64 = AtomicI64::new(0);
/// Buffers that are lent.
static LENT_BUFFERS: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static ALLOCATED: AtomicU64 = AtomicU64::new(0);
static ONLY_ONE: Mutex<()> = Mutex::new(());

impl HeapMeter {
    /// Starts counting at zero. Blocks while another meter counts or a [`HeapProfile`](crate::HeapProfile) exists.
    pub fn start() -> HeapMeter {
        let counting = Engaged::start(AllocatorMode::Counting, || {
            [&LIVE, &PEAK, &OWN, &OWN_PEAK].iter().for_each(|bytes| bytes.store(0, Relaxed));
            LENT.clear();
            LARGE_BUFFERS.clear();
            LENT_BUFFERS.store(0, Relaxed);
            ALLOCATIONS.store(0, Relaxed);
            ALLOCATED.store(0, Relaxed);
        });
        HeapMeter { _counting: counting }
    }

    /// Bytes allocated since the start and not freed. Negative if older memory was freed.
    pub fn live_bytes(&self) -> i64 {
        LIVE.load(Relaxed)
    }

    /// The largest value that [`live_bytes`](Self::live_bytes) has had, since the start or since the last call of
    /// [`begin_peak`](Self::begin_peak).
    pub fn peak_bytes(&self) -> i64 {
        PEAK.load(Relaxed)
    }

    /// Lets both peaks begin anew at what is live now.
    pub fn begin_peak(&self) {
        PEAK.store(LIVE.load(Relaxed), Relaxed);
        OWN_PEAK.store(OWN.load(Relaxed), Relaxed);
    }

    /// Notes that a buffer belongs to whoever counts, and is not to be counted among [`own_bytes`](Self::own_bytes) until it is
    /// freed or resized, whoever does that. `buffer` is the whole of it, and was allocated since the start.
    ///
    /// 4096 buffers can be lent at a time. Of more, the bytes stay among the own ones.
    pub fn lend<T>(&self, buffer: &[T]) {
        let bytes = size_of_val(buffer);
        if bytes > 0 && LENT.add(Entry { address: buffer.as_ptr().addr(), bytes }) {
            LENT_BUFFERS.fetch_add(1, Relaxed);
            OWN.fetch_sub(bytes as i64, Relaxed);
        }
    }

    /// Live bytes without those of buffers that are [lent](Self::lend).
    pub fn own_bytes(&self) -> i64 {
        OWN.load(Relaxed)
    }

    /// The largest value of [`own_bytes`](Self::own_bytes) since the start or the last call of [`begin_peak`](Self::begin_peak).
    pub fn own_peak_bytes(&self) -> i64 {
        OWN_PEAK.load(Relaxed)
    }

    /// Bytes of live buffers, allocated since the start, whose pages are not in memory because nobody touched them. Buffers below
    /// 128 KiB are taken to be touched. `None` if the system does not say.
    pub fn untouched_bytes(&self) -> Option<u64> {
        let mut buffers = vec![];
        // It is written while it is read: the list itself may be a large buffer.
        while let Some(Entry { address, bytes }) = LARGE_BUFFERS.get(buffers.len()) {
            buffers.push(address..address + bytes);
        }
        untouched_bytes(&buffers)
    }

    /// Allocations since the start. A buffer that is grown or shrunk in place or elsewhere counts once more.
    pub fn allocations(&self) -> u64 {
        ALLOCATIONS.load(Relaxed)
    }

    /// Bytes of all allocations since the start, whether they were freed or not. Of a buffer that grows only what it grows by.
    pub fn allocated_bytes(&self) -> u64 {
        ALLOCATED.load(Relaxed)
    }
}

fn is_idle() -> bool {
    MODE.load(Relaxed) == AllocatorMode::Idle as u8
}

fn count_on_thread(bytes: i64) {
    // A thread that is shutting down has no counter any more, and nothing reads it.
    let _ = THREAD_LIVE.try_with(|live| live.set(live.get() + bytes));
}

/// Counts a buffer that has grown by so many bytes, of which `lent` more are the caller's own than before.
fn count(bytes: i64, lent: usize) {
    count_on_thread(bytes);
    if allocator_mode() == AllocatorMode::Counting {
        let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
        let more = bytes + lent as i64;
        let own = OWN.fetch_add(more, Relaxed) + more;
        if bytes > 0 {
            PEAK.fetch_max(live, Relaxed);
            ALLOCATED.fetch_add(bytes.unsigned_abs(), Relaxed);
        }
        if more > 0 {
            OWN_PEAK.fetch_max(own, Relaxed);
        }
    }
}

/// Notes a buffer that came into being, by its address.
fn note(pointer: *mut u8, size: usize) {
    if size >= LARGE && allocator_mode() == AllocatorMode::Counting {
        LARGE_BUFFERS.add(Entry { address: pointer.addr(), bytes: size });
    }
}

/// Forgets a buffer that is about to be freed or resized, and answers how many of its bytes were lent. It comes before that:
/// another thread may be given the same address at once.
fn forget(pointer: *mut u8, size: usize) -> usize {
    if allocator_mode() != AllocatorMode::Counting {
        return 0;
    }
    if size >= LARGE {
        LARGE_BUFFERS.remove(pointer.addr());
    }
    let lent = if LENT_BUFFERS.load(Relaxed) > 0 { LENT.remove(pointer.addr()) } else { None };
    if lent.is_some() {
        LENT_BUFFERS.fetch_sub(1, Relaxed);
    }
    lent.unwrap_or(0)
}

fn count_call() {
    if allocator_mode() == AllocatorMode::Counting {
        ALLOCATIONS.fetch_add(1, Relaxed);
    }
}

/// What is done in the modes other than idle. Kept out of the way of idle calls.
mod engaged {
    use super::{AllocatorMode, GlobalAlloc, Layout, allocator_mode, buffers, count, count_call, forget, note};

    fn is_profiling() -> bool {
        allocator_mode() == AllocatorMode::Profiling
    }

    /// Counts a new buffer.
    fn counted(pointer: *mut u8, size: usize) -> *mut u8 {
        if !pointer.is_null() {
            note(pointer, size);
            count_call();
            count(size as i64, 0);
        }
        pointer
    }

    /// # Safety
    /// As for [`GlobalAlloc::alloc`].
    #[cold]
    pub(super) unsafe fn alloc(layout: Layout) -> *mut u8 {
        let pointer = if is_profiling() {
            // SAFETY: the caller's obligations are passed on as they are.
            unsafe { dhat::Alloc.alloc(layout) }
        } else {
            // SAFETY: the caller's obligations are passed on as they are.
            unsafe { buffers::allocate(layout) }
        };
        counted(pointer, layout.size())
    }

    /// # Safety
    /// As for [`GlobalAlloc::alloc_zeroed`].
    #[cold]
    pub(super) unsafe fn alloc_zeroed(layout: Layout) -> *mut u8 {
        let pointer = if is_profiling() {
            // SAFETY: the caller's obligations are passed on as they are.
            unsafe { dhat::Alloc.alloc_zeroed(layout) }
        } else {
            // SAFETY: the caller's obligations are passed on as they are.
            unsafe { buffers::allocate_zeroed(layout) }
        };
        counted(pointer, layout.size())
    }

    /// # Safety
    /// As for [`GlobalAlloc::dealloc`].
    #[cold]
    pub(super) unsafe fn dealloc(pointer: *mut u8, layout: Layout) {
        let lent = forget(pointer, layout.size());
        if is_profiling() {
            // SAFETY: dhat hands the buffer to `System`, as `buffers::free` does, whoever allocated it. Of one that it has not
            // allocated it counts nothing.
            unsafe { dhat::Alloc.dealloc(pointer, layout) };
        } else {
            // SAFETY: the caller's obligations are passed on as they are.
            unsafe { buffers::free(pointer, layout) };
        }
        count(-(layout.size() as i64), lent);
    }

    /// # Safety
    /// As for [`GlobalAlloc::realloc`].
    #[cold]
    pub(super) unsafe fn realloc(pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let lent = forget(pointer, layout.size());
        let new_pointer = if is_profiling() {
            // SAFETY: dhat hands the buffer to `System`, as `buffers::resize` does with one that is not to be in huge pages,
            // whoever allocated it.
            unsafe { dhat::Alloc.realloc(pointer, layout, new_size) }
        } else {
            // SAFETY: the caller's obligations are passed on as they are.
            unsafe { buffers::resize(pointer, layout, new_size) }
        };
        if new_pointer.is_null() {
            // The old buffer is still there, and now counts as an own one.
            note(pointer, layout.size());
            count(0, lent);
        } else {
            note(new_pointer, new_size);
            count_call();
            count(new_size as i64 - layout.size() as i64, lent);
        }
        new_pointer
    }
}

// SAFETY: every call ends at `System`, which upholds the trait's contract; see `buffers`. dhat's allocator calls it too, with
// the caller's own layouts. A buffer may therefore be allocated in one mode and resized or freed in another. Counting and
// advising allocate nothing and cannot unwind.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !is_idle() {
            // SAFETY: the caller's obligations are passed on as they are.
            return unsafe { engaged::alloc(layout) };
        }
        // SAFETY: the caller's obligations are passed on as they are.
        let pointer = unsafe { buffers::allocate(layout) };
        if !pointer.is_null() {
            count_on_thread(layout.size() as i64);
        }
        pointer
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !is_idle() {
            // SAFETY: the caller's obligations are passed on as they are.
            return unsafe { engaged::alloc_zeroed(layout) };
        }
        // SAFETY: the caller's obligations are passed on as they are.
        let pointer = unsafe { buffers::allocate_zeroed(layout) };
        if !pointer.is_null() {
            count_on_thread(layout.size() as i64);
        }
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if !is_idle() {
            // SAFETY: the caller's obligations are passed on as they are.
            return unsafe { engaged::dealloc(pointer, layout) };
        }
        // SAFETY: the caller's obligations are passed on as they are.
        unsafe { buffers::free(pointer, layout) };
        count_on_thread(-(layout.size() as i64));
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !is_idle() {
            // SAFETY: the caller's obligations are passed on as they are.
            return unsafe { engaged::realloc(pointer, layout, new_size) };
        }
        // SAFETY: the caller's obligations are passed on as they are.
        let new_pointer = unsafe { buffers::resize(pointer, layout, new_size) };
        if !new_pointer.is_null() {
            count_on_thread(new_size as i64 - layout.size() as i64);
        }
        new_pointer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: CountingAllocator = CountingAllocator;

    #[test]
    fn an_installed_allocator_is_noticed() {
        assert!(counts_allocations());
    }

    #[test]
    fn a_thread_sees_its_own_bytes_only() {
        let meter = ThreadMeter::start();
        let kept: Vec<u8> = std::hint::black_box(Vec::with_capacity(1000));
        let other = std::thread::spawn(|| std::hint::black_box(vec![0u8; 1 << 20]).len());
        // The thread's handle is a small allocation of this thread.
        let live = meter.live_bytes();
        assert!((1000..100_000).contains(&live), "{live} bytes");
        other.join().unwrap();
        drop(kept);
        assert!(meter.live_bytes() < 1000, "{} bytes", meter.live_bytes());
    }
}
