//! The macro that makes a `#[test]` of every check.

/// Expands to one `#[test]` per check, for a strategy with its default config or with the given configs.
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
    ($strategy:ty { $($name:ident: $config:expr),+ $(,)? }) => {
        $(
            mod $name {
                use super::*;
                $crate::conformance_tests!(@tests $strategy, $config);
            }
        )+
    };
    ($strategy:ty) => {
        $crate::conformance_tests!(@tests $strategy, "");
    };
    (@tests $strategy:ty, $config:expr) => {
        $crate::conformance_tests!(@each $strategy, $config;
            config_is_strict
            starts_empty_and_forgets
            refusals_leave_no_trace
            attend_equals_view
            guarantee_holds
            nothing_evicted_is_exact
            positions_are_relative
            chunks_do_not_matter
            truncate_then_append_is_fresh
            forks_are_isolated
            full_loses_nothing
            nothing_leaks
            bytes_are_true
            runs_are_reproducible
            random_traces_agree_with_a_model
            threads_and_nans_do_not_spread
        );
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
