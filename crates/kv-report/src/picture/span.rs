//! An axis for plotters.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::chart::{Axis, Scale};
use crate::style::{log_ticks, tick_text};

/// An axis for plotters: its extent, and ticks at the `wanted` values or at round values.
pub(super) struct Span {
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Span {
    pub(super) fn new(axis: &Axis, low: f64, high: f64, wanted: &[f64]) -> Span {
        let scale = axis.scale;
        match scale {
            Scale::Linear => {
                let high = if high > 0.0 { high * 1.03 } else { 1.0 };
                Span { scale, low: 0.0, high, ticks: linear_ticks(high) }
            }
            Scale::Log => {
                let (low, high) = (low * 0.85, high * 1.18);
                let ticks = if wanted.is_empty() { log_ticks(low, high) } else { wanted.to_vec() };
                Span { scale, low, high, ticks }
            }
        }
    }

    /// Position of a value between the two ends, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        }
    }
}

impl Ranged for Span {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + (f64::from(to - from) * self.share(*value)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Span {
    fn format_ext(&self, value: &f64) -> String {
        tick_text(*value)
    }
}

fn linear_ticks(high: f64) -> Vec<f64> {
    let rough = high / 8.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= rough).unwrap_or(rough);
    (0..).map(|tick| f64::from(tick) * step).take_while(|tick| *tick <= high).collect()
}
