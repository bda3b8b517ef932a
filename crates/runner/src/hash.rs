//! Names made of hashes.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// The first 16 hexadecimal digits of the SHA-256 of some bytes.
pub(crate) fn short(bytes: &[u8]) -> String {
    let mut digits = hex(&Sha256::digest(bytes));
    digits.truncate(16);
    digits
}

/// The SHA-256 of everything that a reader gives, in hexadecimal digits.
///
/// # Errors
/// The reader's.
pub(crate) fn of_reader(mut reader: impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// A number from the SHA-256 of some bytes.
pub(crate) fn number(bytes: &[u8]) -> u32 {
    let digest = Sha256::digest(bytes);
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
