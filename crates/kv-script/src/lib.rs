//! Workloads as scripts of events, and the interpreter that drives a cache through them.
//!
//! A [`Script`] is a list of [`Event`]s over named sequences: open, fork, append, step, truncate, prompt end, close. The
//! [`Interpreter`] runs them on one cache. Where keys, values and queries come from is the business of a [`Driver`]: a model
//! computes them, and [`RowsDriver`] takes them from a [`RowSource`], which may have recorded or generated them.
//!
//! This crate measures nothing. Whoever times events runs them one by one.
#![forbid(unsafe_code)]

mod cross;
mod driver;
mod event;
mod interpreter;
mod rows;
mod script;

pub use cross::{Fed, cross_step};
pub use driver::Driver;
pub use event::{Event, Input, Name};
pub use interpreter::{Interpreter, ScriptError};
pub use rows::{Attention, FedRows, RowSource, RowsDriver, chunks, step, step_watched};
pub use script::{Script, names};
