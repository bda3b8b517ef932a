//! Panics that the model's crate catches and turns into errors are not what is looked for.

use std::sync::Once;

static HOOK: Once = Once::new();

/// libFuzzer ends the process at every panic; after this, only at those that are not caught.
pub fn end_only_at_uncaught_ones() {
    HOOK.call_once(|| {
        let end = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !kv_model::panic_becomes_error() {
                end(panic);
            }
        }));
    });
}
