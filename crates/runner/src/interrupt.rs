//! Ctrl-C and SIGTERM: the first one ends the run in good order, the second one at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::{Problem, progress};

/// Whether Ctrl-C was pressed.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Wakes whoever waits for a worker.
type Wake = Box<dyn Fn() + Send>;
static WAKE: Mutex<Option<Wake>> = Mutex::new(None);

/// Makes the first Ctrl-C finish what is being measured and the second one stop at once.
///
/// # Errors
/// A [`Problem`] if the handler cannot be installed.
pub(crate) fn handle() -> Result<(), Problem> {
    let handler = || {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        progress::say("\nending what is in hand; what was measured is kept. Press Ctrl-C again to stop at once.");
        if let Some(wake) = &*WAKE.lock().unwrap_or_else(PoisonError::into_inner) {
            wake();
        }
    };
    ctrlc::set_handler(handler).map_err(|error| Problem::new("cannot handle Ctrl-C").caused_by(error))
}

/// Makes this process live on when it is told to end: a scheduler tells all processes of a task, and the runner decides what
/// becomes of its workers.
///
/// # Errors
/// A [`Problem`] if the handler cannot be installed.
pub(crate) fn ignore() -> Result<(), Problem> {
    ctrlc::set_handler(|| {}).map_err(|error| Problem::new("cannot ignore signals").caused_by(error))
}

/// Whether Ctrl-C was pressed since the start.
pub(crate) fn requested() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Calls `wake` on Ctrl-C, instead of what was to be called before.
pub(crate) fn wakes(wake: impl Fn() + Send + 'static) {
    *WAKE.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(wake));
}
