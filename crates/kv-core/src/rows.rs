//! Rows in host memory. Strategies convert tensors to rows, and rows back to tensors.

use burn::tensor::{Device, TensorData};

use crate::{CacheError, Tensor};

/// `[tokens, heads, dim]` values in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    dims: [usize; 3],
    values: Vec<f32>,
}

/// The device of all tensors: Burn's CPU backend.
pub fn device() -> Device {
    Device::flex()
}

impl Rows {
    /// Rows with these values.
    ///
    /// # Panics
    /// If there are not `tokens · heads · dim` values.
    pub fn new(dims: [usize; 3], values: Vec<f32>) -> Rows {
        assert_eq!(values.len(), dims.iter().product::<usize>(), "values of rows {dims:?}");
        Rows { dims, values }
    }

    /// Takes a tensor's values. Copies nothing if nobody else holds the tensor.
    ///
    /// # Errors
    /// [`CacheError::Shape`] if the tensor does not have the `expected` shape. `what` names the tensor.
    pub fn take(what: &'static str, tensor: Tensor<3>, expected: [usize; 3]) -> Result<Rows, CacheError> {
        let actual = tensor.dims();
        if actual != expected {
            return Err(CacheError::Shape { what, actual, expected });
        }
        let values = tensor.into_data().try_into_vec().expect("the project's tensors hold `f32`");
        Ok(Rows { dims: actual, values })
    }

    /// `[tokens, heads, dim]`
    pub fn dims(&self) -> [usize; 3] {
        self.dims
    }

    /// The values, token by token.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The row of one head and token.
    pub fn row(&self, token: usize, head: usize) -> &[f32] {
        let [_, heads, dim] = self.dims;
        &self.values[(token * heads + head) * dim..][..dim]
    }

    /// The rows as a tensor.
    pub fn into_tensor(self) -> Tensor<3> {
        Tensor::from_data(TensorData::new(self.values, self.dims), &device())
    }

    /// Allocated bytes of the values.
    pub fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<f32>()
    }
}
