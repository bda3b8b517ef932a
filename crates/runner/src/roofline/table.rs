//! The measurements as a table.

use kv_report::{Judged, Roofline};

/// The table, with a legend above it.
pub(crate) fn as_table(result: &Roofline) -> String {
    let cache = result.last_level_cache_bytes.map_or("of unknown size".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    let mut text = format!(
        "read bandwidth {} GB/s in pages of {}, {} threads, kernel path {}, last-level cache {cache}, huge pages of caches: {}\n\
         one query per layer over {} tokens; {} launches of {} rounds in turns; in brackets where a value lies with 95 %;\n\
         if all times were alike, any ratio of a column would exclude 1 with a probability of 5 %\n",
        result.read_bandwidth.shown(1e-9, 1),
        result.read_bandwidth_pages,
        result.threads,
        result.kernel_path,
        result.huge_pages,
        result.tokens,
        result.launches,
        result.rounds,
    );
    for (model, control) in &result.controls {
        text.push_str(&format!("noise floor of {model}: contiguous f32, timed twice, takes {control} of its own time\n"));
    }
    let mut model = "";
    for row in &result.rows {
        if row.model != model {
            model = &row.model;
            text.push_str(&format!(
                "\n{model}\n{:10} {:22} {:>12} {:>21} {:>21}  {:34} {:34}\n",
                "format", "layout", "µs per layer", "GB/s", "of the bandwidth", "time over contiguous f32", "time over contiguous"
            ));
        }
        let line = format!(
            "{:10} {:22} {:>12.1} {:>21} {:>21}  {:34} {:34}",
            row.format,
            row.layout,
            1e6 * row.layer_seconds.value,
            row.bytes_per_second.shown(1e-9, 1),
            row.of_bandwidth.shown(1.0, 2),
            row.time_over_f32.as_ref().map_or_else(|| "1".to_owned(), Judged::to_string),
            row.time_over_contiguous.as_ref().map_or_else(|| "1".to_owned(), Judged::to_string),
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
