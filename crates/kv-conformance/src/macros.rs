//! The macros that make a `#[test]` of every check.

/// Expands to one `#[test]` per check, for a strategy with its default config or with the given configs, and installs
/// the allocator that counts heap bytes. Use it once per test program. A program with an allocator of its own, or with
/// several strategies, uses [`conformance_checks!`](crate::conformance_checks).
///
/// With several configs, each gets its own module, so that the name of a test shows the config:
///
/// ```
/// # mod my_crate { pub type MyCache = kv_conformance::doc::Plain; }
/// kv_conformance::conformance_tests!(my_crate::MyCache {
///     default: "",
///     again: "",
/// });
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! conformance_tests {
    ($($tests:tt)+) => {
        #[global_allocator]
        static COUNTING_ALLOCATOR: $crate::CountingAllocator = $crate::CountingAllocator;

        $crate::conformance_checks!($($tests)+);
    };
}

/// [`conformance_tests!`](crate::conformance_tests) without the allocator. In a program that does not install it, the
/// test of the bytes fails: it cannot run.
#[macro_export]
macro_rules! conformance_checks {
    ($strategy:ty { $($name:ident: $config:expr),+ $(,)? }) => {
        $(
            mod $name {
                use super::*;
                $crate::conformance_checks!(@tests $strategy, $config);
            }
        )+
    };
    ($strategy:ty) => {
        $crate::conformance_checks!(@tests $strategy, "");
    };
    (@tests $strategy:ty, $config:expr) => {
        $crate::conformance_checks!(@each $strategy, $config;
            config_is_strict
            starts_empty_and_forgets
            refusals_leave_no_trace
            attend_equals_view
            read_equals_view
            guarantee_holds
            nothing_evicted_is_exact
            positions_are_relative
            reach_holds
            chunks_do_not_matter
            truncate_then_append_is_fresh
            forks_are_isolated
            full_loses_nothing
            nothing_leaks
            predicted_bytes_hold
            runs_are_reproducible
            random_traces_agree_with_a_model
            threads_and_nans_do_not_spread
            long_runs_hold
        );

        #[test]
        fn bytes_are_true() {
            let test = concat!(module_path!(), "::bytes_are_true");
            $crate::assert_passes_in_own_process($crate::Subject::of::<$strategy>($config), test, "bytes_are_true", $crate::bytes_are_true);
        }
    };
    (@each $strategy:ty, $config:expr; $($check:ident)+) => {
        $(
            #[test]
            fn $check() {
                $crate::assert_passes(&$crate::Subject::of::<$strategy>($config), stringify!($check), $crate::$check);
            }
        )+
    };
}
