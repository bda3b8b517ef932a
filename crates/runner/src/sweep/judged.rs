//! What comparisons say of rows, and whether their numbers can be trusted.

use std::collections::BTreeMap;

use kv_metrics::{Comparison, Verdict};
use kv_report::{Fill, Row, RunRecord, Status, Value, Visit, is_baseline, were};

use super::comparisons::{Comparisons, OfCell};
use super::observations::Part;

/// Adds to every row how it compares with its baseline, and what a reader must know before trusting it.
pub(super) fn judge(rows: &mut [Row], run: &RunRecord, visits: &[Visit]) {
    let comparisons = Comparisons::of(run, visits);
    let baselines: BTreeMap<(String, usize, usize), Row> =
        rows.iter().filter(|row| is_baseline(row)).map(|row| (length(row), row.clone())).collect();
    for row in rows.iter_mut().filter(|row| row.status == Status::Ok) {
        let compared = comparisons.cell(&row.cell.id);
        // Nothing is compared over machines, nor over parts that ran at other times.
        let is_comparable = |baseline: &&Row| run.origin_of(&baseline.cell.block) == run.origin_of(&row.cell.block);
        let baseline = baselines.get(&length(row)).filter(is_comparable);
        // Rows that are generated have none.
        let model = compared.parts.get(&Part::Model).filter(|_| row.fill != Some(Fill::Generated));
        if is_baseline(row) {
            add(row, "control_tpot_ratio", compared.parts.get(&Part::Step));
            add(row, "control_cache_ratio", compared.parts.get(&Part::Cache));
        } else {
            for (id, of, part) in [("tpot_ratio", "tpot_ms_p50", Part::Step), ("cache_ratio", "cache_ms_p50", Part::Cache)] {
                match compared.parts.get(&part) {
                    Some(comparison) => add(row, id, Some(comparison)),
                    None => add_plain(row, id, (of, part), baseline, &compared),
                }
            }
            add(row, "model_ratio", model);
        }
        note_disturbed(row, &compared);
        if !is_baseline(row) {
            note_direction(row, baseline);
            note_canary(row, model);
        }
        add_bandwidth(row, baseline);
    }
}

/// Rows at the same place of the charts.
fn length(row: &Row) -> (String, usize, usize) {
    (row.cell.workload.clone(), row.cell.batch, row.cell.seq_len)
}

fn add(row: &mut Row, id: &str, comparison: Option<&Comparison>) {
    row.values.extend(comparison.map(|comparison| (id.into(), value(comparison))));
}

/// A comparison as a value.
pub(super) fn value(comparison: &Comparison) -> Value {
    let Comparison { ratio, interval, verdict, degrees_of_freedom, launches } = comparison;
    Value {
        value: *ratio,
        statistic: Some("geometric mean".into()),
        samples: Some(*launches),
        interval: Some(*interval),
        verdict: Some(verdict.to_string()),
        degrees_of_freedom: Some(*degrees_of_freedom),
        reason: Some(format!("{degrees_of_freedom:.1} degrees of freedom, 5 % for any false exclusion of 1 in a chart (Holm)")),
    }
}

/// A ratio without an interval, where there is no verdict: of paired times, or else of medians.
fn add_plain(row: &mut Row, id: &str, (of, part): (&str, Part), baseline: Option<&Row>, compared: &OfCell) {
    if let Some(ratio) = compared.ratios.get(&part) {
        let value = Value { statistic: Some("geometric mean".into()), reason: compared.missing.clone(), ..Value::from(*ratio) };
        row.values.insert(id.into(), value);
        return;
    }
    let Some((own, other)) = row.value(of).zip(baseline.and_then(|baseline| baseline.value(of))) else { return };
    let apart = row.cell.baseline.is_none().then(|| "it recomputes, and was timed in a block of its own".to_owned());
    let reason = apart.or_else(|| compared.missing.clone());
    row.values.insert(id.into(), Value { statistic: Some("ratio of medians".into()), reason, ..Value::from(own / other) });
}

/// Says where the ratio points the other way than the times in the same table: they were taken in other ways.
fn note_direction(row: &mut Row, baseline: Option<&Row>) {
    let times = row.value("tpot_ms_p50").zip(baseline.and_then(|baseline| baseline.value("tpot_ms_p50")));
    let (Some((own, other)), Some(ratio)) = (times, row.value("tpot_ratio")) else { return };
    if row.cell.baseline.is_some() && (own / other - 1.0) * (ratio - 1.0) < 0.0 && (own / other / ratio).ln().abs() > 0.05 {
        row.notes.push(format!(
            "the times alone give a ratio of {:.3}, and paired by round it is {ratio:.3}: the machine's speed changed while it was timed, and the pairs take that out",
            own / other
        ));
    }
}

/// What a note says of disturbed launches that count.
pub(crate) const COUNTED_DISTURBED: &str = "counted, because too few others are left";

fn note_disturbed(row: &mut Row, compared: &OfCell) {
    let (disturbed, all) = compared.disturbed;
    if disturbed > 0 {
        let done = if compared.counted < all { "left out" } else { COUNTED_DISTURBED };
        row.notes.push(format!(
            "{disturbed} of {all} launches {} disturbed and {} {done}: for more than 5 % of the time threads waited for a processor, the machine's host gave the time to others, or pages were read from a disk",
            were(disturbed),
            if disturbed == 1 { "is" } else { "are" }
        ));
    }
}

/// The model's part is the same work for all: where it differs, something else than the cache does.
fn note_canary(row: &mut Row, model: Option<&Comparison>) {
    let Some(Comparison { ratio, interval: (low, high), verdict: Verdict::Faster | Verdict::Slower, .. }) = model else { return };
    row.notes.push(format!(
        "the model's part took {ratio:.3} [{low:.3}, {high:.3}] times as long as with the baseline's cache, though its work is the same: what the cache leaves in the processor's caches, or something else than the cache, is in these times"
    ));
}

/// Below this share of what the baseline reaches of the bandwidth, arithmetic binds and not memory.
const IMPLEMENTATION_BOUND: f64 = 0.6;

/// What the cache reads a second, over what the machine can.
fn add_bandwidth(row: &mut Row, baseline: Option<&Row>) {
    let of = |row: &Row| Some(row.value("read_bytes")? / (row.value("cache_ms_p50")? / 1e3) / row.value("read_bandwidth")?);
    let Some(share) = of(row).filter(|share| share.is_finite()) else { return };
    row.values.insert("bandwidth_share".into(), Value::from(share));
    if share > 1.0 && row.cell.baseline.is_some() {
        row.notes.push(format!("its rows come from the processor's caches: it reads {share:.2} times what memory could give"));
    }
    // What fits the processor's caches is not bound by memory at all, and what recomputes reads everything again and again.
    let is_bound_by_memory = row.residency() == "streamed" && row.cell.baseline.is_some();
    let Some(usual) = baseline.filter(|_| is_bound_by_memory && !is_baseline(row)).and_then(of) else { return };
    if share < IMPLEMENTATION_BOUND * usual
        && let Some(cache_ms) = row.value("cache_ms_p50")
    {
        row.notes.push(format!(
            "implementation-bound: reads {share:.2} of the bandwidth; at the baseline's share ({usual:.2}) the cache's part would take {:.2} ms instead of {cache_ms:.2} ms",
            cache_ms * share / usual
        ));
    }
}
