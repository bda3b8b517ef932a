//! Threads that stay awake during a step.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rayon::Yield;

/// Runs `work` on a thread of the pool and keeps the pool's other threads awake until it is done.
///
/// A decode step hands out work hundreds of times, and waking a thread takes as long as a small matrix. A thread that is
/// awake takes work as soon as there is some. Between calls, the threads sleep as usual. Nobody stays awake in a pool of more
/// threads than the machine has CPUs: they would take time from each other.
///
/// The call ends when every thread of the pool has seen that it is over, so a thread that is busy with another caller's work
/// delays it.
pub fn awake<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let threads = rayon::current_num_threads();
    if threads == 1 || threads > std::thread::available_parallelism().map_or(1, usize::from) {
        return rayon::scope(|_| work());
    }
    let step = Step::default();
    rayon::scope(|scope| {
        let _busy = Busy::enter();
        scope.spawn_broadcast(|_, _| step.stay_awake());
        // Also if `work` panics: the scope waits for the other threads.
        let _end = SetOnDrop(&step.is_over);
        step.wait_for(threads - 1);
        step.has_begun.store(true, Ordering::SeqCst);
        work()
    })
}

/// A call of [`awake`].
#[derive(Default)]
struct Step {
    /// Threads that have come.
    arrived: AtomicUsize,
    has_begun: AtomicBool,
    is_over: AtomicBool,
}

impl Step {
    /// Waits until this number of threads has come, but not for long: they may be busy.
    fn wait_for(&self, threads: usize) {
        /// Several times what waking a thread takes.
        const LONGEST: Duration = Duration::from_micros(200);
        let start = Instant::now();
        while self.arrived.load(Ordering::Acquire) < threads && start.elapsed() < LONGEST {
            std::hint::spin_loop();
        }
    }

    /// Takes the pool's work until the step is over.
    ///
    /// A thread that comes late does not stay. It may come from within a task of this very step, which would then wait for
    /// itself. For the same reason, a thread that is within a step does not stay. The steps of several tests can share a pool:
    /// what is beneath a thread that stays began before this step, so that steps wait for later ones only.
    fn stay_awake(&self) {
        /// Pauses between two looks at the queues, which other threads write to.
        const PAUSES: usize = 16;
        if Busy::is_entered() || self.has_begun.load(Ordering::SeqCst) {
            return;
        }
        let _busy = Busy::enter();
        self.arrived.fetch_add(1, Ordering::Release);
        while !self.is_over.load(Ordering::Acquire) {
            if rayon::yield_now() != Some(Yield::Executed) {
                for _ in 0..PAUSES {
                    std::hint::spin_loop();
                }
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
    fn pools_of_any_size_run_steps() {
        for threads in [1, 2, 3, 9] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for _ in 0..500 {
                assert_eq!(pool.install(|| awake(|| (0..64).into_par_iter().with_max_len(1).sum::<usize>())), 2016);
            }
        }
    }

    /// Its only thread cannot run the second job unless the first one takes it.
    #[test]
    fn a_thread_that_stays_takes_work() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let step = Step::default();
        pool.in_place_scope(|scope| {
            scope.spawn(|_| step.stay_awake());
            while step.arrived.load(Ordering::Acquire) == 0 {
                std::thread::yield_now();
            }
            scope.spawn(|_| step.is_over.store(true, Ordering::Release));
        });
    }

    /// Otherwise these calls would not end.
    #[test]
    fn a_thread_that_is_late_or_within_a_step_does_not_stay() {
        let step = Step::default();
        {
            let _busy = Busy::enter();
            step.stay_awake();
        }
        step.has_begun.store(true, Ordering::SeqCst);
        step.stay_awake();
        assert_eq!(step.arrived.load(Ordering::Acquire), 0);
    }

    #[test]
    fn a_panic_ends_the_step() {
        assert!(catch_unwind(AssertUnwindSafe(|| awake(|| panic!("within a step")))).is_err());
        assert_eq!(awake(|| 1), 1);
    }
}
