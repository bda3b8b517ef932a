//! Random models in every format of weights, also in those that kvlab does not encode.

use kv_kernels::{Format, WeightFormat};
use kv_model::{Decoder, LoadError, LoadOptions, Preset, TensorSource, Weights};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The preset `tiny` in two layers, with rows that K-quants divide.
pub(crate) fn decoder_in(format: WeightFormat) -> Decoder {
    let mut config = Preset::find("tiny").unwrap().config(Some(2));
    config.intermediate = 768;
    let mut source = RandomBlocks { format, random: ChaCha8Rng::seed_from_u64(7) };
    let weights = Weights::load(&config, &mut source, LoadOptions::default()).unwrap();
    Decoder::new(config, weights)
}

/// Weights of variance `1 / inputs`, so that activations keep their size, and norms of 1.
struct RandomBlocks {
    format: WeightFormat,
    random: ChaCha8Rng,
}

impl TensorSource for RandomBlocks {
    fn has(&self, _: &str) -> bool {
        false
    }

    fn format(&self, _: &str, shape: &[usize]) -> Result<WeightFormat, LoadError> {
        Ok(if shape.len() == 1 { WeightFormat::F32 } else { self.format })
    }

    fn read(&mut self, _: &str, shape: &[usize], bytes: &mut [u8]) -> Result<(), LoadError> {
        match (shape, self.format.cache_format()) {
            (&[_, inputs], Some(encoder)) => {
                let limit = (3.0 / inputs as f32).sqrt();
                for row in bytes.chunks_exact_mut(encoder.row_bytes(inputs)) {
                    let values: Vec<f32> = (0..inputs).map(|_| self.random.random_range(-limit..limit)).collect();
                    encoder.encode_row(&values, row);
                }
            }
            (&[_, inputs], None) => {
                let (_, block_bytes) = self.format.block();
                bytes.chunks_exact_mut(block_bytes).for_each(|block| self.draw_block(block, (inputs as f32).sqrt().recip()));
            }
            _ => bytes.as_chunks_mut().0.iter_mut().for_each(|value| *value = 1.0f32.to_le_bytes()),
        }
        Ok(())
    }
}

impl RandomBlocks {
    /// Draws every bit of a block but its half-precision scales, which give the values this root mean square.
    fn draw_block(&mut self, block: &mut [u8], size: f32) {
        self.random.fill(block);
        // Where the scales are. The second is that of the minima, which center the values.
        let scales: &[(usize, f32)] = match self.format {
            WeightFormat::Q5_0 | WeightFormat::Iq4Nl => &[(0, 1.0)],
            WeightFormat::Q5_1 => &[(0, 1.0), (2, -15.5)],
            WeightFormat::Q4K => &[(0, 1.0), (2, 7.5)],
            WeightFormat::Q5K => &[(0, 1.0), (2, 15.5)],
            WeightFormat::Q6K => &[(208, 1.0)],
            other => panic!("where are the scales of {other}?"),
        };
        let set_scales = |block: &mut [u8], factor: f32| {
            scales.iter().for_each(|(at, ratio)| Format::F16.encode_row(&[factor * ratio], &mut block[*at..at + 2]));
        };
        let mut values = vec![0.0; self.format.block().0];
        set_scales(block, 1.0);
        self.format.decode(block, &mut values);
        let mean_square = values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32;
        set_scales(block, size / mean_square.sqrt());
    }
}
