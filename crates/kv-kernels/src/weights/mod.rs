//! Matrices of weights that stay as the model's file stores them, and their products with activations.
//!
//! An encoded row of a matrix is an encoded key, and a row of activations is a query: `y = W x` is the score of the query
//! against every key. The codecs are those of the caches, and more.

#[macro_use]
mod format;
mod few_rows;
mod many_rows;
mod product;

pub use format::WeightFormat;
pub use product::{Matrix, Product, multiply};

#[cfg(test)]
mod tests;
