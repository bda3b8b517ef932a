//! ggml's tensor encodings to `f32` (`dequantize_row_*` in `ggml-quants.c`).

use half::{bf16, f16};
use rayon::prelude::*;

use crate::gguf::{TensorInfo, TensorType};

/// A tensor's values in row-major order.
pub fn decode(tensor: &TensorInfo<'_>) -> Vec<f32> {
    let (block_values, block_bytes) = tensor.tensor_type.block();
    let blocks = tensor.bytes.len() / block_bytes;
    let mut values = vec![0.0; blocks * block_values];
    // One task for a few thousand blocks: a block alone is too little work.
    const BLOCKS: usize = 4096;
    let tasks = values.par_chunks_mut(BLOCKS * block_values).zip(tensor.bytes.par_chunks(BLOCKS * block_bytes));
    tasks.for_each(|(values, bytes)| {
        for (values, bytes) in values.chunks_exact_mut(block_values).zip(bytes.chunks_exact(block_bytes)) {
            decode_block(tensor.tensor_type, bytes, values);
        }
    });
    values
}

fn decode_block(tensor_type: TensorType, bytes: &[u8], values: &mut [f32]) {
    let f16_at = |at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32();
    match tensor_type {
        TensorType::F32 => values[0] = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        TensorType::F16 => values[0] = f16_at(0),
        TensorType::Bf16 => values[0] = bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
        TensorType::Q8_0 => {
            let scale = f16_at(0);
            for (value, code) in values.iter_mut().zip(&bytes[2..]) {
                *value = scale * f32::from(code.cast_signed());
            }
        }
        TensorType::Q4_0 => {
            let scale = f16_at(0);
            nibbles(&bytes[2..], values, |code| scale * (code - 8.0));
        }
        TensorType::Q4_1 => {
            let (scale, minimum) = (f16_at(0), f16_at(2));
            nibbles(&bytes[4..], values, |code| scale * code + minimum);
        }
    }
}

/// The low nibbles are the block's first half, the high ones its second.
fn nibbles(codes: &[u8], values: &mut [f32], decode: impl Fn(f32) -> f32) {
    let (low, high) = values.split_at_mut(codes.len());
    for ((low, high), code) in low.iter_mut().zip(high).zip(codes) {
        *low = decode(f32::from(code & 0x0F));
        *high = decode(f32::from(code >> 4));
    }
}
