//! Results as CSV.

use std::collections::BTreeMap;

use crate::column::{COLUMNS, Cell};
use crate::spreadsheet::as_text;
use crate::{CellRecord, Pass, Results, metric};

/// `results.csv`: one row per finished cell, with a column for each metric. The names of the columns and their order stay
/// the same, and new ones go to the end.
pub fn results_csv(results: &Results) -> Vec<u8> {
    joined_csv(&[results])
}

/// `results.csv` of several runs: the rows of one after those of another. The column `model` tells them apart.
pub fn joined_csv(runs: &[&Results]) -> Vec<u8> {
    let rows = runs.iter().flat_map(|run| &run.rows).map(|row| COLUMNS.iter().map(|column| field(column.cell(row))).collect());
    table(&COLUMNS.map(|column| column.name), rows)
}

fn field(cell: Cell) -> String {
    match cell {
        Cell::Text(text) => as_text(&text),
        Cell::Count(count) => count.to_string(),
        Cell::Measured(value, _) => number(value),
    }
}

/// The columns of `metrics.csv`.
const OF_METRICS: [&str; 15] = [
    "cell",
    "label",
    "strategy",
    "workload",
    "seq_len",
    "batch",
    "metric",
    "unit",
    "statistic",
    "value",
    "interval_low",
    "interval_high",
    "n",
    "verdict",
    "reason",
];

/// `metrics.csv`: one row per value of a finished cell, for scripts. The id of a metric names its statistic too, which has
/// a column of its own.
pub fn metrics_csv(results: &Results) -> Vec<u8> {
    let values = results.rows.iter().flat_map(|row| row.values.iter().map(move |(id, value)| (&row.cell, id, value)));
    let rows = values.map(|(cell, id, value)| {
        let optional = |text: &Option<String>| as_text(text.as_deref().unwrap_or_default());
        vec![
            as_text(&cell.id),
            as_text(&cell.label),
            as_text(&cell.strategy),
            as_text(&cell.workload),
            cell.seq_len.to_string(),
            cell.batch.to_string(),
            as_text(id),
            metric(id).map(|metric| metric.unit.to_string()).unwrap_or_default(),
            optional(&value.statistic),
            number(Some(value.value)),
            number(value.interval.map(|(low, _)| low)),
            number(value.interval.map(|(_, high)| high)),
            value.samples.map(|samples| samples.to_string()).unwrap_or_default(),
            optional(&value.verdict),
            optional(&value.reason),
        ]
    });
    table(&OF_METRICS, rows)
}

/// The columns of `samples.csv`.
const OF_SAMPLES: [&str; 18] = [
    "label", "workload", "seq_len", "batch", "phase", "step", "warm_up", "position", "step_ms", "cache_ms", "seam_ms", "cell", "launch",
    "block", "round", "turn", "control", "process",
];

/// `samples.csv`: one row per timed step.
pub fn samples_csv(results: &Results) -> Vec<u8> {
    let cells: BTreeMap<&str, &CellRecord> = results.run.cells.iter().map(|cell| (cell.id.as_str(), cell)).collect();
    let visits = results.visits.iter().filter(|visit| visit.pass == Pass::Latency);
    let steps = visits.flat_map(|visit| visit.steps.iter().map(move |step| (visit, step)));
    let rows = steps.map(|(visit, step)| {
        let cell = cells.get(visit.cell.as_str()).copied();
        // The times of a cell that is not in the plan are kept, without what the plan says of the cell.
        let of_cell = |of: fn(&CellRecord) -> String| cell.map(of).unwrap_or_default();
        vec![
            of_cell(|cell| as_text(&cell.label)),
            of_cell(|cell| as_text(&cell.workload)),
            of_cell(|cell| cell.seq_len.to_string()),
            of_cell(|cell| cell.batch.to_string()),
            as_text(&step.phase),
            step.step.to_string(),
            step.warm_up.to_string(),
            step.position.to_string(),
            number(Some(step.step_ms)),
            number(Some(step.cache_ms)),
            number(Some(step.seam_ms)),
            as_text(&visit.cell),
            visit.launch.to_string(),
            as_text(visit.block.as_deref().unwrap_or_default()),
            step.round.to_string(),
            visit.turns.get(step.round as usize).filter(|_| step.phase == "decode").map(ToString::to_string).unwrap_or_default(),
            visit.control.to_string(),
            visit.process.map(|process| process.to_string()).unwrap_or_default(),
        ]
    });
    table(&OF_SAMPLES, rows)
}

/// The shortest text that is read back as the same number.
pub(crate) fn number(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

pub(crate) fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Vec<u8> {
    const LENGTHS: &str = "a row has a field for each column, and memory takes every byte";
    let mut writer = csv::Writer::from_writer(vec![]);
    writer.write_record(header).expect(LENGTHS);
    for row in rows {
        writer.write_record(row).expect(LENGTHS);
    }
    writer.into_inner().expect(LENGTHS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use crate::spreadsheet::{is_formula, of_text, tests::TEXTS};
    use crate::{Fill, Status, TtftSource, Value};

    /// The names and the records of a table.
    fn read(csv: &[u8]) -> (Vec<String>, Vec<Vec<String>>) {
        let mut reader = csv::Reader::from_reader(csv);
        let texts = |record: &csv::StringRecord| record.iter().map(str::to_owned).collect::<Vec<_>>();
        (texts(reader.headers().unwrap()), reader.records().map(|record| texts(&record.unwrap())).collect())
    }

    fn column(csv: &[u8], name: &str) -> Vec<String> {
        let (names, records) = read(csv);
        let index = names.iter().position(|each| each == name).unwrap();
        records.into_iter().map(|mut record| record.swap_remove(index)).collect()
    }

    /// Scripts read these names, and the first 28 are those of earlier versions.
    #[test]
    fn the_names_of_columns_are_stable() {
        let results = example::results();
        let header = |csv: Vec<u8>| String::from_utf8(csv).unwrap().lines().next().unwrap().to_owned();
        assert_eq!(
            header(results_csv(&results)),
            "label,strategy,model,workload,seq_len,batch,status,error,guarantee,ttft_ms,tpot_ms_p50,tpot_ms_p95,\
             cache_ms_p50,seam_ms_p50,model_ms_p50,tokens_per_s,total_ms,payload_bytes,metadata_bytes,slack_bytes,\
             reserved_bytes,scratch_peak_bytes,heap_live_bytes,heap_peak_bytes,bytes_per_token,seen_tokens,resident_tokens,\
             model_bytes,cell,block,phase,fill,ttft_source,predicted_bytes,recorded_model_ms,replayed_cache_ms,ttft_real_ms,\
             fill_ms,notes,tpot_ms_p50_low,tpot_ms_p50_high,tpot_ratio,tpot_ratio_low,tpot_ratio_high,tpot_verdict,\
             cache_ratio,cache_ratio_low,cache_ratio_high,cache_verdict,launches,model_ratio,control_tpot_ratio,\
             control_cache_ratio,read_bytes,read_bandwidth,bandwidth_share,residency,working_set_bytes,\
             last_level_cache_bytes,first_depth_tokens,last_depth_tokens,run_delay_share,steal_share,page_faults,\
             control_tpot_ratio_low,control_tpot_ratio_high,major_page_faults,control_cache_ratio_low,\
             control_cache_ratio_high,formula_bytes,usage_bytes,formula_residual_bytes,ledger_residual_bytes,rss_bytes,\
             pss_bytes,allocator_kept_bytes,untouched_bytes,rss_residual_bytes,rss_peak_prefill_bytes,rss_peak_decode_bytes,\
             transient_peak_prefill_bytes,transient_peak_decode_bytes,harness_rows_bytes,allocs_per_token,\
             allocated_bytes_per_token,effective_bits,heap_open_bytes,heap_closed_bytes,fork_bytes,fork_step_bytes,\
             shared_bytes,sequence_bytes,fork_shared_bytes,heap_slope,heap_intercept_bytes,ended_at_tokens,needed_bytes,\
             attn_rel_l2,attn_cosine,key_rel_l2,value_rel_l2,retained_mass,topk_recall,needle_acc,needle_acc_dense,\
             needle_acc_tight,recency_acc,start_acc,needle_chance,ppl,ppl_reference,ppl_delta,kld_mean,kld_median,kld_p99,\
             kld_p999,kld_max,kld_floor,same_top1,tied_top1,p_rms,first_difference_tokens,tail_kld_mean,quality_windows,\
             quality_tokens,streamed_ppl,streamed_ppl_reference,streamed_ppl_delta,streamed_kld_mean,streamed_kld_p99,\
             streamed_same_top1,streamed_tail_kld_mean,streamed_chunk_tokens,streamed_kld_median,streamed_kld_p999,\
             streamed_kld_max,streamed_tied_top1,streamed_p_rms,streamed_first_difference_tokens,streamed_tokens,\
             model_needle_acc,model_needle_acc_dense,model_needle_questions,lookup_acc,lookup_acc_dense,lookup_questions,\
             ppl_delta_low,ppl_delta_high,kld_mean_low,kld_mean_high,same_top1_low,same_top1_high,needle_acc_low,\
             needle_acc_high,recency_acc_low,recency_acc_high,ppl_low,ppl_high,kld_p99_low,kld_p99_high,attn_rel_l2_low,\
             attn_rel_l2_high,retained_mass_low,retained_mass_high,needle_acc_dense_low,needle_acc_dense_high,\
             model_needle_acc_low,model_needle_acc_high,model_needle_acc_dense_low,model_needle_acc_dense_high,\
             lookup_acc_low,lookup_acc_high,lookup_acc_dense_low,lookup_acc_dense_high,machine"
        );
        assert_eq!(
            header(metrics_csv(&results)),
            "cell,label,strategy,workload,seq_len,batch,metric,unit,statistic,value,interval_low,interval_high,n,verdict,reason"
        );
        assert_eq!(
            header(samples_csv(&results)),
            "label,workload,seq_len,batch,phase,step,warm_up,position,step_ms,cache_ms,seam_ms,cell,launch,block,round,turn,control,process"
        );
    }

    #[test]
    fn tables_without_rows_have_their_header() {
        let full = example::results();
        let empty = crate::Results { rows: vec![], visits: vec![], ..full.clone() };
        for of in [results_csv, metrics_csv, samples_csv] {
            let (names, records) = read(&of(&empty));
            assert_eq!((names, records.len()), (read(&of(&full)).0, 0));
        }
    }

    #[test]
    fn a_row_has_its_values_and_a_failed_one_its_phase_and_reason() {
        let mut results = example::results();
        results.rows[0].fill = Some(Fill::Replay);
        results.rows[0].ttft_source = Some(TtftSource::Composed);
        results.rows[0].notes = vec!["one".into(), "two, \"quoted\"".into()];
        let csv = results_csv(&results);
        let first = |name: &str| column(&csv, name).swap_remove(0);
        assert_eq!(["tpot_ms_p50", "heap_live_bytes", "total_ms"].map(first), ["1.25", "4096", ""]);
        assert_eq!(["fill", "ttft_source", "notes"].map(first), ["replay", "composed", "one; two, \"quoted\""]);
        assert_eq!(column(&csv, "status"), ["ok", "ok", "timed out", "out of memory"]);
        assert_eq!(column(&csv, "phase"), ["", "", "prefill", "fill"]);
        assert_eq!(column(&csv, "error")[2], "no answer for 60 s");
        results.rows[0].status = Status::Failed;
        assert_eq!(column(&results_csv(&results), "status")[0], "failed");
    }

    #[test]
    fn a_value_is_a_row_with_its_unit_and_its_statistic() {
        let mut results = example::results();
        results.rows.truncate(1);
        let interval = Value {
            value: 0.5,
            statistic: Some("p50".into()),
            samples: Some(31),
            interval: Some((0.25, 0.75)),
            degrees_of_freedom: None,
            verdict: Some("faster".into()),
            reason: Some("all of 31".into()),
        };
        results.rows[0].values = [("cache_ms_p50".into(), interval), ("heap_live_bytes".into(), Value::from(4096.0))].into();
        let cell = ["a", "contiguous", "contiguous", "decode", "128", "1"];
        let with = |rest: [&'static str; 9]| [cell.as_slice(), &rest].concat();
        assert_eq!(
            read(&metrics_csv(&results)).1,
            [
                with(["cache_ms_p50", "ms", "p50", "0.5", "0.25", "0.75", "31", "faster", "all of 31"]),
                with(["heap_live_bytes", "bytes", "", "4096", "", "", "", "", ""]),
            ]
        );
    }

    #[test]
    fn a_step_of_a_latency_pass_is_a_row() {
        let (_, records) = read(&samples_csv(&example::results()));
        let steps: usize = example::visits().iter().filter(|visit| visit.pass == Pass::Latency).map(|visit| visit.steps.len()).sum();
        assert_eq!(records.len(), steps);
        assert_eq!(
            records[1],
            [
                "contiguous",
                "decode",
                "128",
                "1",
                "decode",
                "0",
                "true",
                "129",
                "2.5",
                "0.5",
                "0.125",
                "a",
                "0",
                "decode at 128",
                "0",
                "2",
                "false",
                "4711"
            ]
        );
        let mut unplanned = example::results();
        unplanned.run.cells.clear();
        let (_, records) = read(&samples_csv(&unplanned));
        assert_eq!(
            records[1],
            ["", "", "", "", "decode", "0", "true", "129", "2.5", "0.5", "0.125", "a", "0", "decode at 128", "0", "2", "false", "4711"]
        );
    }

    #[test]
    fn no_field_of_a_table_is_a_formula_and_every_text_comes_back() {
        for text in TEXTS {
            let some = || Some(text.to_owned());
            let cell = CellRecord {
                id: text.into(),
                label: text.into(),
                strategy: text.into(),
                workload: text.into(),
                seq_len: 1,
                batch: 1,
                block: text.into(),
                baseline: some(),
            };
            let mut results = example::results();
            let value = Value { statistic: some(), verdict: some(), reason: some(), ..Value::from(1.0) };
            results.rows.truncate(1);
            let row = &mut results.rows[0];
            (row.cell, row.model) = (cell.clone(), text.into());
            (row.phase, row.error, row.guarantee, row.notes) = (some(), some(), some(), vec![text.into()]);
            row.values = [(text.into(), value)].into();
            results.run.cells = vec![cell];
            results.visits.truncate(1);
            results.visits[0].cell = text.into();
            results.visits[0].steps[0].phase = text.into();
            for csv in [results_csv(&results), metrics_csv(&results), samples_csv(&results)] {
                let (names, records) = read(&csv);
                let formula = records.iter().flatten().find(|field| is_formula(field));
                assert_eq!(formula, None, "{text}: {names:?}");
                assert_eq!(of_text(&column(&csv, "label")[0]), text);
                assert_eq!(of_text(&column(&csv, "cell")[0]), text);
            }
        }
    }
}
