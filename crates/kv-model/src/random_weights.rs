//! Random matrices, already encoded.

use kv_kernels::{Format, WeightFormat};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::LoadError;

/// Uniform weights of variance `1 / inputs`, so that activations keep their size.
///
/// Each row has its own part of its matrix's stream of random numbers, so that it does not matter how many threads draw.
pub(crate) struct RandomMatrices {
    seed: u64,
    encoder: Format,
    /// Matrices drawn so far.
    drawn: u64,
}

impl RandomMatrices {
    /// # Errors
    /// [`LoadError::Key`] if kvlab does not encode in this format.
    pub(crate) fn new(seed: u64, format: WeightFormat) -> Result<RandomMatrices, LoadError> {
        let encoder = format.cache_format();
        let encoder =
            encoder.ok_or_else(|| LoadError::key("weights", format!("is {format}, in which random weights cannot be encoded")))?;
        Ok(RandomMatrices { seed, encoder, drawn: 0 })
    }

    /// Draws the next matrix, rows of `inputs` values.
    pub(crate) fn draw(&mut self, inputs: usize, bytes: &mut [u8]) {
        let limit = (3.0 / inputs as f32).sqrt();
        let mut of_matrix = ChaCha8Rng::seed_from_u64(self.seed);
        of_matrix.set_stream(self.drawn);
        self.drawn += 1;
        let rows = bytes.par_chunks_exact_mut(self.encoder.row_bytes(inputs)).enumerate();
        rows.for_each_init(
            || vec![0.0; inputs],
            |values, (row, bytes)| {
                let mut random = of_matrix.clone();
                random.set_word_pos((row * inputs) as u128);
                values.iter_mut().for_each(|value| *value = random.random_range(-limit..limit));
                self.encoder.encode_row(values, bytes);
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(format: WeightFormat, threads: usize) -> Vec<u8> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut bytes = vec![0; format.bytes_of(64 * 96).unwrap()];
        pool.install(|| RandomMatrices::new(3, format).unwrap().draw(96, &mut bytes));
        bytes
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        for format in WeightFormat::ALL.into_iter().filter(|format| format.cache_format().is_some()) {
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
        let message = RandomMatrices::new(0, WeightFormat::Q4K).err().unwrap().to_string();
        assert_eq!(message, "key `weights` is q4_K, in which random weights cannot be encoded");
    }
}
