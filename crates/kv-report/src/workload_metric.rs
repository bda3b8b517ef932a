//! The numbers of workloads that are scripts of their own: chat, streams, speculation and the others.

use crate::metric::{Better, Unit};

/// A number that a workload has at a place of its script: at a turn, a position, a length of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkloadMetric {
    /// The name, with its unit: the column `metric` of `workload.csv`.
    pub id: &'static str,
    /// The unit of its values.
    pub unit: Unit,
    /// The direction in which a strategy improves.
    pub better: Better,
    /// The meaning.
    pub meaning: &'static str,
}

impl WorkloadMetric {
    /// Whether it comes of times, and differs from machine to machine.
    pub fn is_timed(&self) -> bool {
        matches!(self.unit, Unit::Milliseconds | Unit::TokensPerSecond | Unit::Ratio)
    }
}

const fn of(id: &'static str, unit: Unit, better: Better, meaning: &'static str) -> WorkloadMetric {
    WorkloadMetric { id, unit, better, meaning }
}

/// All of them.
pub const WORKLOAD_METRICS: &[WorkloadMetric] = &[
    of(
        "ttft_ms",
        Unit::Milliseconds,
        Better::Lower,
        "Time from a message to the first token of its answer, in the middle of the users: what must be computed of the history is part of it.",
    ),
    of(
        "ttft_ratio",
        Unit::Ratio,
        Better::Lower,
        "ttft_ms of this way of doing the work over that of the way it is set beside, paired within a round.",
    ),
    of(
        "cumulative_ms",
        Unit::Milliseconds,
        Better::Lower,
        "Time of all users together from the start to the end of this turn, prompts and answers.",
    ),
    of(
        "break_even_turn",
        Unit::Count,
        Better::Lower,
        "The first turn at whose end this way has taken no more time in all than the way it is set beside; absent if there is none.",
    ),
    of(
        "edit_ttft_ms",
        Unit::Milliseconds,
        Better::Lower,
        "Time from an edited message to its first token: later turns are taken back, and the message is computed.",
    ),
    of("heap_bytes", Unit::Bytes, Better::Lower, "Live heap bytes of the cache there, all sequences together, counted by the allocator."),
    of("heap_bytes_per_user", Unit::Bytes, Better::Lower, "heap_bytes over the number of users."),
    of(
        "tpot_ms",
        Unit::Milliseconds,
        Better::Lower,
        "Time of a single step there: the median of those before this depth. The first of them does not count.",
    ),
    of(
        "tpot_growth",
        Unit::Ratio,
        Better::Lower,
        "tpot_ms at the last depth over that at the first, paired within a round: 1 where time per token is flat.",
    ),
    of(
        "ppl",
        Unit::Perplexity,
        Better::Lower,
        "Perplexity of the text's tokens between the depth before and this one, each predicted by the model with this cache from those before it.",
    ),
    of(
        "ppl_within_context",
        Unit::Perplexity,
        Better::Lower,
        "Perplexity of the tokens that follow the first ones, as many as the model has positions.",
    ),
    of("ppl_beyond_context", Unit::Perplexity, Better::Lower, "Perplexity of the tokens that follow all later ones."),
    of(
        "cost_ms",
        Unit::Milliseconds,
        Better::Lower,
        "Time per token written: of all steps, and of taking rejected tokens back. What a draft model itself would cost is not included.",
    ),
    of(
        "speedup",
        Unit::Ratio,
        Better::Higher,
        "cost_ms of plain decoding over that with drafts, paired within a round: above 1, drafts pay.",
    ),
    of(
        "accepted_share",
        Unit::Share,
        Better::Neither,
        "Drafted tokens that were accepted, of those up to the first wrong one of each draft: near p, unless the text becomes another one.",
    ),
    of("tokens_per_step", Unit::Tokens, Better::Higher, "Tokens written per step, the model's own included."),
];

/// The metric with an id.
pub fn workload_metric(id: &str) -> Option<&'static WorkloadMetric> {
    WORKLOAD_METRICS.iter().find(|metric| metric.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_meanings_are_sentences() {
        for (index, metric) in WORKLOAD_METRICS.iter().enumerate() {
            assert!(WORKLOAD_METRICS[..index].iter().all(|other| other.id != metric.id), "{}", metric.id);
            assert!(metric.meaning.ends_with('.') && workload_metric(metric.id) == Some(metric));
        }
    }
}
