//! The rotation that a file's metadata ask for.

use kv_core::Rope;

use crate::LoadError;
use crate::config::MOST_KEY_VALUES;
use crate::gguf::File;
use crate::gguf::model::Architecture;

/// The divisors of Llama 3.1's scaling, one a plane. llama.cpp reads them for Llama alone.
pub(super) const FREQUENCY_FACTORS: &str = "rope_freqs.weight";

/// The rotation of keys of `key_dim` values; `factors` are the values of [`FREQUENCY_FACTORS`].
pub(super) fn rope(file: &File<'_>, architecture: Architecture, key_dim: usize, factors: Option<Vec<f32>>) -> Result<Rope, LoadError> {
    let key = |name: &str| format!("{}.rope.{name}", architecture.prefix());
    let rotated = if file.value(&key("dimension_count")).is_some() { file.count(&key("dimension_count"))? } else { key_dim };
    if rotated > key_dim.min(MOST_KEY_VALUES) || rotated % 2 != 0 {
        return Err(LoadError::key(key("dimension_count"), format!("is {rotated}, not an even number up to a key's {key_dim} values")));
    }
    // llama.cpp's graphs of the others assert this.
    if architecture != Architecture::Qwen2 && rotated != key_dim {
        return Err(LoadError::key(
            key("dimension_count"),
            format!("is {rotated}: a partial rotation of {key_dim} values is not supported here"),
        ));
    }
    let theta = if file.value(&key("freq_base")).is_some() { file.number(&key("freq_base"))? } else { 10_000.0 };
    if theta <= 0.0 {
        return Err(LoadError::key(key("freq_base"), format!("is {theta:?}, not positive")));
    }
    let divisor = linear_divisor(file, key)?;
    let mut frequencies = Rope::new(theta, rotated).inverse_frequencies().to_vec();
    frequencies.iter_mut().for_each(|frequency| *frequency /= divisor);
    if let Some(factors) = factors {
        if factors.len() != frequencies.len() || factors.iter().any(|factor| *factor <= 0.0) {
            return Err(LoadError::tensor(FREQUENCY_FACTORS, format!("is not {} positive factors", frequencies.len())));
        }
        frequencies.iter_mut().zip(factors).for_each(|(frequency, factor)| *frequency /= f64::from(factor));
    }
    Ok(Rope::from_inverse_frequencies(frequencies))
}

/// What linear scaling divides the frequencies by. As in llama.cpp's `load_hparams`, a factor without a type is
/// linear, `scale_linear` is the older name of the factor, 0 is no factor, and the type `none` ignores it.
fn linear_divisor(file: &File<'_>, key: impl Fn(&str) -> String) -> Result<f64, LoadError> {
    let scaling_type = key("scaling.type");
    match file.value(&scaling_type).map(|_| file.string(&scaling_type)).transpose()? {
        Some("none") => return Ok(1.0),
        None | Some("linear") => {}
        Some(other) => return Err(LoadError::key(scaling_type, format!("is `{other}`; supported: none, linear"))),
    }
    let Some(factor) = [key("scaling.factor"), key("scale_linear")].into_iter().find(|key| file.value(key).is_some()) else {
        return Ok(1.0);
    };
    match file.number(&factor)? {
        0.0 => Ok(1.0),
        divisor if divisor > 0.0 => Ok(divisor),
        divisor => Err(LoadError::key(factor, format!("is {divisor:?}, not positive"))),
    }
}
