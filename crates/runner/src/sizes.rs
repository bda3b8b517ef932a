//! Sizes as people write them.

/// How sizes are written.
pub(crate) const UNITS: &str = "a number with a unit: KiB, MiB, GiB or TiB, in these letters";

/// "8 GiB" in bytes.
///
/// # Errors
/// What is wrong with the text: the end of a sentence about it.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, &'static str> {
    const NO_SIZE: &str = "is not a size";
    /// 2⁶⁴, which no number of bytes reaches.
    const END: f64 = 18_446_744_073_709_551_616.0;
    let text = text.trim();
    let unit = text.find(|character: char| !character.is_ascii_digit() && character != '.').ok_or(NO_SIZE)?;
    let number: f64 = text[..unit].parse().map_err(|_| NO_SIZE)?;
    let factor = match text[unit..].trim() {
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(NO_SIZE),
    };
    let bytes = number * (1u64 << factor) as f64;
    if bytes < END { Ok(bytes as u64) } else { Err("is more bytes than fit into 64 bits") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("8 GiB", Ok(8u64 << 30)),
            ("1.5MiB", Ok(3 << 19)),
            ("512 KiB", Ok(512 << 10)),
            ("16777215 TiB", Ok(16_777_215 << 40)),
            ("16777216 TiB", Err("is more bytes than fit into 64 bits")),
            ("99999999999999TiB", Err("is more bytes than fit into 64 bits")),
            ("8", Err("is not a size")),
            ("8 GB", Err("is not a size")),
            ("8gib", Err("is not a size")),
            ("", Err("is not a size")),
            ("GiB", Err("is not a size")),
            ("-1 GiB", Err("is not a size")),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
    }
}
