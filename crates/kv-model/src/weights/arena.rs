//! The memory of all matrices: one run of bytes on large pages.

use std::ops::Range;

use memmap2::MmapMut;

use crate::LoadError;

/// The size of a large page, to which the arena is aligned. Single matrices are not: those of a small model are a fraction
/// of it.
const LARGE_PAGE: usize = 2 << 20;
/// Matrices begin on a cache line.
const LINE: usize = 64;

/// Which pages the weights are to lie on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pages {
    /// Large ones where the system offers them (`MADV_HUGEPAGE` on Linux): fewer address translations per matrix.
    #[default]
    Large,
    /// The system's ordinary ones.
    Ordinary,
}

/// Memory outside the heap.
pub(super) struct Arena {
    map: MmapMut,
    /// The first byte on a boundary of large pages.
    start: usize,
    len: usize,
    advice: &'static str,
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arena").field("len", &self.len).field("advice", &self.advice).finish_non_exhaustive()
    }
}

impl Arena {
    /// Reserves `len` bytes, which are zero and take no memory until they are written.
    pub(super) fn reserve(len: usize, pages: Pages) -> Result<Arena, LoadError> {
        let reserved =
            len.checked_add(LARGE_PAGE).ok_or(LoadError::Memory { bytes: len, source: std::io::ErrorKind::OutOfMemory.into() })?;
        let map = MmapMut::map_anon(reserved).map_err(|source| LoadError::Memory { bytes: len, source })?;
        let start = map.as_ptr().align_offset(LARGE_PAGE);
        let advice = advise(&map, pages);
        Ok(Arena { map, start, len, advice })
    }

    pub(super) fn bytes(&self, place: Range<usize>) -> &[u8] {
        &self.map[self.start..][..self.len][place]
    }

    pub(super) fn bytes_mut(&mut self, place: Range<usize>) -> &mut [u8] {
        &mut self.map[self.start..][..self.len][place]
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What was asked of the system, in words.
    pub(super) fn advice(&self) -> &'static str {
        self.advice
    }
}

#[cfg(target_os = "linux")]
fn advise(map: &MmapMut, pages: Pages) -> &'static str {
    use memmap2::Advice;
    match pages {
        Pages::Large if map.advise(Advice::HugePage).is_ok() => "large pages advised (MADV_HUGEPAGE)",
        Pages::Large => "ordinary pages: this system refuses large ones",
        // Some systems give large pages to whoever does not ask for the others.
        Pages::Ordinary if map.advise(Advice::NoHugePage).is_ok() => "ordinary pages advised (MADV_NOHUGEPAGE)",
        Pages::Ordinary => "ordinary pages: this system has no others",
    }
}

#[cfg(not(target_os = "linux"))]
fn advise(_: &MmapMut, _: Pages) -> &'static str {
    "the system's default pages: others are advised on Linux only"
}

/// Hands out places in an arena before it is reserved.
#[derive(Debug, Default)]
pub(super) struct Places {
    end: usize,
}

impl Places {
    /// The next place of `len` bytes, or `None` if the sum is too large to count.
    pub(super) fn next(&mut self, len: usize) -> Option<Range<usize>> {
        let start = self.end.checked_next_multiple_of(LINE)?;
        self.end = start.checked_add(len)?;
        Some(start..self.end)
    }

    /// Bytes of all places.
    pub(super) fn len(&self) -> usize {
        self.end
    }
}
