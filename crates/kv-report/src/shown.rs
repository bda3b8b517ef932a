//! Numbers as people read them.

use crate::{Metric, Unit, Value};

/// A number of a metric, with the unit of bytes.
pub(crate) fn shown(metric: &Metric, number: f64) -> String {
    match metric.unit {
        Unit::Bytes => bytes(number),
        _ if number.fract() == 0.0 => format!("{number}"),
        _ => short(number),
    }
}

/// Bytes in the largest binary unit up to MiB that makes them more than 1.
pub(crate) fn bytes(number: f64) -> String {
    const KIB: f64 = 1024.0;
    match number.abs() {
        size if size >= KIB * KIB => format!("{:.2} MiB", number / KIB / KIB),
        size if size >= KIB => format!("{:.2} KiB", number / KIB),
        _ => format!("{number} B"),
    }
}

/// Some three digits of a number, and at least two.
pub(crate) fn short(number: f64) -> String {
    match number.abs() {
        0.0 => "0".into(),
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 1.0 => format!("{number:.2}"),
        size if size >= 1e-3 => format!("{number:.4}"),
        size if size >= 1e-4 => format!("{number:.5}"),
        _ => format!("{number:.1e}"),
    }
}

/// A name that is cut if it is very long.
pub(crate) fn shortened(name: &str) -> String {
    const MOST: usize = 48;
    if name.chars().count() <= MOST { name.into() } else { name.chars().take(MOST - 1).chain(['…']).collect() }
}

/// A value with its interval, if it has one: "1.23 [1.10, 1.38]".
pub(crate) fn with_interval(value: &Value) -> String {
    match value.interval {
        Some((low, high)) => format!("{} [{}, {}]", short(value.value), short(low), short(high)),
        None => short(value.value),
    }
}

/// A number beside another one: whole numbers whole, and others with six digits, or with all if the two looked alike.
pub(crate) fn exact(number: f64, other: f64) -> String {
    let rounded = |number: f64| {
        let digits = 5 - number.abs().log10().floor().clamp(-300.0, 5.0) as i32;
        if number.abs() < 1e-4 { format!("{number:.5e}") } else { format!("{number:.0$}", digits as usize) }
    };
    if number.fract() == 0.0 || (number != other && rounded(number) == rounded(other)) { format!("{number}") } else { rounded(number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_their_unit_and_large_numbers_no_decimals() {
        let shown = |id, number| shown(crate::metric(id).unwrap(), number);
        assert_eq!(["512 B", "1.50 KiB", "2.00 MiB"], [512.0, 1536.0, 2097152.0].map(|bytes| shown("heap_live_bytes", bytes)));
        assert_eq!(["0.1235", "1.23", "123", "3"], [0.12345, 1.2345, 123.45, 3.0].map(|ms| shown("ttft_ms", ms)));
    }

    #[test]
    fn a_number_beside_another_one_does_not_look_like_it() {
        let shown = [(1048576.0, 1.0), (0.1234567, 0.2), (1234.5678, 9.0), (0.12345671, 0.12345672), (3.25e-11, 0.0), (1e9 + 0.5, 0.0)];
        let shown = shown.map(|(number, other)| exact(number, other));
        assert_eq!(shown, ["1048576", "0.123457", "1234.57", "0.12345671", "3.25000e-11", "1000000000"]);
    }

    #[test]
    fn small_numbers_keep_two_digits() {
        assert_eq!(["0.0012", "0.00042", "4.2e-5", "3.2e-11", "0"], [1.2e-3, 4.2e-4, 4.2e-5, 3.2e-11, 0.0].map(short));
    }
}
