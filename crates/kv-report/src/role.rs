//! What a strategy instance is where the best is asked for.

use crate::instances::Instance;

/// What an instance is to the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Cache,
    /// It recomputes, so others' quality is compared with it.
    Reference,
}

/// Only what recomputes is compared with no baseline. In older results nothing is, and the two are not told apart.
pub(crate) fn role(instance: &Instance<'_>, all: &[Instance<'_>]) -> Role {
    let is_compared = |instance: &Instance<'_>| instance.rows.iter().any(|row| row.cell.baseline.is_some());
    let is_reference = !instance.rows.is_empty() && !is_compared(instance) && all.iter().any(is_compared);
    if is_reference { Role::Reference } else { Role::Cache }
}
