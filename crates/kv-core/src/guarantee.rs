//! The guarantee that a cache makes about its attention.

/// How close a cache's attention is to attention over all appended rows.
///
/// It belongs to the instance, not to the type: the same strategy has different guarantees in `f32` and in 4 bits.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Guarantee {
    /// Equal to recomputation, up to the order of summation.
    Exact,
    /// Every token is attended, but keys and values are rounded.
    Lossy(ErrorBound),
    /// Some tokens are evicted. The remaining ones are exact, or rounded within a bound.
    Evicts(Option<ErrorBound>),
}

/// How far a stored row may be from the appended row: the largest error of any of its values, as a fraction of
/// the largest magnitude in the row, or in all rows that are encoded together with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorBound {
    /// For keys.
    pub keys: f32,
    /// For values.
    pub values: f32,
    /// Consecutive tokens whose keys are encoded together: 1, unless keys have one scale per channel.
    pub key_tokens: usize,
}

impl std::fmt::Display for Guarantee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Guarantee::Exact => f.write_str("exact"),
            Guarantee::Lossy(bound) => write!(f, "lossy ({bound})"),
            Guarantee::Evicts(None) => f.write_str("evicts"),
            Guarantee::Evicts(Some(bound)) => write!(f, "evicts, lossy ({bound})"),
        }
    }
}

impl ErrorBound {
    /// The bound for rows that are encoded one by one.
    pub fn of_rows(keys: f32, values: f32) -> ErrorBound {
        ErrorBound { keys, values, key_tokens: 1 }
    }
}

impl std::fmt::Display for ErrorBound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "K ±{:.2} %, V ±{:.2} %", 100.0 * self.keys, 100.0 * self.values)
    }
}
