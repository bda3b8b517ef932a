//! The numbers of workloads that are scripts of their own: chat, streams, speculation and the others.

use crate::Tolerance;
use crate::metric::{Better, Metric, Unit, count, measured};
use crate::quality_metric::OF_SUMS;

/// A difference of two scores is near zero, where nothing is relative.
const OF_SCORES: Tolerance = Tolerance { absolute: 1e-6, ..OF_SUMS };

/// A number that a workload has at a place of its script: at a turn, a position, a length of a draft. What comes of times differs
/// from machine to machine.
const fn of(id: &'static str, unit: Unit, better: Better, meaning: &'static str) -> Metric {
    match unit {
        Unit::Milliseconds | Unit::TokensPerSecond | Unit::Ratio => measured(id, unit, better, meaning),
        Unit::Nats | Unit::Perplexity => Metric { tolerance: Some(OF_SCORES), ..count(id, unit, better, meaning) },
        _ => count(id, unit, better, meaning),
    }
}

/// All of them.
pub const WORKLOAD_METRICS: &[Metric] = &[
    of(
        "ttft_ms",
        Unit::Milliseconds,
        Better::Lower,
        "Time from a message or a question to the first token of its answer, in the middle of the users: what must be computed of the history is part of it.",
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
        "Time of all work from the start to the end of this turn, question or label, prompts included.",
    ),
    // A count, of what comes of times.
    Metric {
        tolerance: None,
        ..of(
            "break_even_turn",
            Unit::Count,
            Better::Lower,
            "The first turn at whose end this way has taken no more time in all than the way it is set beside; absent if there is none.",
        )
    },
    of(
        "edit_ttft_ms",
        Unit::Milliseconds,
        Better::Lower,
        "Time from an edited message to its first token: later turns are taken back, and the message is computed.",
    ),
    of("heap_bytes", Unit::Bytes, Better::Lower, "Live heap bytes of the cache there, all sequences together, counted by the allocator."),
    of("label_ms", Unit::Milliseconds, Better::Lower, "Time to score a label, in the middle of the labels."),
    of(
        "label_ratio",
        Unit::Ratio,
        Better::Lower,
        "label_ms in a fork of the prefix over that with the prefix computed again, paired within a round.",
    ),
    of(
        "score_error",
        Unit::Nats,
        Better::Lower,
        "The largest difference between a label's score in a fork and its score with everything computed again, in nats.",
    ),
    of("same_best_label", Unit::Share, Better::Higher, "1 if both ways score the same label highest, and 0 if not."),
    of("step_ms", Unit::Milliseconds, Better::Lower, "Time of a step of the decoder: the cache's, and of what is computed again."),
    of(
        "step_ratio",
        Unit::Ratio,
        Better::Lower,
        "The median step_ms with the encoder's keys and values kept over that with them computed again, paired within a round.",
    ),
    of("encoder_ms", Unit::Milliseconds, Better::Lower, "The cache's time to take the encoder's keys and values."),
    of(
        "read_error",
        Unit::Ratio,
        Better::Lower,
        "Relative L2 error of what the last step reads of the encoder, over all layers, against dense attention over its rows as they were.",
    ),
    of("encoder_heap_bytes", Unit::Bytes, Better::Lower, "Heap bytes that the encoder's keys and values added."),
    of("decoder_heap_bytes", Unit::Bytes, Better::Lower, "Heap bytes that the decoder's own keys and values added."),
    of("running", Unit::Count, Better::Higher, "Sequences in the step."),
    of("running_most", Unit::Count, Better::Higher, "The most sequences that took a step together."),
    of("running_mean", Unit::Count, Better::Higher, "The mean over the steps of the sequences in them."),
    of(
        "served_tokens_per_s",
        Unit::TokensPerSecond,
        Better::Higher,
        "Tokens of all outputs over the cache's time: prompts, those that were computed again, and steps.",
    ),
    of(
        "waste",
        Unit::Share,
        Better::Lower,
        "Of the bytes in block tables and reservations of running sequences, the share that no token fills: the mean over the steps. Tables themselves and free pages of a pool are not among them.",
    ),
    of(
        "free_pool_bytes",
        Unit::Bytes,
        Better::Lower,
        "Bytes that belong to no sequence, as free pages of a pool: the mean over the steps.",
    ),
    of("requests", Unit::Count, Better::Neither, "Requests in all."),
    of("served", Unit::Count, Better::Higher, "Requests that were served to the end."),
    of("refused", Unit::Count, Better::Lower, "Requests that can never fit: into the memory, the most tokens of a request or the cache."),
    of("preempted", Unit::Count, Better::Lower, "Times that a sequence was closed for want of memory, to be computed again later."),
    of("steps", Unit::Count, Better::Lower, "Steps until all requests were served."),
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
pub fn workload_metric(id: &str) -> Option<&'static Metric> {
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
