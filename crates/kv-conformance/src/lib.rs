//! What every key-value cache strategy must satisfy, as functions and as a test macro.
//!
//! A strategy proves itself here before a number about it is printed. Each check is a `pub fn` over a
//! [`Subject`], a strategy with a config; [`CHECKS`] lists them, and [`conformance_tests!`] makes a `#[test]` of
//! each. Everything is seeded, small, and needs neither a network nor a model. It does not measure: speed and
//! quality are the runner's.
//!
//! ```
//! # mod my_crate { pub type MyCache = kv_conformance::doc::Plain; }
//! mod conformance {
//!     kv_conformance::conformance_tests!(my_crate::MyCache);
//! }
//! # fn main() {}
//! ```
//!
//! A check that does not apply (a window strategy cannot equal recomputing, a cache without a limit cannot be
//! full) is skipped with a reason, never passed over in silence.
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
#[doc(hidden)]
pub use subject::assert_passes;
pub use subject::{LONG_RUN, Report, Subject, report, run};
pub use text::{Text, toy_geometry};
