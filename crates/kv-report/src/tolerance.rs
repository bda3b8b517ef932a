//! How far two measurements of the same may be apart.

/// How far two values may be apart that should be the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// As a share of the larger one.
    pub relative: f64,
    /// In the unit of the metric, beside that.
    pub absolute: f64,
}

impl Tolerance {
    /// What is counted is the same everywhere.
    pub const EXACT: Tolerance = Tolerance { relative: 0.0, absolute: 0.0 };

    /// Whether two values are the same but for the tolerance.
    pub fn covers(self, one: f64, other: f64) -> bool {
        (one - other).abs() <= self.absolute + self.relative * one.abs().max(other.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{METRICS, metric};

    #[test]
    fn what_does_not_depend_on_the_machine_is_the_same_everywhere() {
        for metric in METRICS.iter().filter(|metric| !metric.machine_bound) {
            assert_eq!(metric.tolerance, Some(Tolerance::EXACT), "{}", metric.id);
        }
        let free = |id: &str| metric(id).unwrap().tolerance.is_none();
        assert!(free("tpot_ms_p50") && free("rss_bytes") && free("heap_peak_bytes") && free("tpot_ratio"));
        let near = Tolerance { relative: 0.1, absolute: 0.5 };
        assert!(near.covers(0.2, 0.7) && near.covers(-20.0, -22.0) && near.covers(-0.25, 0.25));
        assert!(!near.covers(20.0, 22.8) && !Tolerance::EXACT.covers(1.0, 1.0 + f64::EPSILON) && Tolerance::EXACT.covers(3.0, 3.0));
        assert!(!near.covers(f64::NAN, f64::NAN));
    }
}
