//! Errors of evaluations on rows.

/// Rows that cannot be compared.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QualityError {
    /// Two sets of rows differ in shape.
    #[error("the candidate's {what} have shape {candidate:?}, the reference's {reference:?}")]
    Shape {
        /// Which rows.
        what: &'static str,
        /// Of the reference, `[tokens, heads, dim]`.
        reference: [usize; 3],
        /// Of the candidate, `[tokens, heads, dim]`.
        candidate: [usize; 3],
    },
    /// There is no such layer.
    #[error("layer {layer} is not among {layers} layers")]
    Layer {
        /// The layer.
        layer: usize,
        /// Layers.
        layers: usize,
    },
    /// A value is infinite or not a number.
    #[error("{what} of layer {layer} hold {value}, which is not finite")]
    NotFinite {
        /// Which rows.
        what: &'static str,
        /// The layer.
        layer: usize,
        /// The value.
        value: f32,
    },
    /// The reference ends too early.
    #[error("the reference holds {held} positions, and {needed} are needed")]
    TooShort {
        /// Positions of the reference.
        held: usize,
        /// Positions needed.
        needed: usize,
    },
    /// A cache shows another number of rows than it names positions.
    #[error("the cache's view of layer {layer} names {positions} positions and has {values} values in its {what}")]
    View {
        /// The layer.
        layer: usize,
        /// Which rows.
        what: &'static str,
        /// Positions.
        positions: usize,
        /// Values of their rows.
        values: usize,
    },
    /// No weight is the largest of none.
    #[error("`top_k` is 0: at least the position with the largest weight is looked for")]
    TopK,
}

/// An evaluation that failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError<E> {
    /// The source's error, or the cache's.
    #[error(transparent)]
    Source(E),
    /// Rows that cannot be compared.
    #[error(transparent)]
    Quality(#[from] QualityError),
}
