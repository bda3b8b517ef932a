//! A value with the interval that it lies in.

use crate::Value;

/// A value and where it lies with 95 %. A value without an interval counts as exact.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// `None` for a value that is not finite.
    pub(crate) fn of(value: &Value) -> Option<Spread> {
        Spread::new(value.value, value.interval)
    }

    /// As [`of`](Spread::of).
    pub(crate) fn new(value: f64, interval: Option<(f64, f64)>) -> Option<Spread> {
        let (low, high) = interval.unwrap_or((value, value));
        value.is_finite().then_some(Spread { value, low: low.min(value), high: high.max(value) })
    }

    /// With nothing below a floor.
    pub(crate) fn at_least(self, floor: f64) -> Spread {
        let Spread { value, low, high } = self;
        Spread { value: value.max(floor), low: low.max(floor), high: high.max(floor) }
    }

    /// Whether it is less, and the intervals show it.
    pub(crate) fn is_below(&self, other: &Spread) -> bool {
        self.high < other.low
    }

    /// Whether the intervals do not tell the two apart.
    pub(crate) fn overlaps(&self, other: &Spread) -> bool {
        !self.is_below(other) && !other.is_below(self)
    }

    /// Its ends, if they are two.
    pub(crate) fn interval(&self) -> Option<(f64, f64)> {
        (self.low < self.high).then_some((self.low, self.high))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_intervals_that_are_apart_tell_values_apart() {
        let spread = |value: f64, low: f64, high: f64| Spread::new(value, Some((low, high))).unwrap();
        assert!(spread(1.0, 0.5, 1.5).is_below(&spread(2.0, 1.75, 2.5)));
        assert!(spread(1.0, 0.5, 1.5).overlaps(&spread(2.0, 1.5, 2.5)));
        let exact = Spread::of(&Value::from(1.0)).unwrap();
        assert_eq!((exact.interval(), exact.overlaps(&exact)), (None, true));
        assert_eq!(Spread::of(&Value::from(f64::NAN)), None);
        assert_eq!(spread(1e-12, -1.0, 2e-12).at_least(1e-9), Spread { value: 1e-9, low: 1e-9, high: 1e-9 });
    }
}
