//! Where the rows that a cache is fed come from: the model, a recording of it, or a generator.

mod alone;
mod cell_rows;
mod generated;
mod model;
mod replay;

pub(crate) use alone::AloneDriver;
pub(crate) use cell_rows::CellRows;
pub(crate) use generated::Generated;
pub(crate) use model::{Keeps, ModelDriver};
pub(crate) use replay::ReplayDriver;
