//! Threads that stay awake during a step.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::Yield;

/// Runs `work` on a thread of the pool and keeps the pool's other threads awake until it is done.
///
/// A decode step hands out work hundreds of times, and waking a thread takes as long as a small matrix. A thread that is
/// awake takes work as soon as there is some. Between calls, the threads sleep as usual.
pub fn awake<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let is_over = AtomicBool::new(false);
    rayon::scope(|scope| {
        scope.spawn_broadcast(|_, _| stay_awake(&is_over));
        // Also if `work` panics: the scope waits for the other threads.
        let _end = SetOnDrop(&is_over);
        let _busy = Busy::enter();
        work()
    })
}

/// Takes the pool's work until the step is over.
///
/// A thread that is within a step does not wait: if that step is the one waited for, or waits for this thread in turn,
/// neither would ever end. The steps of several tests can share a pool.
fn stay_awake(is_over: &AtomicBool) {
    /// Pauses between two looks at the queues, which other threads write to.
    const PAUSES: usize = 16;
    if Busy::is_entered() {
        return;
    }
    let _busy = Busy::enter();
    while !is_over.load(Ordering::Acquire) {
        if rayon::yield_now() != Some(Yield::Executed) {
            for _ in 0..PAUSES {
                std::hint::spin_loop();
            }
        }
    }
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

thread_local! {
    static IS_BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Marks the thread as one that is within a step or keeps awake for one.
struct Busy {
    before: bool,
}

impl Busy {
    fn is_entered() -> bool {
        IS_BUSY.get()
    }

    fn enter() -> Busy {
        Busy { before: IS_BUSY.replace(true) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        IS_BUSY.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use rayon::prelude::*;

    use super::*;

    #[test]
    fn steps_of_several_threads_end_and_give_their_results() {
        let sum = |count: usize| (0..count).into_par_iter().with_max_len(1).sum::<usize>();
        std::thread::scope(|scope| {
            let steps: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (0..200).map(|_| awake(|| sum(9) + awake(|| sum(3)))).collect::<Vec<_>>())).collect();
            for step in steps {
                assert_eq!(step.join().unwrap(), [39; 200]);
            }
        });
    }

    #[test]
    fn a_panic_ends_the_step() {
        assert!(catch_unwind(AssertUnwindSafe(|| awake(|| panic!("within a step")))).is_err());
        assert_eq!(awake(|| 1), 1);
    }
}
