//! Allocation, with the memory pages of large buffers under control.
//!
//! Where a buffer's pages of 4 KiB come to lie stays so for its lifetime and moves the time to read it by several percent
//! from process to process; pages of 2 MiB leave far less to chance, and are faster to read.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Buffers of at least so many bytes are large. The keys of one layer in f16 (3 heads of 64 values) at 4096 tokens have
/// 1.5 MiB.
pub const LARGE_BUFFER_BYTES: usize = 1 << 20;

/// What is done about the pages of large buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BufferPages {
    /// What the system does by itself.
    System,
    /// Pages of 2 MiB are asked for: every buffer begins at a multiple of them.
    Huge,
    /// Pages of 4 KiB are asked for.
    Small,
}

static PAGES: AtomicU8 = AtomicU8::new(BufferPages::System as u8);

/// Decides about the large buffers that are allocated from now on, in a program that installs the
/// [`CountingAllocator`](crate::CountingAllocator). Does nothing on systems other than Linux.
pub fn set_buffer_pages(pages: BufferPages) {
    PAGES.store(pages as u8, Relaxed);
}

const HUGE_PAGE: usize = 2 << 20;

/// Whether a buffer of this size is to be in huge pages.
fn is_huge(size: usize) -> bool {
    cfg!(target_os = "linux") && size >= LARGE_BUFFER_BYTES && PAGES.load(Relaxed) == BufferPages::Huge as u8
}

/// What is asked for in the place of a layout: a buffer in huge pages takes whole ones, or its end would be in small ones.
fn in_huge_pages(layout: Layout) -> Option<Layout> {
    if !is_huge(layout.size()) {
        return None;
    }
    let size = layout.size().checked_next_multiple_of(HUGE_PAGE)?;
    Layout::from_size_align(size, layout.align().max(HUGE_PAGE)).ok()
}

/// Allocates a buffer.
///
/// # Safety
/// As for [`GlobalAlloc::alloc`].
pub(crate) unsafe fn allocate(layout: Layout) -> *mut u8 {
    let taken = in_huge_pages(layout).unwrap_or(layout);
    // SAFETY: the layout is the caller's, or has more bytes and a stricter alignment.
    let pointer = unsafe { System.alloc(taken) };
    advise(pointer, taken.size());
    pointer
}

/// Allocates a buffer of zeros.
///
/// # Safety
/// As for [`GlobalAlloc::alloc_zeroed`].
pub(crate) unsafe fn allocate_zeroed(layout: Layout) -> *mut u8 {
    if is_huge(layout.size()) {
        // SAFETY: the caller's obligations are passed on as they are.
        let pointer = unsafe { allocate(layout) };
        if !pointer.is_null() {
            // SAFETY: the buffer has at least so many bytes, and nobody else has it yet.
            unsafe { pointer.write_bytes(0, layout.size()) };
        }
        return pointer;
    }
    // SAFETY: the caller's obligations are passed on as they are.
    let pointer = unsafe { System.alloc_zeroed(layout) };
    advise(pointer, layout.size());
    pointer
}

/// Frees a buffer.
///
/// # Safety
/// As for [`GlobalAlloc::dealloc`].
pub(crate) unsafe fn free(pointer: *mut u8, layout: Layout) {
    // SAFETY: `allocate` asked `System` for this layout, or for more with a stricter alignment. On Linux `System` hands both to
    // free(3), which takes whatever malloc(3), calloc(3) and posix_memalign(3) gave.
    unsafe { System.dealloc(pointer, layout) };
}

/// Gives a buffer another size.
///
/// # Safety
/// As for [`GlobalAlloc::realloc`].
pub(crate) unsafe fn resize(pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
    if !is_huge(layout.size()) && !is_huge(new_size) {
        // SAFETY: the caller's obligations are passed on as they are. A buffer of `allocate` came from one of the functions that
        // realloc(3) accepts; see `free`.
        let pointer = unsafe { System.realloc(pointer, layout, new_size) };
        advise(pointer, new_size);
        return pointer;
    }
    // realloc(3) does not keep an alignment.
    let Ok(new) = Layout::from_size_align(new_size, layout.align()) else { return std::ptr::null_mut() };
    // SAFETY: its size is not 0, as the caller promises.
    let moved = unsafe { allocate(new) };
    if !moved.is_null() {
        // SAFETY: both buffers have at least so many bytes, and the new one is nobody else's.
        unsafe { moved.copy_from_nonoverlapping(pointer, layout.size().min(new_size)) };
        // SAFETY: the caller hands over the old buffer.
        unsafe { free(pointer, layout) };
    }
    moved
}

/// Tells the kernel which pages a large buffer is to have. A kernel that refuses leaves it as it is.
#[cfg(target_os = "linux")]
fn advise(pointer: *mut u8, size: usize) {
    use rustix::mm::{Advice, madvise};
    if pointer.is_null() || size < LARGE_BUFFER_BYTES {
        return;
    }
    let (advice, page) = match PAGES.load(Relaxed) {
        pages if pages == BufferPages::Huge as u8 => (Advice::LinuxHugepage, HUGE_PAGE),
        pages if pages == BufferPages::Small as u8 => (Advice::LinuxNoHugepage, rustix::param::page_size()),
        _ => return,
    };
    let start = pointer.addr().next_multiple_of(page);
    let end = (pointer.addr() + size) / page * page;
    if start < end {
        // SAFETY: the range is whole pages within a buffer that was just allocated, and neither advice changes what is in it.
        let _ = unsafe { madvise(pointer.with_addr(start).cast(), end - start, advice) };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise(_: *mut u8, _: usize) {}
