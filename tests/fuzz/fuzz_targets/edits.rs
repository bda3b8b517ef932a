//! Small changes of a file that can be read.

/// Replaces stretches of a file by others of it, or by bytes of the instructions.
pub fn edited(mut file: Vec<u8>, instructions: &[u8]) -> Vec<u8> {
    for instruction in instructions.chunks_exact(6).take(8) {
        let [to, to_high, from, from_high, len, own] = *instruction else { break };
        let place = |low: u8, high: u8| usize::from(u16::from_le_bytes([low, high])) % file.len().max(1);
        let (to, from, len) = (place(to, to_high), place(from, from_high), usize::from(len % 64));
        let copied = match own % 3 {
            0 => vec![own],
            _ => file[from.min(file.len())..(from + len).min(file.len())].to_vec(),
        };
        file.splice(to.min(file.len())..(to + usize::from(own % 16)).min(file.len()), copied);
    }
    file
}
