//! The charts of a sweep.

mod generated;

use crate::front::{self, NEXT_TO_NOTHING};
use crate::instances::instances;
use crate::metric::known;
use crate::noise::{baselines, is_baseline};
use crate::peer_lines::add_peers;
use crate::quality_axis::QualityAxis;
use crate::recall_charts::recall_charts;
use crate::{
    Axis, Chart, Form, Interval, Level, Metric, Peer, Protocol, Quantity, Results, Row, Scale, Series, SpeedUps, TtftSource, Value,
    speed_up_chart,
};
use crate::{along_text, ledger, quality_lines, retrieval, workload_charts};

const TPOT: &Metric = known("tpot_ms_p50");
const TTFT: &Metric = known("ttft_ms");
const HEAP: &Metric = known("heap_live_bytes");
const BANDWIDTH: &Metric = known("bandwidth_share");
const CACHE: &Metric = known("cache_ms_p50");
const TPOT_RATIO: &Metric = known("tpot_ratio");
const CACHE_RATIO: &Metric = known("cache_ratio");

/// Every chart for which the results have points, those of quality first. Peers appear in the charts that they have measurements for.
pub fn charts(results: &Results, peers: &[Peer]) -> Vec<Chart> {
    let names = Names::of(results);
    let depth = Axis::new("sequence length (tokens)", Scale::Log).of(Quantity::SequenceLength);
    let milliseconds = |what: &str| Axis::new(format!("{what} (ms)"), Scale::Log).of(Quantity::Time);
    let at_depth =
        |metric: &Metric| names.series(results, |row| row.values.get(metric.id).filter(|_| row.cell.workload == "decode").cloned());
    let compared = |metric: &'static Metric| names.series(results, move |row| compared(row, metric));
    let relative = Axis::new(format!("ratio to {}", baselines(results).unwrap_or_default()), Scale::Log);
    let mut charts = vec![
        Chart {
            name: "latency",
            title: "Time per output token at depth".into(),
            caption: "Median time of one decode step with this many tokens already in the cache. Lower is better. A flat line is best."
                .into(),
            x: depth.clone(),
            y: milliseconds("time per output token"),
            form: Form::Lines,
            series: at_depth(TPOT),
        },
        Chart {
            name: "ttft",
            title: "Time to first token".into(),
            caption: ttft_caption(results),
            x: depth.clone(),
            y: milliseconds("time to first token"),
            form: Form::Lines,
            series: at_depth(TTFT),
        },
        Chart {
            name: "relative",
            title: "Time per output token, relative to the baseline".into(),
            caption: "The geometric mean over launches; of each launch, the median over its rounds of the ratio of the two instances' times in that round. With intervals. Below 1 is faster. An interval that holds 1 shows no difference: if all strategies were alike, any interval of the chart would exclude 1 with a probability of 5 %."
                .into(),
            x: depth.clone(),
            y: relative.clone(),
            form: Form::Lines,
            series: compared(TPOT_RATIO),
        },
        Chart {
            name: "cache",
            title: "The cache's own time per decode step".into(),
            caption: "begin, append, attend and commit over all layers: the part of a step that strategies differ in. Lower is better.".into(),
            x: depth.clone(),
            y: milliseconds("the cache's part of a step"),
            form: Form::Lines,
            series: names.series(results, |row| row.values.get(CACHE.id).filter(|_| row.cell.workload == "decode" && row.cell.baseline.is_some()).cloned()),
        },
        Chart {
            name: "cache-relative",
            title: "The cache's own time, relative to the baseline's".into(),
            caption: "The same ratio of the cache's part alone. Below 1 is faster.".into(),
            x: depth.clone(),
            y: relative,
            form: Form::Lines,
            series: compared(CACHE_RATIO),
        },
        Chart {
            name: "bandwidth",
            title: "Bandwidth reached, of what the machine's memory gives".into(),
            caption: "What a step reads of the cache per time of the cache's part, over the bandwidth of plain reads that was measured on this machine. 1 is what the memory can give; above 1, the rows come from the processor's caches. Higher is better."
                .into(),
            x: depth.clone(),
            y: Axis::new("share of the memory's bandwidth", Scale::Linear),
            form: Form::Lines,
            series: at_depth(BANDWIDTH),
        },
        Chart {
            name: "memory",
            title: "Heap held by the cache".into(),
            caption: memory_caption(results),
            x: depth.clone(),
            y: Axis::new("live heap between steps (MiB)", Scale::Log),
            form: Form::Lines,
            series: names.series(results, |row| {
                row.value(HEAP.id).filter(|bytes| *bytes >= NEXT_TO_NOTHING).map(|bytes| Value::from(bytes / MIB))
            }),
        },
        ledger::bars(results),
        along_text::heap(results, |label, batch| names.style(label, batch)),
        along_text::time(results, |label, batch| names.style(label, batch)),
    ];
    charts.extend(generated::charts(results, &names));
    add_peers(&mut charts, peers, &lines(results));
    charts.splice(0..0, of_quality(results, &names, depth));
    charts.extend(workload_charts::charts(results, |label, batch| names.style(label, batch), names.lines.len()));
    if results.run.level != Level::Model {
        // There a step is the cache's own, and has charts of its own already.
        charts.retain(|chart| !matches!(chart.name, "cache" | "cache-relative"));
        charts
            .iter_mut()
            .filter(|chart| chart.name != "memory")
            .for_each(|chart| chart.caption.push_str(" Of the cache alone: no model ran."));
    }
    let machines = results.run.machines().len();
    if machines > 1 {
        charts.iter_mut().filter(|chart| chart.has_times()).for_each(|chart| {
            chart.caption.push_str(&format!(
                " Times of {machines} machines meet in this chart: only those of one comparison block were taken on the same machine, which the column `machine` names."
            ));
        });
    }
    // A baseline alone is compared with nothing.
    charts.retain(|chart| !chart.name.ends_with("relative") || chart.series.len() > 1);
    charts.retain(|chart| chart.series.iter().any(|series| !series.points.is_empty()));
    // One length is no line.
    let speed_up = speed_up_chart(&[SpeedUps::of(&results.run.model.name, results)]);
    charts.extend(speed_up.filter(|chart| chart.series.iter().any(|series| series.points.len() > 1)));
    charts
}

/// Quality against costs, by length, along the text, and of needles.
fn of_quality(results: &Results, names: &Names, depth: Axis) -> Vec<Chart> {
    let style = |label: &str, batch: usize| names.style(label, batch);
    let found = recall_charts(results, &depth, style).into_iter().chain([retrieval::bars(results)]);
    let Some(axis) = QualityAxis::of(&instances(results)) else { return found.collect() };
    let mut charts = front::fronts(results, &axis, style);
    let by_length = names.series(results, |row| quality_lines::by_length(row, &axis));
    charts.push(quality_lines::length_chart(&axis, depth.clone(), by_length));
    charts.extend([Protocol::PromptExact, Protocol::Streamed].map(|protocol| quality_lines::by_depth(results, &axis, protocol, style)));
    charts.extend(found);
    charts
}

/// A ratio to the baseline; the baseline's own is 1.
fn compared(row: &Row, ratio: &Metric) -> Option<Value> {
    if row.cell.workload != "decode" || row.cell.baseline.is_none() {
        return None;
    }
    if is_baseline(row) { Some(Value::from(1.0)) } else { row.values.get(ratio.id).cloned() }
}

pub(crate) const MIB: f64 = 1024.0 * 1024.0;

fn ttft_caption(results: &Results) -> String {
    let timed = "Time from a prompt of this many tokens to the first generated token. Lower is better.";
    if results.rows.iter().any(|row| row.ttft_source == Some(TtftSource::Composed)) {
        format!("{timed} Composed: the model's part was recorded once, the cache's part timed in its own replay (column ttft_source).")
    } else {
        timed.into()
    }
}

fn memory_caption(results: &Results) -> String {
    let mut empty: Vec<&str> = (results.rows.iter())
        .filter(|row| row.value(HEAP.id).is_some_and(|bytes| bytes < NEXT_TO_NOTHING))
        .map(|row| row.cell.label.as_str())
        .collect();
    empty.dedup();
    let counted = "Exact bytes at this length, between steps, counted by the allocator. Lower is better.";
    match empty.as_slice() {
        [] => counted.into(),
        labels => format!("{counted} Caches that hold nothing between steps are not drawn: {}.", labels.join(", ")),
    }
}

/// A line of the charts over lengths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// As legends have it.
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) batch: usize,
    pub(crate) style: usize,
}

/// Every line of the charts, in the order of the config.
pub(crate) fn lines(results: &Results) -> Vec<Line> {
    let names = Names::of(results);
    let line = |(style, (label, batch)): (usize, &(String, usize))| Line {
        name: names.name(label, *batch),
        label: label.clone(),
        batch: *batch,
        style,
    };
    names.lines.iter().enumerate().map(line).collect()
}

/// The lines of a report: one per label, workload and batch, named by what distinguishes them.
struct Names {
    /// In the order of the config.
    lines: Vec<(String, usize)>,
    several_batches: bool,
}

impl Names {
    fn of(results: &Results) -> Names {
        let mut lines: Vec<(String, usize)> = vec![];
        for row in &results.rows {
            let line = (row.cell.label.clone(), row.cell.batch);
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        let several_batches = lines.iter().any(|(_, batch)| *batch != lines[0].1);
        Names { lines, several_batches }
    }

    fn name(&self, label: &str, batch: usize) -> String {
        if self.several_batches { format!("{label} ×{batch}") } else { label.to_owned() }
    }

    /// A line's name and style.
    fn style(&self, label: &str, batch: usize) -> (String, usize) {
        let style = self.lines.iter().position(|line| line.0 == label && line.1 == batch).unwrap_or(self.lines.len());
        (self.name(label, batch), style)
    }

    fn series(&self, results: &Results, y: impl Fn(&Row) -> Option<Value>) -> Vec<Series> {
        let line = |(style, (label, batch)): (usize, &(String, usize))| {
            let rows = results.rows.iter().filter(|row| row.cell.label == *label && row.cell.batch == *batch);
            let mut values: Vec<(f64, Value)> = rows.filter_map(|row| Some((row.cell.seq_len as f64, y(row)?))).collect();
            // Both axes are logarithmic.
            values.retain(|(x, y)| *x > 0.0 && y.value > 0.0 && y.value.is_finite());
            values.sort_by(|a, b| a.0.total_cmp(&b.0));
            values.dedup_by_key(|value| value.0);
            let interval =
                |(x, y): &(f64, Value)| y.interval.filter(|(low, _)| *low > 0.0).map(|(low, high)| Interval { x: *x, low, high });
            let intervals = values.iter().filter_map(interval).collect();
            Series { name: self.name(label, *batch), style, points: values.iter().map(|(x, y)| (*x, y.value)).collect(), intervals }
        };
        self.lines.iter().enumerate().map(line).filter(|series| !series.points.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;
    use crate::chart_names;
    use crate::example;

    fn points(charts: &[Chart], name: &str) -> Vec<(f64, f64)> {
        charts.iter().find(|chart| chart.name == name).unwrap().series[0].points.clone()
    }

    #[test]
    fn absolute_times_of_several_machines_are_not_drawn_without_saying_so() {
        let mut results = example::results();
        let telling = |results: &Results| {
            let of = |chart: &&Chart| chart.caption.contains("Times of 2 machines meet in this chart");
            charts(results, &[]).iter().filter(of).map(|chart| chart.name).collect::<Vec<_>>()
        };
        assert!(telling(&results).is_empty());
        results.run.part = Some(crate::PartRecord { part: 2, of: 2, blocks: vec![], cells: vec![] });
        results.run.origins = vec![crate::OriginRecord {
            part: Some(2),
            run_id: String::new(),
            order_seed: 0,
            machine_id: Some("88cd".into()),
            environment: crate::Environment::default(),
            blocks: vec!["generate 3".into()],
        }];
        assert_eq!(telling(&results), ["latency", "ttft", "steps", "cumulative"], "bytes are the same everywhere");
    }

    #[test]
    fn a_run_has_its_charts_and_one_without_rows_has_none() {
        let mut results = example::results();
        let all = charts(&results, &[]);
        assert_eq!(all.iter().map(|chart| chart.name).collect::<Vec<_>>(), ["latency", "ttft", "memory", "steps", "cumulative"]);
        assert!(all.iter().all(|chart| chart_names().any(|name| name == chart.name)));
        // Of the two launches, one is drawn.
        assert_eq!(points(&all, "cumulative"), [(1.0, 0.0025), (2.0, 0.005), (3.0, 0.0075)]);
        assert_eq!(points(&all, "latency"), [(128.0, 1.25)]);
        assert_eq!(points(&all, "memory"), [(3.0, 1.0 / 256.0), (128.0, 1.0 / 256.0)]);
        results.rows.clear();
        assert!(charts(&results, &[]).is_empty());
    }

    #[test]
    fn the_bandwidth_is_drawn_where_it_is_known() {
        let mut results = example::results();
        results.rows[0].values.insert(BANDWIDTH.id.into(), Value::from(1.5));
        let all = charts(&results, &[]);
        assert_eq!(points(&all, "bandwidth"), [(128.0, 1.5)]);
        let chart = all.iter().find(|chart| chart.name == "bandwidth").unwrap();
        assert!(chart.caption.contains("above 1, the rows come from the processor's caches"), "{}", chart.caption);
        assert!(chart_names().any(|name| name == "bandwidth"));
    }

    #[test]
    fn quality_has_its_charts_before_those_of_costs() {
        let mut results = crate::example_quality::results();
        let all = charts(&results, &[]);
        let names: Vec<_> = all.iter().map(|chart| chart.name).collect();
        assert_eq!(names[..7], ["front-bytes", "front-latency", "quality", "quality-depth", "quality-streamed", "retrieval", "latency"]);
        assert!(names.iter().all(|name| chart_names().any(|known| known == *name)));
        let of = |chart: usize| &all[chart].series.iter().find(|series| series.name == "quantized q8_0").unwrap().style;
        assert!((0..5).all(|chart| of(chart) == of(6)), "the same style in every chart");
        results.rows.iter_mut().for_each(|row| row.values.retain(|id, _| !["kld_mean", "attn_rel_l2"].contains(&id.as_str())));
        assert_eq!(charts(&results, &[])[..2].iter().map(|chart| chart.name).collect::<Vec<_>>(), ["retrieval", "latency"]);
    }

    #[test]
    fn what_is_compared_is_drawn_relative_to_the_baseline_with_its_intervals() {
        let mut results = example::results();
        let mut other = results.rows[0].clone();
        other.cell.id = "e".into();
        other.cell.label = "other".into();
        let ratio = |low: f64, high: f64| Value { interval: Some((low, high)), ..Value::from(1.5) };
        other.values.insert("tpot_ratio".into(), ratio(1.25, 1.75));
        other.values.insert("cache_ratio".into(), ratio(0.5, 2.0));
        other.values.insert("cache_ms_p50".into(), Value { interval: Some((0.25, 1.0)), ..Value::from(0.5) });
        results.rows.push(other);
        let all = charts(&results, &[]);
        let names: Vec<_> = all.iter().map(|chart| chart.name).collect();
        assert_eq!(names, ["latency", "ttft", "relative", "cache", "cache-relative", "memory", "steps", "cumulative"]);
        assert!(names.iter().all(|name| chart_names().any(|known| known == *name)), "the others are those of a ledger");
        let relative = &all[2];
        assert_eq!(relative.y.label, "ratio to contiguous");
        assert_eq!((relative.series[0].points.as_slice(), relative.series[0].intervals.len()), ([(128.0, 1.0)].as_slice(), 0));
        assert_eq!(relative.series[1].intervals, [Interval { x: 128.0, low: 1.25, high: 1.75 }]);
        assert_eq!(relative.bounds(), Some(((128.0, 128.0), (1.0, 1.75))), "intervals are within the axes");
        assert_eq!(all[3].series.last().unwrap().intervals, [Interval { x: 128.0, low: 0.25, high: 1.0 }]);
    }

    #[test]
    fn what_recomputes_beside_a_baseline_has_a_chart_of_the_speed_up() {
        let mut results = example::results();
        let names = |results: &Results| charts(results, &[]).iter().map(|chart| chart.name).collect::<Vec<_>>();
        let template = results.rows.swap_remove(0);
        for (seq_len, is_drawn) in [(128, false), (256, true)] {
            let mut baseline = template.clone();
            baseline.cell.id = format!("a{seq_len}");
            baseline.cell.baseline = Some(baseline.cell.id.clone());
            baseline.cell.seq_len = seq_len;
            let mut naive = baseline.clone();
            naive.cell.baseline = None;
            naive.values.insert(TPOT.id.into(), Value::from(20.0));
            results.rows.extend([baseline, naive]);
            assert_eq!(names(&results).last() == Some(&"speedup"), is_drawn, "{:?}", names(&results));
        }
        assert!(chart_names().any(|name| name == "speedup"));
    }

    /// A chart of whole steps shows the cache's own time then.
    #[test]
    fn caches_alone_have_no_charts_of_a_part_of_a_step() {
        let mut results = example::results();
        let cache = Value::from(0.5);
        results.rows[0].values.insert(CACHE.id.into(), cache);
        let names = |results: &Results| charts(results, &[]).iter().map(|chart| chart.name).collect::<Vec<_>>();
        assert!(names(&results).contains(&"cache"));
        results.run.level = Level::Attention { rows: crate::RowsOrigin::Generated, seed: 0, measured_layers: 2 };
        assert_eq!(names(&results), ["latency", "ttft", "memory", "steps", "cumulative"]);
        let all = charts(&results, &[]);
        assert!(all[0].caption.ends_with("Of the cache alone: no model ran."), "{}", all[0].caption);
        // Two of four layers were measured.
        assert_eq!(points(&all, "cumulative"), [(1.0, 0.005), (2.0, 0.01), (3.0, 0.015)]);
    }

    #[test]
    fn a_composed_time_to_first_token_says_so() {
        let caption = |results: &Results| charts(results, &[]).into_iter().find(|chart| chart.name == "ttft").unwrap().caption;
        let mut results = example::results();
        assert!(!caption(&results).contains("omposed"));
        results.rows[1].ttft_source = Some(TtftSource::Composed);
        assert!(caption(&results).contains("Composed"));
    }

    #[test]
    fn a_value_that_a_logarithmic_axis_cannot_show_is_not_drawn() {
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut results = example::results();
            results.rows[0].values.insert(TPOT.id.into(), Value::from(value));
            assert!(charts(&results, &[]).iter().all(|chart| chart.name != "latency"), "{value}");
        }
    }
}
