//! Colors, dashes and ticks, shared by both renderers.

/// The palette of Okabe and Ito, distinguishable with any color vision, without its yellow (too pale on white).
const COLOURS: [(u8, u8, u8); 7] = [(0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0), (0, 0, 0)];

/// The color of the line that joins the best points.
pub(crate) const FRONT: (u8, u8, u8) = (120, 120, 120);

/// The color of a series.
pub(crate) fn colour(style: usize) -> (u8, u8, u8) {
    COLOURS[style % COLOURS.len()]
}

/// The shape of a marker, which identifies a series in print and for color-blind readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    Circle,
    Square,
    TriangleUp,
    Diamond,
    Cross,
}

/// The marker of a series. With five markers and seven colors, 35 series have distinct pairs.
pub(crate) fn marker(style: usize) -> Marker {
    [Marker::Circle, Marker::Square, Marker::TriangleUp, Marker::Diamond, Marker::Cross][style % 5]
}

/// Round values that cover a logarithmic axis: 1, 2, 5, 10, …, or only powers of ten over many decades. Where these are fewer
/// than four, values at equal distances.
pub(crate) fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let decades = (high / low).log10();
    let steps: &[f64] = if decades > 4.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let first = low.log10().floor() as i32;
    let last = high.log10().ceil() as i32;
    let all = (first..=last).flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
    let ticks: Vec<f64> = all.filter(|tick| *tick >= low * 0.999 && *tick <= high * 1.001).collect();
    if ticks.len() < 4 { even_ticks(low, high) } else { ticks }
}

/// Multiples of a round step, four to ten of them.
fn even_ticks(low: f64, high: f64) -> Vec<f64> {
    let power = 10f64.powf(((high - low) / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| (high - low) / step <= 8.0);
    let step = step.unwrap_or(high - low);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    let decimals = (-power.log10()).round().max(0.0) as usize;
    // A multiple of 0.01 is not the number that is written so.
    (first..=last).filter_map(|index| format!("{:.decimals$}", index as f64 * step).parse().ok()).collect()
}

/// A tick's label: no exponent from a thousandth on, no trailing zeros, thousands separated.
pub(crate) fn tick_text(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if value.abs() < 1e-3 {
        return format!("{value:.1e}").replace(".0e", "e");
    }
    let decimals = (-value.abs().log10().floor()).max(0.0) as usize;
    let text = format!("{value:.*}", if value.abs() >= 10.0 { 0 } else { decimals + 2 });
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    match text.len() {
        5.. if !text.contains('.') => format!("{} {}", &text[..text.len() - 3], &text[text.len() - 3..]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(log_ticks(0.9, 12.0), [1.0, 2.0, 5.0, 10.0]);
        assert_eq!(log_ticks(0.001, 1e4).len(), 8);
        assert_eq!(
            log_ticks(0.58, 1.36).into_iter().map(tick_text).collect::<Vec<_>>(),
            ["0.6", "0.7", "0.8", "0.9", "1", "1.1", "1.2", "1.3"]
        );
        assert_eq!(
            log_ticks(0.97, 1.03).into_iter().map(tick_text).collect::<Vec<_>>(),
            ["0.97", "0.98", "0.99", "1", "1.01", "1.02", "1.03"]
        );
    }

    #[test]
    fn tick_texts() {
        let texts = [0.05, 0.5, 1.5, 2.0, 128.0, 4096.0, 16384.0, 0.0].map(tick_text);
        assert_eq!(texts, ["0.05", "0.5", "1.5", "2", "128", "4096", "16 384", "0"]);
        assert_eq!([1e-9, 5.0 * 1e-5, 1e-3, 0.00025].map(tick_text), ["1e-9", "5e-5", "0.001", "2.5e-4"]);
    }
}
