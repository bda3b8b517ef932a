//! What is said of candidates: what they have, and why they are not the answer.

use crate::best::{Bytes, Candidate, Question};
use crate::instances::Instance;
use crate::quality_axis::{KLD, QualityAxis};
use crate::role::Role;
use crate::shown::{bytes, short};
use crate::spread::Spread;
use crate::{Row, Status};

/// Why what recomputes is not the answer.
pub(crate) const RECOMPUTES: &str =
    "It recomputes: it keeps no keys and values, so it is no cache, but the exact reference that the quality of the others is judged by.";
/// Why what may take anything is not the answer.
pub(crate) const UNKNOWN_BYTES: &str = "Its bytes at this length are neither measured nor predicted.";

/// Beyond so many times the longest length, what was measured says little.
const FAR: usize = 4;

/// That a context is far beyond all lengths that were measured.
pub(crate) fn far(instances: &[Instance<'_>], context: usize) -> Option<String> {
    let longest = instances.iter().flat_map(|instance| &instance.rows).map(|row| row.cell.seq_len).max()?;
    (context / FAR > longest).then(|| {
        let times = short(context as f64 / longest as f64);
        format!(
            "No measured length is near: this is {times} times the longest, {longest} tokens, and quality so far beyond it is not known."
        )
    })
}

/// By what rule the winner was found.
pub(crate) fn rule(question: &Question, axis: Option<&QualityAxis>) -> String {
    let fewest = "the fewest bytes win, then the shortest time per token";
    match axis.filter(|_| question.max_kld.is_none()) {
        Some(axis) => {
            format!("Of those that fit, the least {} wins; of those whose value lies within its interval, {fewest}.", axis.name())
        }
        None => format!("Of those that fit, {fewest}."),
    }
}

/// Why one that fits is not the winner.
pub(crate) fn behind(loser: &Candidate, winner: &Candidate, is_worse: bool, axis: Option<&QualityAxis>) -> String {
    let (own, least) = (loser.number_of_bytes(), winner.number_of_bytes());
    match (is_worse, loser.quality, axis) {
        (true, Some(quality), Some(axis)) => {
            let least = winner.quality.map_or(String::new(), |least| format!(", that of {} {}", winner.label, short(least)));
            format!("It fits, and its {} is {}{least}.", axis.name(), short(quality))
        }
        (true, ..) => "It fits, and its quality was not measured.".into(),
        _ if own > least && own.is_finite() => format!("It fits, and takes {} more than {}.", bytes(own - least), winner.label),
        _ if own > least => "It fits, and its bytes are not known.".into(),
        _ => match (loser.tpot_ms, winner.tpot_ms) {
            (Some(own), Some(least)) if own > least => {
                format!("It fits with the same bytes, and takes {} ms more per token than {}.", short(own - least), winner.label)
            }
            _ => format!("It fits as well as {}.", winner.label),
        },
    }
}

pub(crate) fn failed(row: &Row) -> String {
    let reason = row.error.as_ref().map_or(String::new(), |error| format!(": {error}"));
    format!(
        "At this length it {}{reason}.",
        match row.status {
            Status::Oom => "ran out of memory",
            Status::Unsupported => "does not support this",
            Status::Timeout => "timed out",
            _ => "failed",
        }
    )
}

pub(crate) fn bytes_beyond(heap: Option<Bytes>, bound: f64) -> Option<String> {
    let Some(heap) = heap else { return Some(UNKNOWN_BYTES.into()) };
    let predicted = if matches!(heap, Bytes::Predicted(_)) { " (predicted)" } else { "" };
    let own = heap.number();
    (own > bound).then(|| format!("It takes {}{predicted}, {} more than {}.", bytes(own), bytes(own - bound), bytes(bound)))
}

/// How a value lies beyond a bound, or that its interval does.
pub(crate) fn beyond(what: &str, spread: Spread, bound: f64, unit: &str) -> Option<String> {
    let Spread { value, high, .. } = spread;
    if value > bound {
        let times = if bound > 0.0 { format!(", {} times", short(value / bound)) } else { String::from(", more than") };
        return Some(format!("Its {what} is {}{unit}{times} the bound of {}{unit}.", short(value), short(bound)));
    }
    (high > bound).then(|| {
        format!(
            "Not shown: its {what} is {}{unit}, and its interval reaches {}{unit}, beyond the bound of {}{unit}.",
            short(value),
            short(high),
            short(bound)
        )
    })
}

/// The measured lengths next to one that was not measured.
pub(crate) fn nearest(instance: &Instance<'_>, context: usize) -> String {
    let lengths = || instance.rows.iter().map(|row| row.cell.seq_len);
    let nearest: Vec<String> = [lengths().filter(|length| *length < context).max(), lengths().filter(|length| *length > context).min()]
        .into_iter()
        .flatten()
        .map(|length| length.to_string())
        .collect();
    if nearest.is_empty() { String::new() } else { format!(" (measured at {})", nearest.join(" and ")) }
}

pub(crate) fn sentence(
    instance: &Instance<'_>,
    role: Role,
    context: usize,
    heap: Option<Bytes>,
    tpot: Option<Spread>,
    quality: Option<((Spread, &Row), &QualityAxis)>,
) -> String {
    let heap = match heap {
        Some(Bytes::Measured(number)) => format!("takes {}", bytes(number)),
        Some(Bytes::Predicted(number)) => format!("takes {} (predicted)", bytes(number)),
        None => "takes bytes that are not known".into(),
    };
    let tpot = match tpot {
        Some(spread) => format!("{} ms per token", with_interval(&spread)),
        None => format!("a time per token that was not measured at this length{}", nearest(instance, context)),
    };
    let quality = match quality.filter(|_| role == Role::Cache) {
        Some(((spread, row), axis)) => {
            let length = row.cell.seq_len;
            let at = if length == context { String::new() } else { format!(", measured at {length} tokens") };
            let unit = if axis.metric == KLD { " nats" } else { ", attention level only" };
            let floor = if spread.value <= axis.floor { "at most " } else { "" };
            let interval = if spread.interval().is_none() && spread.value > axis.floor { ", without an interval" } else { "" };
            format!("its {} is {floor}{}{unit}{interval}{at}", axis.name(), with_interval(&spread))
        }
        None if role == Role::Reference => "it recomputes, so it is exact".into(),
        None => "its quality was not measured at this length or below".into(),
    };
    format!("{} at {context} tokens {heap} and {tpot}; {quality}.", instance.label)
}

fn with_interval(spread: &Spread) -> String {
    match spread.interval() {
        Some((low, high)) => format!("{} [{}, {}]", short(spread.value), short(low), short(high)),
        None => short(spread.value),
    }
}
