//! What reading a text comes to, under the ids of its metrics.

use kv_quality::{Estimate, Statistics, Summary};
use kv_report::{Part, Protocol, QualityPoint, Visit};

/// Writes down what a protocol found: of the whole text among the visit's values, and of its parts among its points.
pub(super) fn add(visit: &mut Visit, protocol: Protocol, summary: &Summary) {
    let all = &summary.overall;
    let prefix = if protocol == Protocol::Streamed { "streamed_" } else { "" };
    let tail = summary.tail.iter().map(|tail| ("tail_kld_mean", tail.kl_mean));
    for (id, estimate) in numbers(all).into_iter().chain(tail) {
        put(visit, &format!("{prefix}{id}"), estimate);
    }
    let first = summary.first_differences.iter().filter_map(|difference| difference.depth).min();
    visit.values.extend(first.map(|depth| (format!("{prefix}first_difference_tokens"), depth as f64)));
    visit.values.insert("quality_windows".into(), all.windows as f64);
    let tokens = if protocol == Protocol::Streamed { "streamed_tokens" } else { "quality_tokens" };
    visit.values.insert(tokens.into(), all.tokens as f64);

    let depths = summary.depths.iter().map(|depth| (Part::Depth { from: depth.depths.start, to: depth.depths.end }, &depth.statistics));
    let tail = summary.tail.iter().map(|statistics| (Part::Tail, statistics));
    for (part, statistics) in depths.chain(tail) {
        let points = numbers(statistics).into_iter().filter(|(_, estimate)| estimate.value.is_finite());
        visit.quality.extend(points.map(|(metric, estimate)| QualityPoint {
            protocol,
            part: part.clone(),
            metric: metric.into(),
            value: estimate.value,
            interval: finite(estimate.interval),
            count: statistics.tokens,
        }));
    }
}

/// Every number of some statistics, under the id that its metric has without the prefix of a protocol.
fn numbers(of: &Statistics) -> Vec<(&'static str, Estimate)> {
    let largest = Estimate { value: of.kl_max, standard_error: None, interval: None };
    let always = [
        ("ppl", of.perplexity),
        ("ppl_reference", of.reference_perplexity),
        ("ppl_delta", of.perplexity_delta),
        ("kld_mean", of.kl_mean),
        ("kld_median", of.kl_median),
        ("kld_max", largest),
        ("same_top1", of.same_top1),
        ("tied_top1", of.tied_top1),
        ("p_rms", of.probability_rms),
    ];
    let with_tokens_enough = [("kld_p99", of.kl_p99), ("kld_p999", of.kl_p999)];
    always.into_iter().chain(with_tokens_enough.into_iter().filter_map(|(id, estimate)| Some((id, estimate?)))).collect()
}

/// Writes a number of the whole text down.
fn put(visit: &mut Visit, id: &str, estimate: Estimate) {
    if !estimate.value.is_finite() {
        visit.notes.push(format!("`{id}` is too large to be counted"));
        return;
    }
    visit.values.insert(id.to_owned(), estimate.value);
    visit.intervals.extend(finite(estimate.interval).map(|interval| (id.to_owned(), interval)));
}

/// An interval with two ends. That of a perplexity may reach beyond all counting.
fn finite(interval: Option<(f64, f64)>) -> Option<(f64, f64)> {
    interval.filter(|(low, high)| low.is_finite() && high.is_finite())
}

#[cfg(test)]
mod tests {
    use kv_quality::{Divergence, Divergences, Top1};
    use kv_report::{Pass, metric};

    use super::*;

    /// Two windows of 2000 tokens.
    fn summary() -> Summary {
        let mut divergences = Divergences::new(2000, &[0, 1000, 2000]).unwrap();
        for (window, depth) in (0..2).flat_map(|window| (0..2000).map(move |depth| (window, depth))) {
            let top1 = if window == 1 && depth == 1500 { Top1::Different } else { Top1::Same };
            let kl = (depth + window) as f64 * 1e-6;
            divergences
                .add(window, depth, Divergence { kl, reference_log_probability: -1.0, candidate_log_probability: -1.1, top1 })
                .unwrap();
        }
        divergences.summary().unwrap()
    }

    #[test]
    fn both_protocols_have_the_same_numbers_of_the_whole_and_of_every_part() {
        let summary = summary();
        let added = |protocol| {
            let mut visit = Visit::passed("cell", Pass::Quality);
            add(&mut visit, protocol, &summary);
            visit
        };
        let (exact, streamed) = (added(Protocol::PromptExact), added(Protocol::Streamed));
        for (id, value) in exact.values.iter().filter(|(id, _)| !id.starts_with("quality_")) {
            let prefixed = format!("streamed_{id}");
            assert_eq!(streamed.values.get(&prefixed), Some(value), "{prefixed}");
            assert_eq!(streamed.intervals.get(&prefixed), exact.intervals.get(id), "{prefixed}");
        }
        assert_eq!((exact.values["quality_tokens"], streamed.values["streamed_tokens"]), (4000.0, 4000.0));
        assert_eq!(exact.values["first_difference_tokens"], 1500.0);
        assert!(exact.values.keys().chain(streamed.values.keys()).all(|id| metric(id).is_some()), "{exact:?}");

        let of = |part: &Part| {
            let points = streamed.quality.iter().filter(|point| point.part == *part);
            points.map(|point| (point.metric.as_str(), point.count)).collect::<Vec<_>>()
        };
        let ids = ["ppl", "ppl_reference", "ppl_delta", "kld_mean", "kld_median", "kld_max", "same_top1", "tied_top1", "p_rms", "kld_p99"];
        assert_eq!(of(&Part::Depth { from: 1000, to: 2000 }), ids.map(|id| (id, 2000)));
        assert_eq!(of(&Part::Tail), ids.map(|id| (id, 1000)));
        assert!(exact.values.contains_key("kld_p999") && !ids.contains(&"kld_p999"), "a part has too few tokens for it");
    }
}
