//! The metrics of quality: what a cache does to attention, and to what a model says.

use crate::{Better, Metric, Tolerance, Unit};

/// Kernels of another instruction set add in another order. Between AVX2 and plain arrays that changes errors and divergences of
/// 8-bit rows by 0.03 % at most, and perplexities by 0.007 % (`crates/runner/tests/cli/kernel_paths.rs` holds every path against
/// the plain one).
pub(crate) const OF_SUMS: Tolerance = Tolerance { relative: 1e-3, absolute: 1e-9 };
/// A difference of two perplexities is as exact as they are.
const OF_A_DIFFERENCE: Tolerance = Tolerance { absolute: 1e-2, ..OF_SUMS };

/// A number of one token, or of few: what a mean takes out stays in it.
const OF_AN_EXTREME: Tolerance = Tolerance { relative: 5e-2, ..OF_SUMS };
/// A place that is counted in tokens: what is nearly tied may come out one token later.
const OF_A_PLACE: Tolerance = Tolerance { relative: 0.0, absolute: 1.0 };

/// Another number whose last digits depend on the machine.
const fn measured(id: &'static str, unit: Unit, better: Better, meaning: &'static str) -> Metric {
    Metric { id, unit, better, machine_bound: true, tolerance: Some(OF_SUMS), meaning }
}

/// How far a perplexity lies from the exact cache's.
const fn perplexity_delta(id: &'static str, meaning: &'static str) -> Metric {
    Metric { tolerance: Some(OF_A_DIFFERENCE), ..measured(id, Unit::Perplexity, Better::Lower, meaning) }
}

const fn ratio(id: &'static str, meaning: &'static str) -> Metric {
    measured(id, Unit::Ratio, Better::Lower, meaning)
}

const fn share(id: &'static str, meaning: &'static str) -> Metric {
    measured(id, Unit::Share, Better::Higher, meaning)
}

/// A divergence of the tokens where it is largest.
const fn extreme(id: &'static str, meaning: &'static str) -> Metric {
    Metric { tolerance: Some(OF_AN_EXTREME), ..nats(id, meaning) }
}

/// Where something happens, in tokens.
const fn place(id: &'static str, meaning: &'static str) -> Metric {
    Metric { tolerance: Some(OF_A_PLACE), ..measured(id, Unit::Tokens, Better::Higher, meaning) }
}

/// How much was judged, which the config says.
const fn amount(id: &'static str, unit: Unit, meaning: &'static str) -> Metric {
    Metric { tolerance: Some(Tolerance::EXACT), ..measured(id, unit, Better::Neither, meaning) }
}

const fn nats(id: &'static str, meaning: &'static str) -> Metric {
    measured(id, Unit::Nats, Better::Lower, meaning)
}

/// Every metric of quality. Sums depend on the order in which a machine adds, so their last digits do.
pub(crate) const QUALITY_METRICS: [Metric; 49] = [
    ratio(
        "attn_rel_l2",
        "relative L2 error of attention's outputs against dense attention over all rows ever appended: the root of the sum of squared differences over that of squared outputs, over all layers, heads and steps. The interval is over sequences: the windows of the text, or 4 generated ones; none with one",
    ),
    share("attn_cosine", "mean cosine between those outputs and the dense ones"),
    ratio("key_rel_l2", "relative L2 error of the decoded keys that the cache holds"),
    ratio("value_rel_l2", "relative L2 error of the decoded values that the cache holds"),
    share(
        "retained_mass",
        "share of exact attention that falls on the positions that the cache holds. The interval is over sequences, as that of attn_rel_l2",
    ),
    share("topk_recall", "share of the 32 positions with the largest exact attention that the cache holds"),
    share(
        "needle_acc",
        "planted retrieval: share of needles, spread over all depths, whose word is next to attention's output; 1 with an exact cache, by construction. The interval is over needles, each with keys, decoys and a place of its own (Wilson)",
    ),
    share("needle_acc_dense", "the same of an exact f32 cache, fed the same rows"),
    share(
        "needle_acc_tight",
        "the same of the needles with the smallest margin over their decoys, 2 logits: the first that rounding hides",
    ),
    share("recency_acc", "planted retrieval: share of needles found among the newest tokens: what was said last"),
    share("start_acc", "planted retrieval: share of needles found among the first 4 tokens: what sinks keep"),
    measured("needle_chance", Unit::Share, Better::Neither, "the share that answers at random would get right"),
    measured(
        "ppl",
        Unit::Perplexity,
        Better::Lower,
        "prompt exact: perplexity of the text's next tokens, each read from a cache that holds the exactly computed tokens before seq_len and its own after it",
    ),
    measured("ppl_reference", Unit::Perplexity, Better::Neither, "the perplexity with an exact f32 cache, in the same steps"),
    perplexity_delta(
        "ppl_delta",
        "ppl beyond ppl_reference, with a paired error over the windows of the text. All intervals of what a model says are over windows; none with one",
    ),
    nats("kld_mean", "prompt exact: mean KL divergence of the next token's distribution from that with an exact f32 cache, in nats"),
    nats("kld_median", "prompt exact: its median over tokens"),
    nats(
        "kld_p99",
        "prompt exact: its 99th percentile; none with fewer than 200 tokens, and no interval where its upper end would lie beyond what was seen",
    ),
    extreme("kld_p999", "prompt exact: its 99.9th percentile; none with fewer than 3000 tokens"),
    extreme("kld_max", "prompt exact: its largest value"),
    // The noise of threads, of which machines have different numbers.
    Metric {
        tolerance: None,
        ..measured(
            "kld_floor",
            Unit::Nats,
            Better::Neither,
            "mean KL divergence of an exact f32 cache from itself on another number of threads, over the first 256 tokens of the text, fed in chunks, and 16 steps after the prompt: sums in another order. Below it nothing can be told; 0 if no difference was seen",
        )
    },
    share("same_top1", "prompt exact: share of tokens whose most likely next token is that of the exact cache"),
    share("tied_top1", "prompt exact: share of tokens whose most likely next token differs between logits that are tied"),
    ratio("p_rms", "prompt exact: root of the mean squared change of the right next token's probability"),
    place(
        "first_difference_tokens",
        "prompt exact: tokens until the most likely next token first differs, in the window where that is soonest; none if it never does",
    ),
    nats("tail_kld_mean", "prompt exact: kld_mean of the last quarter of the steps"),
    amount("quality_windows", Unit::Count, "windows of the text"),
    amount("quality_tokens", Unit::Tokens, "tokens that were judged, prompt exact"),
    measured(
        "streamed_ppl",
        Unit::Perplexity,
        Better::Lower,
        "streamed: perplexity of the text with a cache that holds it from its first token, fed in small chunks",
    ),
    measured("streamed_ppl_reference", Unit::Perplexity, Better::Neither, "the same with an exact f32 cache, in the same steps"),
    perplexity_delta("streamed_ppl_delta", "streamed_ppl beyond streamed_ppl_reference"),
    nats("streamed_kld_mean", "streamed: mean KL divergence from an exact f32 cache in the same steps"),
    nats("streamed_kld_p99", "streamed: its 99th percentile, as kld_p99"),
    share("streamed_same_top1", "streamed: share of tokens whose most likely next token is that of the exact cache"),
    nats("streamed_tail_kld_mean", "streamed: streamed_kld_mean of the last quarter of the text"),
    amount("streamed_chunk_tokens", Unit::Tokens, "streamed: tokens of a step, which see each other unrounded"),
    nats("streamed_kld_median", "streamed: its median over tokens"),
    extreme("streamed_kld_p999", "streamed: its 99.9th percentile; none with fewer than 3000 tokens"),
    extreme("streamed_kld_max", "streamed: its largest value"),
    share("streamed_tied_top1", "streamed: share of tokens whose most likely next token differs between logits that are tied"),
    ratio("streamed_p_rms", "streamed: root of the mean squared change of the right next token's probability"),
    place(
        "streamed_first_difference_tokens",
        "streamed: tokens of the text until the most likely next token first differs, in the window where that is soonest; none if it never does",
    ),
    amount("streamed_tokens", Unit::Tokens, "tokens that were judged, streamed"),
    share(
        "model_needle_acc",
        "recall: share of the numbers stated in sentences all over a text of up to seq_len tokens that the model, asked with the beginning of the sentence, gives by greedy decoding, from a cache that holds the exactly computed text; the interval takes the answers for independent",
    ),
    share("model_needle_acc_dense", "the same with an exact f32 cache, in the same steps: what the model can do at all"),
    amount("model_needle_questions", Unit::Count, "recall: questions about sentences"),
    share(
        "lookup_acc",
        "recall: share of the numbers that the model gives likewise, where the text is nothing but lines of a name and a number",
    ),
    share("lookup_acc_dense", "the same with an exact f32 cache, in the same steps: what the model can do at all"),
    amount("lookup_questions", Unit::Count, "recall: questions about lines"),
];
