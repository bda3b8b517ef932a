//! What rows of caches alone mean.

use kv_report::{Level, Metric, Row, RunRecord, metric};

/// Of caches alone: what that means, and the numbers of all layers from those of the measured ones. No other place scales
/// what rows say.
pub(super) fn add_level(row: &mut Row, run: &RunRecord) {
    let scale = run.layer_scale();
    if scale != 1.0 {
        for (_, value) in row.values.iter_mut().filter(|(id, _)| metric(id).is_some_and(Metric::sums_layers)) {
            value.value *= scale;
            value.interval = value.interval.map(|(low, high)| (low * scale, high * scale));
        }
        // Of resident pages, these parts do not grow with layers: the ledger still adds up.
        let fixed: f64 = ["allocator_kept_bytes", "rss_residual_bytes"].iter().filter_map(|id| row.value(id)).sum();
        for id in ["rss_bytes", "pss_bytes"] {
            if let Some(resident) = row.values.get_mut(id) {
                resident.value -= fixed * (scale - 1.0);
            }
        }
        // What they say was found before the numbers were scaled.
        for note in row.notes.iter_mut().filter(|note| note.starts_with("ledger: ")) {
            note.push_str(", in the layers that were measured");
        }
    }
    row.notes.extend(run.of_level());
    let context = run.model.geometry.context;
    if run.level != Level::Model && row.value("last_depth_tokens").is_some_and(|depth| depth > context as f64) {
        row.notes.push(format!("beyond the model's context of {context} tokens"));
    }
}
