//! Random weights, already encoded.

use std::io::Read;

use kv_kernels::{Format, WeightFormat};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::{LoadError, TensorSource};

/// The encodings that random weights can have.
const FORMATS: [WeightFormat; 5] = [WeightFormat::F32, WeightFormat::F16, WeightFormat::Bf16, WeightFormat::Q8_0, WeightFormat::Q4_0];

/// Uniform weights of variance `1 / inputs`, so that activations keep their size, and norms of 1.
///
/// Each row has its own part of its tensor's stream of random numbers, so that it does not matter how many threads draw.
pub(crate) struct RandomSource {
    seed: u64,
    format: WeightFormat,
    encoder: Format,
    /// Matrices read so far.
    matrices: u64,
}

impl RandomSource {
    /// # Errors
    /// [`LoadError::Key`] if weights cannot be drawn in this format.
    pub(crate) fn new(seed: u64, format: WeightFormat) -> Result<RandomSource, LoadError> {
        match format.cache_format().filter(|_| FORMATS.contains(&format)) {
            Some(encoder) => Ok(RandomSource { seed, format, encoder, matrices: 0 }),
            None => {
                let known = FORMATS.map(WeightFormat::name).join(", ");
                Err(LoadError::key("weights", format!("is {format}; random weights are drawn in {known}")))
            }
        }
    }
}

impl TensorSource for RandomSource {
    fn has(&self, _: &str) -> bool {
        true
    }

    fn format(&self, _: &str, shape: &[usize]) -> Result<WeightFormat, LoadError> {
        Ok(format_of(self.format, shape))
    }

    fn read(&mut self, _: &str, shape: &[usize], bytes: &mut [u8]) -> Result<(), LoadError> {
        let [_, inputs] = *shape else {
            write_ones(bytes);
            return Ok(());
        };
        let limit = (3.0 / inputs as f32).sqrt();
        let mut of_tensor = ChaCha8Rng::seed_from_u64(self.seed);
        of_tensor.set_stream(self.matrices);
        self.matrices += 1;
        let rows = bytes.par_chunks_exact_mut(self.encoder.row_bytes(inputs)).enumerate();
        rows.for_each_init(
            || vec![0.0; inputs],
            |values, (row, bytes)| {
                let mut random = of_tensor.clone();
                random.set_word_pos((row * inputs) as u128);
                values.iter_mut().for_each(|value| *value = random.random_range(-limit..limit));
                self.encoder.encode_row(values, bytes);
            },
        );
        Ok(())
    }
}

/// Random weights that were drawn before and kept in a file: the matrices one after the other.
pub(crate) struct KeptSource<'a> {
    pub(crate) file: &'a mut dyn Read,
    pub(crate) format: WeightFormat,
}

impl TensorSource for KeptSource<'_> {
    fn has(&self, _: &str) -> bool {
        true
    }

    fn format(&self, _: &str, shape: &[usize]) -> Result<WeightFormat, LoadError> {
        Ok(format_of(self.format, shape))
    }

    fn read(&mut self, name: &str, shape: &[usize], bytes: &mut [u8]) -> Result<(), LoadError> {
        if shape.len() == 1 {
            write_ones(bytes);
            return Ok(());
        }
        self.file.read_exact(bytes).map_err(|source| LoadError::read(format!("the kept weights of `{name}`"), source))
    }
}

/// Vectors are not encoded.
fn format_of(format: WeightFormat, shape: &[usize]) -> WeightFormat {
    if shape.len() == 1 { WeightFormat::F32 } else { format }
}

fn write_ones(bytes: &mut [u8]) {
    bytes.as_chunks_mut().0.iter_mut().for_each(|value| *value = 1.0f32.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(format: WeightFormat, threads: usize) -> Vec<u8> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut bytes = vec![0; format.bytes_of(64 * 96).unwrap()];
        let mut source = RandomSource::new(3, format).unwrap();
        pool.install(|| source.read("a", &[64, 96], &mut bytes)).unwrap();
        bytes
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        for format in FORMATS {
            let bytes = drawn(format, 1);
            assert!(bytes == drawn(format, 3), "{format}");
            let mut values = vec![0.0; 64 * 96];
            format.decode(&bytes, &mut values);
            let variance = values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32;
            assert!((variance * 96.0 - 1.0).abs() < 0.1, "{format}: {variance}");
            assert!(values[..96] != values[96..192], "{format}");
        }
    }

    #[test]
    fn a_format_without_an_encoder_is_refused() {
        let message = RandomSource::new(0, WeightFormat::Q4K).err().unwrap().to_string();
        assert_eq!(message, "key `weights` is q4_K; random weights are drawn in f32, f16, bf16, q8_0, q4_0");
    }
}
