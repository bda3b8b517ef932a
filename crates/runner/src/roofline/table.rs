//! The measurements as a table.

use kv_report::{Roofline, counted};

use crate::screen::wrapped;

/// The table, with a legend above it.
pub(crate) fn as_table(result: &Roofline) -> String {
    let cache = result.last_level_cache_bytes.map_or("of unknown size".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    let mut text = format!(
        "read bandwidth {} GB/s in pages of {}, {}, kernel path {}, last-level cache {cache}, huge pages of caches: {}\n\
         one query per layer over {}; {} in turns\n{}\n",
        result.read_bandwidth.shown(1e-9, 1),
        result.read_bandwidth_pages,
        counted(result.threads, "thread"),
        result.kernel_path,
        result.huge_pages,
        counted(result.tokens, "token"),
        result.effort(),
        wrapped(&result.legend()),
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
        let [over_f32, over_contiguous] = row.shown_times();
        let line = format!(
            "{:10} {:22} {:>12.1} {:>21} {:>21}  {:34} {:34}",
            row.format,
            row.layout,
            1e6 * row.layer_seconds.value,
            row.bytes_per_second.shown(1e-9, 1),
            row.of_bandwidth.shown(1.0, 2),
            over_f32,
            over_contiguous,
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
