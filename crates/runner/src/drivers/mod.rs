//! Where the rows that a cache is fed come from: the model, or a recording of it.

mod model;
mod replay;

pub(crate) use model::ModelDriver;
pub(crate) use replay::ReplayDriver;
