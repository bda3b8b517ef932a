//! Instances that take equal bytes, compared by quality.

use crate::front::holds_tokens;
use crate::instances::{common_length, instances};
use crate::metric::known;
use crate::quality_axis::QualityAxis;
use crate::shown::short;
use crate::spread::Spread;
use crate::{Metric, Protocol, Results, Row};

const BYTES: &Metric = known("bytes_per_token");
/// Bytes are equal up to this ratio.
const EQUAL: f64 = 1.1;

/// The table: instances in order of their bytes, in bands of equal bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct EqualBytes {
    /// Tokens of each sequence.
    pub length: usize,
    /// What quality is judged by: the id of its metric.
    pub metric: &'static str,
    /// How that was measured.
    pub protocol: Protocol,
    /// The bands, that with the fewest bytes first.
    pub bands: Vec<Band>,
    /// What it shows of policies that evict, in sentences.
    pub sentences: Vec<String>,
}

/// Instances whose bytes are at most 10 % more than those of the smallest.
#[derive(Debug, Clone, PartialEq)]
pub struct Band {
    /// The instances, in order of their bytes.
    pub members: Vec<Member>,
    /// What the intervals show of the best of them, in words. Empty for a band of one.
    pub best: String,
}

/// An instance of a band.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its label.
    pub label: String,
    /// Its cache's bytes per token: heap over tokens.
    pub bytes_per_token: f64,
    /// Its quality. What lies below the floor is on it.
    pub quality: f64,
    /// Where its quality lies with 95 %, if that is known.
    pub interval: Option<(f64, f64)>,
    /// The cache's guarantee.
    pub guarantee: String,
}

impl Member {
    pub(crate) fn shown_bytes(&self) -> String {
        format!("{:.0}", self.bytes_per_token)
    }

    pub(crate) fn shown_quality(&self) -> String {
        short(self.quality)
    }

    pub(crate) fn shown_interval(&self) -> String {
        self.interval.map_or(String::new(), |(low, high)| format!("{} to {}", short(low), short(high)))
    }
}

/// A row with its bytes and its quality.
struct Measured<'a> {
    row: &'a Row,
    bytes: f64,
    quality: Spread,
}

/// The table, at the length at which most instances have bytes and quality. `None` if fewer than two do.
pub fn equal_bytes(results: &Results) -> Option<EqualBytes> {
    let instances = instances(results);
    let axis = QualityAxis::of(&instances)?;
    let length = common_length(&instances, |row| measured(row, &axis).is_some())?;
    let mut all: Vec<Measured<'_>> = instances.iter().filter_map(|instance| measured(instance.at(length)?, &axis)).collect();
    if all.len() < 2 {
        return None;
    }
    all.sort_by(|a, b| a.bytes.total_cmp(&b.bytes));
    let mut bands: Vec<Vec<&Measured<'_>>> = vec![];
    for each in &all {
        match bands.last_mut() {
            Some(band) if each.bytes <= EQUAL * band[0].bytes => band.push(each),
            _ => bands.push(vec![each]),
        }
    }
    let sentences = all.iter().filter_map(|each| judged(each, &all, &axis, results)).collect();
    Some(EqualBytes {
        length,
        metric: axis.metric.id,
        protocol: axis.protocol(),
        bands: bands.iter().map(|band| of_band(band)).collect(),
        sentences,
    })
}

fn measured<'a>(row: &'a Row, axis: &QualityAxis) -> Option<Measured<'a>> {
    let bytes = row.value(BYTES.id).filter(|bytes| bytes.is_finite() && holds_tokens(row))?;
    Some(Measured { row, bytes, quality: axis.spread(row)? })
}

fn of_band(band: &[&Measured<'_>]) -> Band {
    let member = |each: &&Measured<'_>| Member {
        label: each.row.cell.label.clone(),
        bytes_per_token: each.bytes,
        quality: each.quality.value,
        interval: each.quality.interval(),
        guarantee: each.row.guarantee.clone().unwrap_or_default(),
    };
    Band { members: band.iter().map(member).collect(), best: best(band) }
}

/// The member that is better than all others, or those that are not told apart from the first.
fn best(band: &[&Measured<'_>]) -> String {
    let first = band.iter().min_by(|a, b| a.quality.value.total_cmp(&b.quality.value));
    let Some(first) = first.filter(|_| band.len() > 1) else { return String::new() };
    let alike: Vec<&str> =
        band.iter().filter(|each| each.quality.overlaps(&first.quality)).map(|each| each.row.cell.label.as_str()).collect();
    match alike.as_slice() {
        [label] => format!("best: {label}"),
        labels if labels.len() == band.len() => "not told apart".into(),
        labels => format!("best, not told apart: {}", labels.join(", ")),
    }
}

/// What is to be said of a policy that evicts: that it does not beat keeping the newest tokens, or that nobody knows.
fn judged(policy: &Measured<'_>, all: &[Measured<'_>], axis: &QualityAxis, results: &Results) -> Option<String> {
    if !policy.row.evicts() || keeps_newest(policy.row, results) {
        return None;
    }
    let label = &policy.row.cell.label;
    let is_equal = |other: &&Measured<'_>| {
        let ratio = other.bytes / policy.bytes;
        keeps_newest(other.row, results) && (1.0 / EQUAL..=EQUAL).contains(&ratio)
    };
    let newest: Vec<&Measured<'_>> = all.iter().filter(is_equal).collect();
    if newest.is_empty() {
        return Some(format!(
            "{label} evicts, and no instance that keeps only the newest tokens takes equal bytes: whether it beats that is not known."
        ));
    }
    let unbeaten = newest.into_iter().find(|other| !policy.quality.is_below(&other.quality))?;
    let shown = |spread: &Spread| match spread.interval() {
        Some((low, high)) => format!("{} [{}, {}]", short(spread.value), short(low), short(high)),
        None => short(spread.value),
    };
    Some(format!(
        "{label} does not beat keeping the newest tokens at equal bytes: its {} is {}, and that of {} {}.",
        axis.name(),
        shown(&policy.quality),
        unbeaten.row.cell.label,
        shown(&unbeaten.quality)
    ))
}

/// Whether a row's cache keeps the newest tokens and no others: a sliding window without sinks, as the run's config says.
fn keeps_newest(row: &Row, results: &Results) -> bool {
    let strategies = results.run.config.get("strategy").and_then(serde_json::Value::as_array);
    let is_its = |strategy: &&serde_json::Value| strategy.get("label").and_then(serde_json::Value::as_str) == Some(row.cell.label.as_str());
    let own = strategies.and_then(|strategies| strategies.iter().find(is_its));
    // Without a config of its own, a window has no sinks.
    let sinks = |strategy: &serde_json::Value| strategy.pointer("/config/sinks").and_then(serde_json::Value::as_u64).unwrap_or(0);
    row.cell.strategy == "sliding" && own.is_some_and(|strategy| sinks(strategy) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Value, example_quality};

    fn set(results: &mut Results, label: &str, id: &str, value: Value) {
        let rows = results.rows.iter_mut().filter(|row| row.cell.label == label && row.cell.seq_len == 2048);
        rows.for_each(|row| drop(row.values.insert(id.into(), value.clone())));
    }

    fn labels(band: &Band) -> Vec<&str> {
        band.members.iter().map(|member| member.label.as_str()).collect()
    }

    #[test]
    fn bands_hold_what_takes_equal_bytes_and_name_the_best() {
        let table = equal_bytes(&example_quality::results()).unwrap();
        assert_eq!((table.length, table.metric, table.protocol), (2048, "kld_mean", Protocol::PromptExact));
        let bands: Vec<_> = table.bands.iter().map(|band| (labels(band), band.best.as_str())).collect();
        assert_eq!(
            bands,
            [
                (vec!["quantized q4_0"], ""),
                (vec!["window 512", "window 512 + 4 sinks", "quantized q8_0"], "best: quantized q8_0"),
                (vec!["contiguous f16"], ""),
                (vec!["contiguous f32", "paged/16 f32"], "not told apart"),
            ]
        );
        assert_eq!(table.bands[1].members[0].bytes_per_token, 11_500.0);
        assert_eq!(table.sentences, Vec::<String>::new(), "sinks beat the newest tokens alone");
    }

    #[test]
    fn the_best_are_told_apart_by_intervals_alone() {
        let mut results = example_quality::results();
        let wide = |value: f64| Value { interval: Some((1e-4, 0.3)), ..Value::from(value) };
        set(&mut results, "quantized q8_0", "kld_mean", wide(4e-4));
        assert_eq!(equal_bytes(&results).unwrap().bands[1].best, "best, not told apart: window 512 + 4 sinks, quantized q8_0");
    }

    #[test]
    fn a_policy_that_does_not_beat_the_newest_tokens_is_told() {
        let mut results = example_quality::results();
        set(&mut results, "window 512 + 4 sinks", "kld_mean", Value { interval: Some((1.0, 3.5)), ..Value::from(2.0) });
        let sentence = "window 512 + 4 sinks does not beat keeping the newest tokens at equal bytes: its KL divergence (prompt exact) is 2.00 [1.00, 3.50], and that of window 512 3.10 [2.17, 4.03].";
        assert_eq!(equal_bytes(&results).unwrap().sentences, [sentence]);
        // With 20 % fewer bytes, it is compared with nobody.
        set(&mut results, "window 512", "bytes_per_token", Value::from(9_000.0));
        let sentences = equal_bytes(&results).unwrap().sentences;
        assert!(sentences[0].ends_with("takes equal bytes: whether it beats that is not known."), "{sentences:?}");
        // What the config does not say is not guessed.
        results.run.config = serde_json::Value::Null;
        assert_eq!(equal_bytes(&results).unwrap().sentences.len(), 2);
    }

    #[test]
    fn without_quality_there_is_no_table() {
        assert_eq!(equal_bytes(&crate::example::results()), None);
    }
}
