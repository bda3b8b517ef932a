//! The machine's read bandwidth, measured in every launch beside the instances.

use std::time::{Duration, Instant};

use crate::roofline::{ReadBuffer, last_level_cache};

/// How long it is measured, at least.
const MEASURED_FOR: Duration = Duration::from_millis(60);

/// Bytes per second that all threads together read of a buffer that no cache holds: the median of several passes.
/// `None` if there is no memory left for the buffer.
pub(super) fn measure() -> Option<f64> {
    let buffer = ReadBuffer::twice(last_level_cache())?;
    let began = Instant::now();
    let mut rates = vec![];
    while rates.len() < 3 || began.elapsed() < MEASURED_FOR {
        rates.push(buffer.read_bytes_per_second());
    }
    kv_metrics::quantile(&rates, 0.5)
}
