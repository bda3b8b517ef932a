//! Buffers that are known by their addresses while bytes are counted: those that were lent, and large ones.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Addresses and bytes of some buffers. It has room for so many and allocates nothing, because the allocator itself writes it.
pub(crate) struct Book<const ROOM: usize>(Mutex<Entries<ROOM>>);

struct Entries<const ROOM: usize> {
    entries: [Entry; ROOM],
    count: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) address: usize,
    pub(crate) bytes: usize,
}

/// Keys, values and queries of a step that are not the cache's own.
pub(crate) static LENT: Book<4096> = Book::new();

/// Buffers of at least [`LARGE`] bytes.
pub(crate) static LARGE_BUFFERS: Book<4096> = Book::new();

/// From here on the system's allocator maps a buffer on its own, as a rule, and its pages come into being when they are touched
/// (`M_MMAP_THRESHOLD` in mallopt(3)).
pub(crate) const LARGE: usize = 128 << 10;

impl<const ROOM: usize> Book<ROOM> {
    const fn new() -> Book<ROOM> {
        Book(Mutex::new(Entries { entries: [Entry { address: 0, bytes: 0 }; ROOM], count: 0 }))
    }

    fn open(&self) -> MutexGuard<'_, Entries<ROOM>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.open().count = 0;
    }

    /// Writes a buffer down. False if there is no room.
    pub(crate) fn add(&self, entry: Entry) -> bool {
        let mut book = self.open();
        let Entries { entries, count } = &mut *book;
        let Some(free) = entries.get_mut(*count) else { return false };
        *free = entry;
        *count += 1;
        true
    }

    /// Strikes a buffer out, and answers its bytes if it was written down.
    pub(crate) fn remove(&self, address: usize) -> Option<usize> {
        let mut book = self.open();
        let Entries { entries, count } = &mut *book;
        // What came last goes first, as a rule.
        let index = entries[..*count].iter().rposition(|entry| entry.address == address)?;
        *count -= 1;
        entries.swap(index, *count);
        Some(entries[*count].bytes)
    }

    /// The `index`th buffer. Others may come and go between two calls.
    pub(crate) fn get(&self, index: usize) -> Option<Entry> {
        let book = self.open();
        book.entries[..book.count].get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_found_by_their_address_as_long_as_there_is_room() {
        let book: Book<3> = Book::new();
        let add = |address| book.add(Entry { address, bytes: 10 * address });
        assert_eq!([1, 2, 3, 4].map(add), [true, true, true, false]);
        assert_eq!([4, 1, 1].map(|address| book.remove(address)), [None, Some(10), None]);
        assert!(add(4));
        let mut left: Vec<usize> = (0..4).filter_map(|index| Some(book.get(index)?.bytes)).collect();
        left.sort_unstable();
        assert_eq!(left, [20, 30, 40]);
        book.clear();
        assert!(book.get(0).is_none() && book.remove(2).is_none());
    }
}
