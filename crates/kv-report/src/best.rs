//! Which measured strategy fits a question, and for each other why not.

use std::collections::BTreeMap;

use crate::best_words::{RECOMPUTES, UNKNOWN_BYTES, behind, beyond, bytes_beyond, failed, far, nearest, rule, sentence};
use crate::instances::{Instance, instances_of};
use crate::metric::known;
use crate::quality_axis::{KLD, KLD_NAME, QualityAxis};
use crate::role::{Role, role};
use crate::shown::short;
use crate::spread::Spread;
use crate::{Metric, Results, Row};

const HEAP: &Metric = known("heap_live_bytes");
const TPOT: &Metric = known("tpot_ms_p50");

/// What a strategy must fit: one sequence of `context` tokens, and bounds. A bound that is `None` holds for all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Question {
    /// Tokens of the sequence.
    pub context: usize,
    /// The most bytes of the cache.
    pub bytes: Option<u64>,
    /// The largest mean KL divergence of the next token's distribution, in nats.
    pub max_kld: Option<f64>,
    /// The longest median time per output token, in milliseconds.
    pub max_tpot_ms: Option<f64>,
    /// What formulas predict for the cache at `context` tokens, in bytes, by label. Used where bytes were not measured there.
    pub predicted: BTreeMap<String, u64>,
}

/// The answer: every instance, the winner first if there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// That the context is far beyond all lengths that were measured, as a sentence, if it is.
    pub far: Option<String>,
    /// By which rule the winner was chosen, as a sentence.
    pub rule: String,
    /// The instances: the winner, the others that fit in the order of the rule, then those that do not fit.
    pub candidates: Vec<Candidate>,
}

impl Answer {
    /// The instance that fits best.
    pub fn winner(&self) -> Option<&Candidate> {
        self.candidates.first().filter(|candidate| candidate.fits())
    }
}

/// An instance, held against the question.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its label.
    pub label: String,
    /// The bytes of its cache at the context.
    pub bytes: Option<Bytes>,
    /// The value of its quality's metric.
    pub quality: Option<f64>,
    /// The length at which its quality was measured: the longest that is no longer than the context.
    pub quality_length: Option<usize>,
    /// Its median time per output token in milliseconds, measured at exactly the context.
    pub tpot_ms: Option<f64>,
    /// What it has, as a sentence that says where numbers come from.
    pub sentence: String,
    /// Why it is not the answer, a sentence for each reason. Empty for the winner.
    pub why_not: Vec<String>,
    fits: bool,
    spread: Option<Spread>,
}

/// Bytes of a cache, and where they come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bytes {
    /// The heap was counted at this length.
    Measured(f64),
    /// The strategy's formula.
    Predicted(f64),
}

impl Bytes {
    /// The number.
    pub fn number(self) -> f64 {
        match self {
            Bytes::Measured(number) | Bytes::Predicted(number) => number,
        }
    }
}

impl Candidate {
    /// Whether all bounds hold, and the intervals show it.
    pub fn fits(&self) -> bool {
        self.fits
    }

    pub(crate) fn number_of_bytes(&self) -> f64 {
        self.bytes.map_or(f64::INFINITY, Bytes::number)
    }

    fn cost(&self) -> (f64, f64) {
        (self.number_of_bytes(), self.tpot_ms.unwrap_or(f64::INFINITY))
    }
}

/// Whether a run has values of quality of one sequence by which its instances can be ranked.
pub fn has_quality(results: &Results) -> bool {
    QualityAxis::of(&instances_of(results, 1)).is_some()
}

/// Answers a question from what was measured. With `max_kld`, the fewest bytes win, and of equal ones the shortest time.
/// Without it, the best quality wins; those whose value lies within the best one's interval are not told apart, and the fewest
/// bytes decide. A bound holds if the value and its whole interval do. Only bytes are ever predicted. What recomputes is the
/// reference of quality and keeps nothing, so it is never the answer.
pub fn best(results: &Results, question: &Question) -> Answer {
    let instances = instances_of(results, 1);
    let axis = QualityAxis::of(&instances);
    let candidate_of = |instance: &Instance<'_>| candidate(instance, role(instance, &instances), question, axis.as_ref());
    let mut candidates: Vec<Candidate> = instances.iter().map(candidate_of).collect();
    let order = |a: &Candidate, b: &Candidate| a.cost().partial_cmp(&b.cost()).unwrap_or(std::cmp::Ordering::Equal);
    let best = (candidates.iter().filter(|candidate| candidate.fits && question.max_kld.is_none()))
        .filter_map(|candidate| candidate.spread)
        .min_by(|a, b| a.value.total_cmp(&b.value));
    // What is not told apart from the best ranks as the best does, and what was not measured ranks last.
    let rank = |candidate: &Candidate| match (best, candidate.spread) {
        (Some(best), Some(own)) if own.value > best.high => own.value,
        (Some(_), None) => f64::INFINITY,
        _ => f64::NEG_INFINITY,
    };
    candidates.sort_by(|a, b| b.fits.cmp(&a.fits).then(rank(a).total_cmp(&rank(b))).then(order(a, b)));
    if let Some(winner) = candidates.first().filter(|candidate| candidate.fits).cloned() {
        let losers = candidates.iter_mut().skip(1).filter(|candidate| candidate.fits);
        losers.for_each(|loser| loser.why_not = vec![behind(loser, &winner, rank(loser) > f64::NEG_INFINITY, axis.as_ref())]);
    }
    Answer { far: far(&instances, question.context), rule: rule(question, axis.as_ref()), candidates }
}

fn candidate(instance: &Instance<'_>, role: Role, question: &Question, axis: Option<&QualityAxis>) -> Candidate {
    let context = question.context;
    let here = instance.at(context);
    let measured = here.and_then(|row| row.value(HEAP.id)).map(Bytes::Measured);
    let predicted = || question.predicted.get(instance.label).map(|number| Bytes::Predicted(*number as f64));
    let heap = measured.or_else(predicted);
    let tpot = here.and_then(|row| row.values.get(TPOT.id)).and_then(Spread::of);
    let judged = |row: &&&Row| row.cell.seq_len <= context && axis.is_some_and(|axis| axis.spread(row).is_some());
    let judged = instance.rows.iter().rev().find(judged).copied();
    let spread = judged.and_then(|row| axis?.spread(row));
    // Held against a bound as it was measured: the floor is for drawing and ranking.
    let is_divergence = axis.is_some_and(|axis| axis.metric == KLD);
    let divergence = judged.filter(|_| is_divergence).and_then(|row| row.values.get(KLD.id)).and_then(Spread::of);

    let mut why_not: Vec<String> = instance.failed.iter().filter(|row| row.cell.seq_len == context).map(|row| failed(row)).collect();
    if instance.rows.is_empty() && why_not.is_empty() {
        why_not.push("It was measured at no length.".into());
    }
    match role {
        Role::Reference => why_not.push(RECOMPUTES.into()),
        Role::Cache if judged.is_none() && question.max_kld.is_none() && !instance.rows.is_empty() => {
            why_not.push(format!("Its quality was not measured at {context} tokens or fewer."));
        }
        Role::Cache => {}
    }
    match question.bytes {
        Some(bound) => why_not.extend(bytes_beyond(heap, bound as f64)),
        None if heap.is_none() && here.is_none() && !instance.rows.is_empty() => why_not.push(UNKNOWN_BYTES.into()),
        None => {}
    }
    // What it has not lost yet at a shorter length says nothing of what it will have lost.
    let is_shorter = judged.is_some_and(|row| row.cell.seq_len < context);
    if let (Some(row), Some(axis)) = (judged.filter(|row| is_shorter && row.evicts()), axis) {
        why_not.push(format!("It evicts, and its {} was measured at {} tokens only.", axis.name(), row.cell.seq_len));
    }
    if let Some(bound) = question.max_kld.filter(|_| role == Role::Cache) {
        let missing = || match instance.rows.iter().filter(|row| row.cell.seq_len <= context).find_map(|row| row.unranked()) {
            Some(reason) => format!("Its {KLD_NAME} does not count: {reason}."),
            None => format!("No {KLD_NAME} was measured at {context} tokens or fewer."),
        };
        why_not.extend(divergence.map_or_else(|| Some(missing()), |value| beyond(KLD_NAME, value, bound, " nats")));
        let longer = instance.rows.iter().find(|row| row.cell.seq_len > context && row.values.contains_key(KLD.id));
        if let Some((row, divergence)) = longer
            .filter(|_| is_shorter)
            .and_then(|row| Some((row, row.values.get(KLD.id).and_then(Spread::of)?)))
            .filter(|(_, divergence)| divergence.high > bound)
        {
            let reached = short(divergence.high);
            why_not.push(format!("Not shown: at {} tokens its {KLD_NAME} reaches {reached} nats.", row.cell.seq_len));
        }
    }
    if let Some(bound) = question.max_tpot_ms {
        let missing = || format!("Its time was not measured at this length{}: latency is never predicted.", nearest(instance, context));
        why_not.extend(tpot.map_or_else(|| Some(missing()), |value| beyond("time per token", value, bound, " ms")));
    }
    Candidate {
        label: instance.label.to_owned(),
        bytes: heap,
        quality: spread.map(|spread| spread.value),
        quality_length: judged.map(|row| row.cell.seq_len),
        tpot_ms: tpot.map(|tpot| tpot.value),
        sentence: sentence(instance, role, context, heap, tpot, spread.zip(judged).zip(axis)),
        fits: why_not.is_empty(),
        why_not,
        spread,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Status, UNRANKED, Value, example_quality};

    const MIB: u64 = 1 << 20;

    fn at_2048() -> Question {
        Question { context: 2048, ..Question::default() }
    }

    fn of<'a>(answer: &'a Answer, label: &str) -> &'a Candidate {
        answer.candidates.iter().find(|candidate| candidate.label == label).unwrap()
    }

    fn winner(results: &Results, question: &Question) -> String {
        best(results, question).winner().map(|candidate| candidate.label.clone()).unwrap_or_default()
    }

    fn set(results: &mut Results, label: &str, id: &str, value: Value) {
        let rows = results.rows.iter_mut().filter(|row| row.cell.label == label);
        rows.for_each(|row| drop(row.values.insert(id.into(), value.clone())));
    }

    #[test]
    fn with_a_bound_on_divergence_the_fewest_bytes_win_and_the_others_say_why_not() {
        let results = example_quality::results();
        let question = Question { bytes: Some(30 * MIB), max_kld: Some(0.01), max_tpot_ms: Some(50.0), ..at_2048() };
        let answer = best(&results, &question);
        assert_eq!(answer.winner().unwrap().label, "quantized q8_0");
        assert_eq!(answer.rule, "Of those that fit, the fewest bytes win, then the shortest time per token.");
        assert_eq!(
            answer.winner().unwrap().sentence,
            "quantized q8_0 at 2048 tokens takes 24.02 MiB and 26.80 [26.26, 27.34] ms per token; its KL divergence (prompt exact) is 0.00042 [0.00029, 0.00055] nats."
        );
        assert_eq!(answer.candidates.iter().filter(|candidate| candidate.fits()).count(), 1);
        assert_eq!(of(&answer, "contiguous f16").why_not, ["It takes 45.02 MiB, 15.02 MiB more than 30.00 MiB."]);
        assert_eq!(
            of(&answer, "quantized q4_0").why_not,
            ["Its KL divergence (prompt exact) is 0.0340 nats, 3.40 times the bound of 0.0100 nats."]
        );
        assert_eq!(of(&answer, "naive").why_not, [RECOMPUTES, "Its time per token is 900 ms, 18.00 times the bound of 50.00 ms."]);
    }

    #[test]
    fn what_recomputes_is_exact_and_never_the_answer() {
        let mut results = example_quality::results();
        results.rows.iter_mut().filter(|row| row.cell.label == "naive").for_each(|row| row.values.retain(|id, _| !id.starts_with("kld")));
        for max_kld in [None, Some(0.01)] {
            let answer = best(&results, &Question { max_kld, ..at_2048() });
            let naive = of(&answer, "naive");
            assert_eq!(naive.why_not, [RECOMPUTES], "of the fewest bytes, and no cache");
            assert!(naive.sentence.ends_with("ms per token; it recomputes, so it is exact."), "{}", naive.sentence);
        }
        results.rows.iter_mut().for_each(|row| row.cell.baseline = None);
        let older = best(&results, &at_2048());
        assert_eq!(of(&older, "naive").why_not, ["Its quality was not measured at 2048 tokens or fewer."]);
    }

    #[test]
    fn far_beyond_what_was_measured_that_is_said_and_unknown_bytes_are_no_answer() {
        let results = example_quality::results();
        let context = 1_000_000_000_000;
        let answer = best(&results, &Question { context, ..Question::default() });
        assert_eq!(
            answer.far.as_deref(),
            Some(
                "No measured length is near: this is 488281250 times the longest, 2048 tokens, and quality so far beyond it is not known."
            )
        );
        assert_eq!(of(&answer, "contiguous f32").why_not, [UNKNOWN_BYTES]);
        assert!(answer.winner().is_none());
        assert_eq!(best(&results, &Question { context: 4 * 2048, ..Question::default() }).far, None);
    }

    #[test]
    fn a_run_has_quality_if_anything_can_be_ranked() {
        let mut results = example_quality::results();
        assert!(has_quality(&results));
        results.rows.iter_mut().for_each(|row| row.values.retain(|id, _| !id.starts_with("kld") && !id.starts_with("attn")));
        assert!(!has_quality(&results));
    }

    #[test]
    fn an_interval_beyond_a_bound_is_not_shown_to_fit() {
        let results = example_quality::results();
        let answer = best(&results, &Question { max_kld: Some(0.04), ..at_2048() });
        let why_not = &of(&answer, "quantized q4_0").why_not;
        assert_eq!(
            why_not,
            &[
                "Not shown: its KL divergence (prompt exact) is 0.0340 nats, and its interval reaches 0.0442 nats, beyond the bound of 0.0400 nats."
            ]
        );
        let bounded = Question { max_tpot_ms: Some(27.0), max_kld: Some(0.001), ..at_2048() };
        assert_eq!(winner(&results, &bounded), "", "26.8 ms reach 27.3");
    }

    #[test]
    fn without_a_bound_on_divergence_quality_wins_and_bytes_decide_among_equals() {
        let mut results = example_quality::results();
        let question = Question { max_tpot_ms: Some(50.0), ..at_2048() };
        let answer = best(&results, &question);
        assert_eq!(answer.winner().unwrap().label, "contiguous f32", "exact, and smaller than paged");
        assert!(answer.rule.contains("the least KL divergence (prompt exact) wins"), "{}", answer.rule);
        assert_eq!(answer.candidates[1].why_not, ["It fits, and takes 1.56 MiB more than contiguous f32."]);
        assert_eq!(
            answer.candidates[2].why_not,
            ["It fits, and its KL divergence (prompt exact) is 2.0e-8, that of contiguous f32 1.0e-9."]
        );
        // A wide interval makes nothing better than it is.
        set(&mut results, "contiguous f16", "kld_mean", Value { interval: Some((0.0, 1e-7)), ..Value::from(2e-8) });
        assert_eq!(winner(&results, &question), "contiguous f32");
        // What lies within the best one's interval is as good, and the fewest bytes decide.
        set(&mut results, "contiguous f16", "kld_mean", Value { interval: Some((0.0, 1e-7)), ..Value::from(2e-10) });
        assert_eq!(winner(&results, &question), "contiguous f16");
        // Of equal bytes the time decides.
        set(&mut results, "paged/16 f32", "heap_live_bytes", Value::from(1e6));
        set(&mut results, "contiguous f32", "heap_live_bytes", Value::from(1e6));
        let answer = best(&results, &question);
        assert_eq!(answer.winner().unwrap().label, "contiguous f32");
        assert_eq!(answer.candidates[1].why_not, ["It fits with the same bytes, and takes 0.2000 ms more per token than contiguous f32."]);
    }

    #[test]
    fn what_evicts_is_not_judged_by_a_shorter_length() {
        let results = example_quality::results();
        for max_kld in [None, Some(10.0)] {
            let answer = best(&results, &Question { context: 1536, max_kld, ..at_2048() });
            let why_not = &of(&answer, "window 512").why_not;
            assert!(
                why_not.contains(&"It evicts, and its KL divergence (prompt exact) was measured at 1024 tokens only.".into()),
                "{why_not:?}"
            );
            assert!(
                !best(&results, &Question { max_kld, ..at_2048() })
                    .candidates
                    .iter()
                    .any(|other| other.why_not.concat().contains("evicts"))
            );
        }
    }

    #[test]
    fn at_a_length_that_was_not_measured_bytes_are_predicted_and_times_are_not() {
        let results = example_quality::results();
        let predicted = [("quantized q8_0".to_owned(), 18 * MIB), ("contiguous f16".to_owned(), 34 * MIB)];
        let mut question = Question { context: 1536, bytes: Some(20 * MIB), max_kld: Some(0.01), predicted: predicted.into(), ..at_2048() };
        let answer = best(&results, &question);
        let q8 = answer.winner().unwrap();
        assert_eq!(
            (q8.label.as_str(), q8.bytes, q8.quality_length, q8.tpot_ms),
            ("quantized q8_0", Some(Bytes::Predicted(18.0 * MIB as f64)), Some(1024), None)
        );
        assert_eq!(
            q8.sentence,
            "quantized q8_0 at 1536 tokens takes 18.00 MiB (predicted) and a time per token that was not measured at this length (measured at 1024 and 2048); its KL divergence (prompt exact) is 0.00021 [0.00015, 0.00027] nats, measured at 1024 tokens."
        );
        assert_eq!(of(&answer, "contiguous f16").why_not, ["It takes 34.00 MiB (predicted), 14.00 MiB more than 20.00 MiB."]);
        assert_eq!(of(&answer, "contiguous f32").why_not, ["Its bytes at this length are neither measured nor predicted."]);
        question.max_tpot_ms = Some(1e6);
        let answer = best(&results, &question);
        assert!(answer.winner().is_none());
        assert_eq!(
            of(&answer, "quantized q8_0").why_not,
            ["Its time was not measured at this length (measured at 1024 and 2048): latency is never predicted."]
        );
        // A measured number goes first.
        let at_1024 = Question { context: 1024, predicted: [("quantized q8_0".to_owned(), 1)].into(), ..at_2048() };
        assert_eq!(of(&best(&results, &at_1024), "quantized q8_0").bytes, Some(Bytes::Measured(12_300.0 * 1024.0)));
    }

    #[test]
    fn what_failed_or_was_not_judged_is_no_answer() {
        let mut results = example_quality::results();
        let question = Question { max_kld: Some(0.01), ..at_2048() };
        let q8 = |results: &mut Results, change: fn(&mut Row)| {
            results.rows.iter_mut().filter(|row| row.cell.label == "quantized q8_0").for_each(change);
            of(&best(results, &question), "quantized q8_0").why_not.clone()
        };
        let unranked = q8(&mut results, |row| row.notes.push(format!("{UNRANKED}: the perplexity is 60000")));
        assert_eq!(unranked, [format!("Its KL divergence (prompt exact) does not count: {UNRANKED}: the perplexity is 60000.")]);
        let without = q8(&mut results, |row| {
            row.notes.clear();
            row.values.remove("kld_mean");
        });
        assert_eq!(without, ["No KL divergence (prompt exact) was measured at 2048 tokens or fewer."]);
        let failed = q8(&mut results, |row| (row.status, row.error) = (Status::Oom, Some("3 GiB".into())));
        assert_eq!(failed[0], "At this length it ran out of memory: 3 GiB.");
        let attention = example_quality::results();
        assert!(best(&attention, &Question { context: 1, ..question }).winner().is_none());
    }
}
