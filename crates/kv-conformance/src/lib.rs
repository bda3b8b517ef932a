//! The checks that every KV-cache strategy must pass, as functions and as a test macro.
//!
//! A strategy must pass them before kvlab reports a number about it. Each check is a `pub fn` that takes a
//! [`Subject`], which is a strategy with a config. [`CHECKS`] lists them, and [`conformance_tests!`] makes a
//! `#[test]` of each. All checks are seeded and small, and need neither a network nor a model. They do not
//! measure speed or quality; the runner does.
//!
//! ```
//! # mod my_crate { pub type MyCache = kv_conformance::doc::Plain; }
//! mod conformance {
//!     kv_conformance::conformance_tests!(my_crate::MyCache);
//! }
//! # fn main() {}
//! ```
//!
//! A check that does not apply is skipped with a reason, never silently. For example, a window strategy cannot
//! equal recomputation, and a cache without a limit cannot be full.
#![forbid(unsafe_code)]

mod checks;
#[doc(hidden)]
pub mod doc;
mod driver;
mod failure;
mod heap;
mod macros;
mod own_process;
mod room;
mod steady;
mod subject;
mod text;
mod watched;

pub use checks::*;
pub use driver::{fill, step};
pub use failure::{Failure, Outcome, Verdict};
#[doc(hidden)]
pub use kv_metrics::CountingAllocator;
#[doc(hidden)]
pub use own_process::assert_passes_in_own_process;
pub use steady::steady_decode_bytes;
#[doc(hidden)]
pub use subject::assert_passes;
pub use subject::{LONG_RUN, Report, Subject, report, run};
pub use text::{Text, toy_geometry};
