//! The machine's read bandwidth.

use std::time::Instant;

use rayon::prelude::*;

/// A buffer that no cache holds, read by all threads at once.
pub(crate) struct ReadBuffer {
    words: Vec<u64>,
}

/// Where the cache's size is not known, larger than most.
const ASSUMED_CACHE: usize = 64 << 20;
const LEAST: usize = 256 << 20;
const MOST: usize = 2 << 30;

impl ReadBuffer {
    /// A buffer of four times the last-level cache, 256 MiB to 2 GiB.
    pub(crate) fn larger_than(cache: Option<usize>) -> ReadBuffer {
        // Written, so that every page is a page of its own.
        ReadBuffer { words: (0..(ReadBuffer::bytes(cache) / size_of::<u64>()) as u64).collect() }
    }

    /// Bytes of that buffer.
    pub(crate) fn bytes(cache: Option<usize>) -> usize {
        (4 * cache.unwrap_or(ASSUMED_CACHE)).clamp(LEAST, MOST)
    }

    /// A buffer of twice the last-level cache, 64 to 256 MiB, for a measurement beside others. `None` if there is no memory.
    pub(crate) fn twice(cache: Option<usize>) -> Option<ReadBuffer> {
        const LEAST: usize = 64 << 20;
        const MOST: usize = 256 << 20;
        let count = (2 * cache.unwrap_or(ASSUMED_CACHE)).clamp(LEAST, MOST) / size_of::<u64>();
        let mut words = vec![];
        words.try_reserve_exact(count).ok()?;
        words.extend(0..count as u64);
        Some(ReadBuffer { words })
    }

    /// Bytes read a second, once through the buffer.
    pub(crate) fn read_bytes_per_second(&self) -> f64 {
        let started = Instant::now();
        let part = self.words.len().div_ceil(rayon::current_num_threads());
        let sum = self.words.par_chunks(part).map(sum).reduce(|| 0, u64::wrapping_add);
        let seconds = started.elapsed().as_secs_f64();
        std::hint::black_box(sum);
        size_of_val(self.words.as_slice()) as f64 / seconds
    }
}

/// The sum, in as many lanes as keep several loads under way.
fn sum(words: &[u64]) -> u64 {
    let (chunks, rest) = words.as_chunks::<32>();
    let mut lanes = [0u64; 32];
    for chunk in chunks {
        for (lane, word) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*word);
        }
    }
    lanes.iter().chain(rest).fold(0, |sum, word| sum.wrapping_add(*word))
}

/// The size of the last-level cache in bytes, where Linux says it.
pub(crate) fn last_level_cache() -> Option<usize> {
    let sizes = (0..8).filter_map(|index| {
        let size = std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size")).ok()?;
        size.trim().strip_suffix('K')?.parse::<usize>().ok().map(|kib| kib << 10)
    });
    sizes.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_all_words() {
        for count in [0, 1, 31, 32, 33, 1000] {
            let words: Vec<u64> = (0..count).collect();
            assert_eq!(sum(&words), words.iter().sum::<u64>(), "{count} words");
        }
    }
}
