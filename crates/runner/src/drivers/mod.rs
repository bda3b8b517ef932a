//! Where the rows that a cache is fed come from: the model, a recording of it, or a generator.

mod generated;
mod model;
mod replay;

pub(crate) use generated::Generated;
pub(crate) use model::ModelDriver;
pub(crate) use replay::ReplayDriver;
