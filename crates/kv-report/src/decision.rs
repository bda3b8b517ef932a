//! The decision table: at each length and batch, what every strategy instance costs and what it does to the output, side by side.

use std::collections::BTreeSet;

use crate::front::{holds_tokens, is_better};
use crate::instances::{Instance, batches, common_length, instances_of};
use crate::metric::known;
use crate::noise::is_baseline;
use crate::shown::{bytes, short, with_interval};
use crate::spread::Spread;
use crate::{Better, Metric, Results, Row, Status, counted};

/// The columns whose numbers rank instances, with their headings.
const COLUMNS: [(&str, &Metric); 8] = [
    ("bytes", known("heap_live_bytes")),
    ("bits per value", known("effective_bits")),
    ("TPOT (ms)", known("tpot_ms_p50")),
    ("of the baseline's", known("tpot_ratio")),
    ("TTFT (ms)", known("ttft_ms")),
    ("KL (nats)", known("kld_mean")),
    ("same top-1", known("same_top1")),
    ("needles found", known("needle_acc")),
];

/// What dominance is judged by: memory, latency and quality.
const JUDGED: [&str; 3] = ["heap_live_bytes", TPOT, QUALITY];
const TPOT: &str = "tpot_ms_p50";
const QUALITY: &str = "kld_mean";

/// A decision table for each length and batch of the decode workload.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decisions {
    /// The headings behind the first, which names the instance, with what they mean.
    pub(crate) headings: Vec<(&'static str, &'static str)>,
    /// In order of batches, then of lengths.
    pub(crate) tables: Vec<Decision>,
    /// The place of the table that a reader sees first: of the smallest batch, the longest length that most instances have.
    pub(crate) first: usize,
}

impl Decisions {
    /// Whether a table is the one that a reader sees first.
    pub(crate) fn is_first(&self, index: &usize) -> bool {
        *index == self.first
    }
}

/// What the instances come to at a length and batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision {
    pub(crate) length: usize,
    pub(crate) batch: usize,
    pub(crate) rows: Vec<Choice>,
}

impl Decision {
    /// Its length and batch, in words.
    pub(crate) fn place(&self) -> String {
        at(self.length, self.batch)
    }
}

/// A length and a batch, in words.
pub(crate) fn at(length: usize, batch: usize) -> String {
    let tokens = counted(length, "token");
    if batch == 1 { tokens } else { format!("{tokens} in each of {batch} sequences") }
}

/// An instance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Choice {
    pub(crate) label: String,
    /// The id of its cell.
    pub(crate) cell: String,
    pub(crate) numbers: Vec<Number>,
    /// What is said beside its name.
    pub(crate) marks: Vec<String>,
    /// Whether another is no worse in memory, latency and quality, and better in one.
    pub(crate) is_dominated: bool,
}

/// A number of an instance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Number {
    pub(crate) text: String,
    pub(crate) value: Option<f64>,
    /// Whether no other instance is better, as far as intervals tell.
    pub(crate) is_best: bool,
    /// Whether it is a ratio to the baseline, which the reader may change.
    pub(crate) is_ratio: bool,
}

/// The decision tables. `None` without a row of the decode workload.
pub(crate) fn decisions(results: &Results) -> Option<Decisions> {
    let groups: Vec<(usize, Vec<Instance<'_>>)> = batches(results).into_iter().map(|batch| (batch, instances_of(results, batch))).collect();
    let lengths = |instances: &[Instance<'_>]| -> BTreeSet<usize> {
        instances.iter().flat_map(|instance| instance.rows.iter().chain(&instance.failed)).map(|row| row.cell.seq_len).collect()
    };
    let places = groups.iter().flat_map(|(batch, instances)| lengths(instances).into_iter().map(move |length| (length, *batch, instances)));
    // Where all failed, the longest length shows it.
    let (batch, instances) = groups.first()?;
    let length = common_length(instances, |_| true).or_else(|| lengths(instances).into_iter().next_back())?;
    let first = (*batch, length);
    // A column that no instance has at any length says nothing.
    let all = || groups.iter().flat_map(|(_, instances)| instances).flat_map(|instance| &instance.rows);
    let has = |metric: &Metric| all().any(|row| row.values.contains_key(metric.id));
    let columns: Vec<(&'static str, &'static Metric)> = COLUMNS.into_iter().filter(|(_, metric)| has(metric)).collect();
    let tables: Vec<Decision> = places.map(|(length, batch, instances)| decision(instances, &columns, length, batch)).collect();
    Some(Decisions {
        headings: columns.iter().map(|(heading, metric)| (*heading, metric.meaning)).collect(),
        first: tables.iter().position(|table| (table.batch, table.length) == first)?,
        tables,
    })
}

fn decision(instances: &[Instance<'_>], columns: &[(&'static str, &'static Metric)], length: usize, batch: usize) -> Decision {
    let rows: Vec<&Row> = instances.iter().filter_map(|instance| instance.at(length)).collect();
    let choice = |instance: &Instance<'_>| match instance.at(length) {
        Some(row) => Some(measured(row, &rows, columns)),
        None => instance.failed_at(length).map(|row| failed(row, columns)),
    };
    Decision { length, batch, rows: instances.iter().filter_map(choice).collect() }
}

fn measured(row: &Row, rows: &[&Row], columns: &[(&'static str, &'static Metric)]) -> Choice {
    let is_dominated = holds_tokens(row) && rows.iter().any(|other| holds_tokens(other) && dominates(other, row));
    let marks = [
        (is_baseline(row), "baseline"),
        (row.cell.baseline.is_none(), "recomputes"),
        (holds_tokens(row) && !is_dominated, "on the front"),
        (row.is_implementation_bound(), "implementation-bound"),
    ];
    Choice {
        label: row.cell.label.clone(),
        cell: row.cell.id.clone(),
        numbers: columns.iter().map(|(_, metric)| number(row, metric, rows)).collect(),
        marks: marks.into_iter().filter(|(is_so, _)| *is_so).map(|(_, mark)| mark.to_owned()).collect(),
        is_dominated,
    }
}

/// A cell that has no numbers, with how it ended.
fn failed(row: &Row, columns: &[(&'static str, &'static Metric)]) -> Choice {
    debug_assert!(row.status != Status::Ok);
    Choice {
        label: row.cell.label.clone(),
        cell: row.cell.id.clone(),
        numbers: columns.iter().map(|_| Number { text: "–".into(), value: None, is_best: false, is_ratio: false }).collect(),
        marks: vec![row.status.to_string()],
        is_dominated: false,
    }
}

fn number(row: &Row, metric: &'static Metric, rows: &[&Row]) -> Number {
    let is_ratio = metric.id == "tpot_ratio";
    let Some(value) = row.values.get(metric.id) else {
        let text = if is_ratio && is_baseline(row) { "1 (baseline)" } else { "–" };
        return Number { text: text.into(), value: None, is_best: false, is_ratio };
    };
    let text = match metric.id {
        "heap_live_bytes" => bytes(value.value),
        "tpot_ratio" => match &value.verdict {
            Some(verdict) => format!("{} {verdict}", with_interval(value)),
            None => format!("{} (no verdict)", short(value.value)),
        },
        _ => short(value.value),
    };
    // Ratios rank as the times do, and what holds nothing is no answer to how to hold it.
    let can_be_best = !is_ratio && (metric.id != "heap_live_bytes" || holds_tokens(row));
    let own = Spread::of(value).filter(|_| can_be_best);
    let others = || rows.iter().filter(|other| metric.id != "heap_live_bytes" || holds_tokens(other));
    let of_others = || others().filter_map(|other| other.values.get(metric.id).and_then(Spread::of));
    let is_told_slower = metric.id == TPOT
        && (verdict(row) == Some("slower") || is_baseline(row) && rows.iter().any(|other| verdict(other) == Some("faster")));
    let is_best = !is_told_slower
        && own.is_some_and(|own| match metric.better {
            Better::Lower => !of_others().any(|other| other.is_below(&own)),
            Better::Higher => !of_others().any(|other| own.is_below(&other)),
            Better::Neither => false,
        });
    Number { text, value: Some(value.value), is_best, is_ratio }
}

/// Whether a row is better in one of memory, latency and quality, and not worse in the others, as far as intervals tell: latency may
/// be alike within its interval, memory and quality must be equal. Rows of which one has no quality are not compared. Where neither
/// has, a cache is only judged against one that guarantees no more.
fn dominates(a: &Row, b: &Row) -> bool {
    if a.cell.id == b.cell.id || JUDGED.iter().any(|id| a.values.contains_key(*id) != b.values.contains_key(*id)) {
        return false;
    }
    let is_unknown = !a.values.contains_key(QUALITY);
    if is_unknown && a.guarantee.as_deref() != Some("exact") && a.guarantee != b.guarantee {
        return false;
    }
    let spread = |row: &Row, id: &str| row.values.get(id).and_then(Spread::of);
    let pair = |id: &str| Some((spread(a, id)?, spread(b, id)?));
    let time = pair(TPOT);
    // Paired by round, a ratio tells times apart that two medians do not.
    let is_slower = is_baseline(b) && verdict(a) == Some("slower") || is_baseline(a) && verdict(b) == Some("faster");
    if is_slower || time.is_some_and(|(own, other)| other.is_below(&own)) {
        return false;
    }
    let is_faster = time.is_some_and(|(own, other)| own.is_below(&other));
    let others: Vec<(Spread, Spread)> = JUDGED.iter().filter(|id| **id != TPOT).filter_map(|id| pair(id)).collect();
    is_better(&others) || is_faster && others.iter().all(|(own, other)| own.is_below(other) || own == other)
}

/// How a row's time compares with the baseline's.
fn verdict(row: &Row) -> Option<&str> {
    row.values.get("tpot_ratio")?.verdict.as_deref()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::example_quality;

    fn table(results: &Results) -> Decision {
        let decisions = decisions(results).unwrap();
        decisions.tables[decisions.first].clone()
    }

    fn choice<'a>(table: &'a Decision, label: &str) -> &'a Choice {
        table.rows.iter().find(|choice| choice.label == label).unwrap()
    }

    #[test]
    fn the_longest_length_that_most_have_comes_first_and_every_length_has_a_table() {
        let decisions = decisions(&example_quality::results()).unwrap();
        assert_eq!(decisions.tables[decisions.first].place(), "2048 tokens");
        assert!(decisions.tables.len() > 1 && decisions.tables.iter().all(|decision| !decision.rows.is_empty()));
        assert_eq!(decisions.headings.len(), decisions.tables[0].rows[0].numbers.len());
    }

    #[test]
    fn what_is_worse_in_everything_is_dominated_and_the_rest_is_the_front() {
        let mut results = example_quality::results();
        let table = self::table(&results);
        assert!(choice(&table, "contiguous f16").marks.contains(&"baseline".into()));
        assert!(choice(&table, "naive").marks.contains(&"recomputes".into()) && !choice(&table, "naive").is_dominated);
        // The same as q8_0, and a little worse in all.
        let mut worse = results.rows.iter().find(|row| row.cell.label == "quantized q8_0" && row.cell.seq_len == 2048).unwrap().clone();
        worse.cell.id = "worse".into();
        worse.cell.label = "worse".into();
        for id in JUDGED {
            let value = worse.values.get_mut(id).unwrap();
            value.value *= 2.0;
            value.interval = value.interval.map(|(low, high)| (low * 2.0, high * 2.0));
        }
        results.rows.push(worse);
        let table = self::table(&results);
        assert!(choice(&table, "worse").is_dominated && !choice(&table, "worse").marks.contains(&"on the front".into()));
        assert!(choice(&table, "quantized q8_0").marks.contains(&"on the front".into()));
        assert!(choice(&table, "quantized q4_0").marks.contains(&"implementation-bound".into()));
    }

    #[test]
    fn best_is_what_intervals_do_not_tell_from_the_best() {
        let table = table(&example_quality::results());
        let bytes = |label: &str| &choice(&table, label).numbers[0];
        assert!(!bytes("naive").is_best, "it holds nothing");
        let best: Vec<&str> = table.rows.iter().filter(|choice| choice.numbers[0].is_best).map(|choice| choice.label.as_str()).collect();
        let least = table
            .rows
            .iter()
            .filter(|choice| choice.label != "naive")
            .filter_map(|choice| choice.numbers[0].value)
            .fold(f64::MAX, f64::min);
        assert!(!best.is_empty() && best.iter().all(|label| bytes(label).value == Some(least)), "{best:?}");
    }

    #[test]
    fn what_is_told_to_be_slower_is_not_best_and_noise_dominates_nothing() {
        let mut results = example_quality::results();
        let edit = |results: &mut Results, label: &str, change: &dyn Fn(&mut Row)| {
            results.rows.iter_mut().filter(|row| row.cell.label == label).for_each(change);
        };
        // The two have the same bytes and quality, and times that overlap.
        edit(&mut results, "paged/16 f32", &|row| {
            row.values.get_mut(TPOT).unwrap().interval = Some((1.0, 100.0));
            row.values.get_mut("tpot_ratio").unwrap().verdict = Some("inconclusive".into());
        });
        let place = decisions(&results).unwrap().headings.iter().position(|(heading, _)| *heading == "TPOT (ms)").unwrap();
        let is_best = |results: &Results| choice(&table(results), "paged/16 f32").numbers[place].is_best;
        assert!(is_best(&results), "nobody tells it from the best");
        edit(&mut results, "paged/16 f32", &|row| row.values.get_mut("tpot_ratio").unwrap().verdict = Some("slower".into()));
        assert!(!is_best(&results));

        let row = |label: &str| results.rows.iter().find(|row| row.cell.label == label && row.cell.seq_len == 2048).unwrap().clone();
        let (q8, mut noisy) = (row("quantized q8_0"), row("quantized q8_0"));
        noisy.cell.id = "noisy".into();
        noisy.values.get_mut("heap_live_bytes").unwrap().value += 1.0;
        assert!(dominates(&q8, &noisy), "a byte more, and else the same");
        noisy.values.get_mut("kld_mean").unwrap().value *= 1.01;
        assert!(!dominates(&q8, &noisy), "their qualities overlap: a byte less is no reason to leave the better one out");
    }

    #[test]
    fn without_quality_fewer_bytes_are_no_reason_to_leave_a_more_exact_cache_out() {
        let results = example_quality::results();
        let row = |label: &str| {
            let mut row = results.rows.iter().find(|row| row.cell.label == label && row.cell.seq_len == 2048).unwrap().clone();
            row.values.remove(QUALITY);
            row.guarantee = Some("exact".into());
            row
        };
        let (mut smaller, larger) = (row("quantized q8_0"), row("contiguous f16"));
        assert!(dominates(&smaller, &larger), "both are exact, and one takes half the bytes");
        smaller.guarantee = Some("lossy (K ±0.44 %, V ±0.44 %)".into());
        assert!(!dominates(&smaller, &larger));
    }

    #[test]
    fn each_batch_has_tables_of_its_own_and_the_smallest_comes_first() {
        let mut results = example_quality::results();
        let four = results.rows.iter().filter(|row| row.cell.seq_len == 2048).cloned().map(|mut row| {
            row.cell.batch = 4;
            row
        });
        let four: Vec<Row> = four.collect();
        let one = decisions(&results).unwrap();
        results.rows.extend(four);
        let both = decisions(&results).unwrap();
        assert_eq!(both.tables[both.first], one.tables[one.first], "what takes four sequences is no choice for one");
        let last = both.tables.last().unwrap();
        assert_eq!((both.tables.len(), last.place()), (one.tables.len() + 1, "2048 tokens in each of 4 sequences".into()));
        results.rows.retain(|row| row.cell.batch == 4);
        assert_eq!(decisions(&results).unwrap().tables, std::slice::from_ref(last), "a run without single sequences has its table too");
    }

    #[test]
    fn what_failed_is_in_the_table_and_says_how() {
        let mut results = example_quality::results();
        for row in results.rows.iter_mut().filter(|row| row.cell.label == "quantized q8_0") {
            (row.status, row.values) = (Status::Oom, BTreeMap::new());
        }
        let table = table(&results);
        let failed = choice(&table, "quantized q8_0");
        assert_eq!(failed.marks, ["out of memory"]);
        assert!(failed.numbers.iter().all(|number| number.text == "–" && !number.is_best) && !failed.is_dominated);
        assert_eq!(failed.numbers.len(), decisions(&results).unwrap().headings.len());
        results.rows.iter_mut().for_each(|row| (row.status, row.values) = (Status::Oom, BTreeMap::new()));
        let all = self::table(&results);
        assert!(all.place() == "2048 tokens" && all.rows.iter().all(|choice| choice.marks == ["out of memory"]), "{all:?}");
    }

    #[test]
    fn without_rows_there_is_no_table() {
        let mut results = example_quality::results();
        results.rows.clear();
        assert_eq!(decisions(&results), None);
    }
}
