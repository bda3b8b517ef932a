//! What was found of each strategy instance, in a sentence.

use crate::decision::{Decisions, at, decisions};
use crate::front::NEXT_TO_NOTHING;
use crate::instances::{Instance, batches, instances_of};
use crate::metric::known;
use crate::noise::is_baseline;
use crate::quality_axis::{ATTENTION, KLD, QualityAxis};
use crate::recall::losses;
use crate::role::{Role, role};
use crate::shown::{bytes, short, with_interval};
use crate::{Metric, Results, Row, Value};

const HEAP: &Metric = known("heap_live_bytes");
const TPOT: &Metric = known("tpot_ms_p50");
const RATIO: &Metric = known("tpot_ratio");
const KLD_FLOOR: &Metric = known("kld_floor");
const STREAMED: &Metric = known("streamed_kld_mean");
const TOP1: &Metric = known("same_top1");
const NEEDLES: &Metric = known("needle_acc");
const NEEDLES_DENSE: &Metric = known("needle_acc_dense");

/// One sentence for each strategy instance and batch of the decode workload: its bytes, its time and its quality at the longest
/// length at which its quality was measured, or else at its longest. Verdicts are those of the comparison, and numbers have the
/// intervals that are known. The smallest batch comes first. Of a batch, the baseline comes first, then what no other dominates by
/// rising bytes, then the others, and what recomputes last: it is not an answer to anything.
pub fn sentences(results: &Results) -> Vec<String> {
    let decisions = decisions(results);
    let of_batch = |batch| {
        let instances = instances_of(results, batch);
        let axis = QualityAxis::of(&instances);
        let mut ranked: Vec<&Instance<'_>> = instances.iter().collect();
        ranked.sort_by(|one, other| {
            let (one, other) = (rank(one, decisions.as_ref()), rank(other, decisions.as_ref()));
            one.0.cmp(&other.0).then(one.1.total_cmp(&other.1))
        });
        let told = ranked.into_iter().map(|instance| sentence(instance, &instances, axis.as_ref(), results.run.margin));
        told.collect::<Vec<String>>()
    };
    batches(results).into_iter().flat_map(of_batch).collect()
}

/// The row that an instance's sentence is about.
fn told<'a>(instance: &Instance<'a>) -> Option<&'a Row> {
    let has_quality = |row: &Row| row.values.contains_key(KLD.id) || row.values.contains_key(ATTENTION.id);
    instance.longest(has_quality).or_else(|| instance.longest(|_| true))
}

/// How important an instance's sentence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Importance {
    Baseline,
    OnTheFront,
    Dominated,
    NotMeasured,
    Recomputes,
}

/// Where an instance's sentence stands, and the bytes by which those of the front are in order.
fn rank(instance: &Instance<'_>, decisions: Option<&Decisions>) -> (Importance, f64) {
    if !instance.rows.is_empty() && instance.rows.iter().all(|row| row.cell.baseline.is_none()) {
        return (Importance::Recomputes, 0.0);
    }
    let Some(row) = told(instance) else { return (Importance::NotMeasured, 0.0) };
    if is_baseline(row) {
        return (Importance::Baseline, 0.0);
    }
    let tables = decisions.into_iter().flat_map(|decisions| &decisions.tables);
    let of_row = tables.filter(|table| (table.length, table.batch) == (row.cell.seq_len, row.cell.batch));
    let mut choices = of_row.flat_map(|table| &table.rows);
    match choices.find(|choice| choice.label == instance.label) {
        Some(choice) if choice.is_dominated => (Importance::Dominated, 0.0),
        _ => (Importance::OnTheFront, row.value(HEAP.id).unwrap_or(f64::INFINITY)),
    }
}

fn sentence(instance: &Instance<'_>, all: &[Instance<'_>], axis: Option<&QualityAxis>, margin: f64) -> String {
    let label = instance.label;
    let Some(row) = told(instance) else {
        let reason = instance.failed.first().map_or(String::new(), |row| {
            let reason = row.error.as_ref().map_or(String::new(), |error| format!(": {error}"));
            format!(" ({}{reason})", row.status)
        });
        return format!("{label} was measured at no length{reason}.");
    };
    let place = at(row.cell.seq_len, row.cell.batch);
    let quality = match role(instance, all) {
        Role::Reference => "recomputes, so it is exact".into(),
        Role::Cache => of_quality(row, axis),
    };
    let cost = costs(row, all, margin);
    let found: String = needles(row).into_iter().chain(losses(row)).map(|found| format!("; {found}")).collect();
    if is_baseline(row) {
        let subject = if quality.starts_with("its ") { "" } else { "it " };
        return format!("{label} is the baseline: at {place} it {cost}, and {subject}{quality}{found}.");
    }
    format!("{label} at {place} {cost}, and {quality}{found}.")
}

/// Bytes and time, beside the baseline's where there is one.
fn costs(row: &Row, all: &[Instance<'_>], margin: f64) -> String {
    if is_baseline(row) {
        let heap = row.value(HEAP.id).map_or("takes bytes that were not counted".into(), |heap| format!("takes {}", bytes(heap)));
        let time =
            row.values.get(TPOT.id).map_or("steps that were not timed".into(), |time| format!("{} ms per token", with_interval(time)));
        return format!("{heap} and {time}");
    }
    let baseline = all.iter().filter_map(|instance| instance.at(row.cell.seq_len)).find(|row| is_baseline(row));
    let ratio = row.value(HEAP.id).zip(baseline.and_then(|baseline| baseline.value(HEAP.id))).filter(|(_, usual)| *usual > 0.0);
    let heap = match (ratio, row.value(HEAP.id)) {
        (_, Some(own)) if own < NEXT_TO_NOTHING => "holds nothing between steps".to_owned(),
        (Some((own, usual)), _) => format!("takes {:.2} times the baseline's bytes", own / usual),
        (None, Some(own)) => format!("takes {}", bytes(own)),
        (None, None) => "takes bytes that were not counted".into(),
    };
    let bound = if row.is_implementation_bound() { "; implementation-bound" } else { "" };
    let time = match (row.values.get(RATIO.id), row.values.get(TPOT.id)) {
        (Some(ratio), _) => {
            let verdict = match ratio.verdict.as_deref() {
                Some("same") => format!("same within {} %", margin * 100.0),
                Some(verdict) => verdict.to_owned(),
                None => ratio.reason.as_ref().map_or("no verdict".into(), |reason| format!("no verdict: {reason}")),
            };
            // Whose time it is, is only plain behind the baseline's bytes.
            let whose = if heap.ends_with("the baseline's bytes") { "its" } else { "the baseline's" };
            format!("{} times {whose} time per token ({verdict}{bound})", with_interval(ratio))
        }
        (None, Some(time)) => format!("{} ms per token (not compared{bound})", with_interval(time)),
        (None, None) => "time per token that was not measured".into(),
    };
    let takes = if heap.starts_with("takes ") { "" } else { "takes " };
    format!("{heap} and {takes}{time}")
}

/// What it does to a model's output, or else to attention.
fn of_quality(row: &Row, axis: Option<&QualityAxis>) -> String {
    let attention = || row.values.get(ATTENTION.id).map(of_attention);
    let divergence = row.values.get(KLD.id);
    if let (Some(_), Some(reason)) = (divergence, row.unranked()) {
        let reason = reason.trim_end_matches('.');
        return attention().map_or(format!("has a KL divergence that says little: {reason}"), |attention| format!("{attention}; {reason}"));
    }
    let Some(divergence) = divergence else {
        let batch = row.cell.batch;
        let at_once = if batch > 1 { format!(" with {batch} sequences at once") } else { String::new() };
        return attention()
            .map_or(format!("its quality was not measured{at_once}"), |attention| format!("{attention} (attention level only)"));
    };
    let floor = row.value(KLD_FLOOR.id).map_or("floor not measured".into(), |floor| format!("floor {}", short(floor)));
    let top1 = row.value(TOP1.id).map_or(String::new(), |share| format!("; same top token in {}", percent(share)));
    let streamed = row.values.get(STREAMED.id).map_or(String::new(), |value| format!(" and by {} nats (streamed)", with_interval(value)));
    let is_on_floor = axis.filter(|axis| axis.metric == KLD).is_some_and(|axis| divergence.value <= axis.floor);
    if is_on_floor {
        return format!(
            "changes the next token's distribution by nothing that can be told ({} nats, prompt exact, {floor}){top1}",
            short(divergence.value)
        );
    }
    format!("changes the next token's distribution by {} nats (prompt exact, {floor}){streamed}{top1}", with_interval(divergence))
}

fn of_attention(error: &Value) -> String {
    format!("changes attention's outputs by {} of their size", with_interval(error))
}

/// The share of planted needles that it finds, beside an exact cache's.
fn needles(row: &Row) -> Option<String> {
    let (own, dense) = row.value(NEEDLES.id).zip(row.value(NEEDLES_DENSE.id))?;
    let of_exact = if own < dense { format!("an exact cache {}", percent(dense)) } else { "as an exact cache does".into() };
    Some(format!("finds {} of planted needles, {of_exact}", percent(own)))
}

/// A share without claiming that it is whole.
fn percent(share: f64) -> String {
    if share == 1.0 { "100 %".into() } else { format!("{:.1} %", (share * 100.0).min(99.9)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Status, UNRANKED, example_quality};

    fn of(results: &Results, label: &str) -> String {
        sentences(results).into_iter().find(|sentence| sentence.starts_with(label)).unwrap()
    }

    fn edit(results: &mut Results, label: &str, change: impl Fn(&mut Row)) {
        results.rows.iter_mut().filter(|row| row.cell.label == label).for_each(change);
    }

    #[test]
    fn each_instance_has_its_costs_and_its_quality() {
        let results = example_quality::results();
        assert_eq!(sentences(&results).len(), 8);
        assert_eq!(
            of(&results, "quantized q8_0"),
            "quantized q8_0 at 2048 tokens takes 0.53 times the baseline's bytes and 0.9926 [0.9727, 1.01] times its time per token (inconclusive), and changes the next token's distribution by 0.00042 [0.00029, 0.00055] nats (prompt exact, floor 1.0e-10); same top token in 99.1 %; finds 99.5 % of planted needles, an exact cache 100 %."
        );
        assert_eq!(
            of(&results, "contiguous f32"),
            "contiguous f32 at 2048 tokens takes 2.00 times the baseline's bytes and 1.15 [1.13, 1.17] times its time per token (slower), and changes the next token's distribution by nothing that can be told (3.0e-11 nats, prompt exact, floor 1.0e-10); same top token in 100 %; finds 100 % of planted needles, as an exact cache does."
        );
        assert!(of(&results, "contiguous f16").starts_with(
            "contiguous f16 is the baseline: at 2048 tokens it takes 45.02 MiB and 27.00 [26.46, 27.54] ms per token, and it changes"
        ));
        assert!(of(&results, "quantized q4_0").contains("(slower; implementation-bound)"));
        let mut results = results;
        edit(&mut results, "quantized q8_0", |row| drop(row.values.insert("streamed_kld_mean".into(), Value::from(3e-4))));
        assert!(of(&results, "quantized q8_0").contains("floor 1.0e-10) and by 0.00030 nats (streamed); same top"));
        let naive = of(&results, "naive");
        let mut compared = results.clone();
        edit(&mut compared, "naive", |row| drop(row.values.insert("tpot_ratio".into(), Value::from(33.0))));
        assert!(of(&compared, "naive").contains("and takes 33.00 times the baseline's time per token"), "{}", of(&compared, "naive"));
        assert!(naive.contains("900 [882, 918] ms per token (not compared), and recomputes, so it is exact;"), "{naive}");
    }

    #[test]
    fn the_baseline_comes_first_then_the_front_by_bytes_and_what_recomputes_last() {
        let results = example_quality::results();
        let labels = [
            "contiguous f16",
            "contiguous f32",
            "paged/16 f32",
            "window 512 + 4",
            "window 512 at",
            "quantized q8_0",
            "quantized q4_0",
            "naive",
        ];
        let order = |results: &Results| -> Vec<&str> {
            sentences(results).iter().map(|told| *labels.iter().find(|label| told.starts_with(*label)).unwrap()).collect()
        };
        let told = order(&results);
        assert_eq!((told[0], told[told.len() - 1]), ("contiguous f16", "naive"), "{told:?}");
        let place = |label: &str| told.iter().position(|other| *other == label).unwrap();
        // q4_0 takes fewer bytes than q8_0, and nothing is better than either in all; a window without sinks is no answer.
        assert!(place("quantized q4_0") < place("quantized q8_0"), "{told:?}");
        assert!(place("quantized q8_0") < place("paged/16 f32"), "{told:?}");
        let one =
            |label: &str| Results { rows: results.rows.iter().filter(|row| row.cell.label == label).cloned().collect(), ..results.clone() };
        assert_eq!(order(&one("quantized q8_0")), ["quantized q8_0"], "one strategy alone has its sentence");
    }

    #[test]
    fn each_batch_has_its_sentences_after_those_of_the_smallest() {
        let mut results = example_quality::results();
        let mut more = results.rows.iter().find(|row| row.cell.label == "quantized q8_0" && row.cell.seq_len == 2048).unwrap().clone();
        more.cell.batch = 4;
        more.values.remove("kld_mean");
        more.values.remove("attn_rel_l2");
        let alone = sentences(&results);
        results.rows.insert(0, more);
        let told = sentences(&results);
        assert_eq!(told[..alone.len()], alone);
        assert!(told[alone.len()].starts_with("quantized q8_0 at 2048 tokens in each of 4 sequences takes 24.02 MiB"), "{told:?}");
        assert!(told[alone.len()].contains("its quality was not measured with 4 sequences at once"), "{told:?}");
    }

    #[test]
    fn one_strategy_alone_is_the_baseline_and_an_interrupted_run_tells_what_it_has() {
        let mut results = example_quality::results();
        results.rows.retain(|row| row.cell.label == "contiguous f16" && row.cell.seq_len == 2048);
        let alone = sentences(&results);
        assert_eq!(alone.len(), 1);
        assert!(alone[0].starts_with("contiguous f16 is the baseline: at 2048 tokens it takes 45.02 MiB"), "{alone:?}");
        // Ended after the times, before bytes and quality.
        results.run.state = crate::RunState::Interrupted;
        results.rows[0].values.retain(|id, _| id.starts_with("tpot"));
        assert_eq!(
            sentences(&results),
            [
                "contiguous f16 is the baseline: at 2048 tokens it takes bytes that were not counted and 27.00 [26.46, 27.54] ms per token, and its quality was not measured."
            ]
        );
    }

    #[test]
    fn verdicts_are_as_they_are() {
        let mut results = example_quality::results();
        edit(&mut results, "quantized q8_0", |row| row.values.get_mut("tpot_ratio").unwrap().verdict = Some("same".into()));
        assert!(of(&results, "quantized q8_0").contains("times its time per token (same within 3 %)"));
        edit(&mut results, "quantized q8_0", |row| {
            let ratio = row.values.get_mut("tpot_ratio").unwrap();
            (ratio.verdict, ratio.reason) = (None, Some("two launches".into()));
        });
        assert!(of(&results, "quantized q8_0").contains("(no verdict: two launches)"));
    }

    #[test]
    fn what_was_not_measured_or_cannot_be_ranked_is_said() {
        let mut results = example_quality::results();
        edit(&mut results, "quantized q8_0", |row| row.notes.push(format!("{UNRANKED}: the perplexity is 60000.")));
        let sentence = of(&results, "quantized q8_0");
        assert!(
            sentence.contains("changes attention's outputs by 0.0060 of their size; quality is not ranked: the perplexity is 60000;"),
            "{sentence}"
        );
        assert!(!sentence.contains("nats"), "{sentence}");
        edit(&mut results, "quantized q8_0", |row| drop(row.values.remove("kld_mean")));
        assert!(of(&results, "quantized q8_0").contains("of their size (attention level only)"));
        edit(&mut results, "quantized q8_0", |row| row.values.clear());
        assert_eq!(
            of(&results, "quantized q8_0"),
            "quantized q8_0 at 2048 tokens takes bytes that were not counted and time per token that was not measured, and its quality was not measured."
        );
        edit(&mut results, "quantized q8_0", |row| (row.status, row.error) = (Status::Oom, Some("3 GiB".into())));
        assert_eq!(of(&results, "quantized q8_0"), "quantized q8_0 was measured at no length (out of memory: 3 GiB).");
    }

    #[test]
    fn the_longest_length_with_quality_counts() {
        let mut results = example_quality::results();
        let longest = results.rows.iter_mut().find(|row| row.cell.label == "quantized q8_0" && row.cell.seq_len == 2048).unwrap();
        longest.values.retain(|id, _| !["kld_mean", "attn_rel_l2"].contains(&id.as_str()));
        assert!(of(&results, "quantized q8_0").starts_with("quantized q8_0 at 1024 tokens"));
    }
}
