//! Where weights come from.

use kv_kernels::WeightFormat;

use crate::LoadError;

/// Something that has tensors by their Hugging Face name (`model.layers.0.self_attn.q_proj.weight`, …).
pub trait TensorSource {
    /// Whether the model has a tensor of this name; if it should have, [`TensorSource::format`] says that it is missing.
    fn has(&self, name: &str) -> bool;

    /// The encoding of a tensor.
    ///
    /// # Errors
    /// [`LoadError::Tensor`] if it is missing, has another shape, or cannot be decoded.
    fn format(&self, name: &str, shape: &[usize]) -> Result<WeightFormat, LoadError>;

    /// Reads a tensor, row by row, in the encoding that [`TensorSource::format`] answered; `bytes` are as many as `shape` takes
    /// in it.
    ///
    /// # Errors
    /// [`LoadError`] if it cannot be read.
    fn read(&mut self, name: &str, shape: &[usize], bytes: &mut [u8]) -> Result<(), LoadError>;
}

/// A whole tensor in `f32`: norms and biases, which are small.
///
/// # Errors
/// [`LoadError`] of the source.
pub(super) fn read_decoded(source: &mut dyn TensorSource, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
    let format = source.format(name, shape)?;
    let mut values = vec![0.0; shape.iter().product()];
    let mut bytes = vec![0; encoded_len(format, name, shape)?];
    source.read(name, shape, &mut bytes)?;
    format.decode(&bytes, &mut values);
    Ok(values)
}

/// Bytes of a tensor in a format.
///
/// # Errors
/// [`LoadError::Tensor`] if its rows are no whole blocks.
pub(super) fn encoded_len(format: WeightFormat, name: &str, shape: &[usize]) -> Result<usize, LoadError> {
    let row = *shape.last().unwrap_or(&1);
    let rows = shape.iter().rev().skip(1).try_fold(1usize, |rows, extent| rows.checked_mul(*extent));
    let len = format.bytes_of(row).zip(rows).and_then(|(row, rows)| row.checked_mul(rows));
    let (block, _) = format.block();
    len.ok_or_else(|| LoadError::tensor(name, format!("of shape {shape:?} is no whole number of blocks of {block} values in {format}")))
}
