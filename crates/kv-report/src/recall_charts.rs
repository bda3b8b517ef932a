//! The share of facts that a model still finds, by length and by their place in the prompt, beside that with an exact cache.

use crate::instances::instances;
use crate::recall::{LOOKUP, NEEDLE, Recall};
use crate::{Axis, Chart, Form, Interval, Part, Protocol, QualityPoint, Results, Scale, Series, Status, Value};

/// The names of the charts of a task.
struct Charts {
    recall: Recall,
    by_length: &'static str,
    by_depth: &'static str,
    title: &'static str,
    what: &'static str,
}

const CHARTS: [Charts; 2] = [
    Charts {
        recall: NEEDLE,
        by_length: "needles",
        by_depth: "needles-depth",
        title: "Needles that the model finds",
        what: "Sentences spread over a text state numbers, and the model is asked for them.",
    },
    Charts {
        recall: LOOKUP,
        by_length: "lookups",
        by_depth: "lookups-depth",
        title: "Lookups that the model answers",
        what: "The prompt is lines of names and numbers, and the model is asked for the numbers of some names.",
    },
];

const EXACT: &str = "exact cache";
const CEILING: &str = "The line of the exact cache is what the model can do at all. Higher is better.";

/// Two charts of each task that tells caches apart at some length. `style` gives an instance's name and style by its label and
/// batch, and the next free style for what is none.
pub(crate) fn recall_charts(results: &Results, depth: &Axis, style: impl Fn(&str, usize) -> (String, usize)) -> Vec<Chart> {
    let of_task = |charts: &Charts| {
        let instances = instances(results);
        let rows = || instances.iter().flat_map(|instance| &instance.rows);
        let Some(longest) = rows().filter(|row| charts.recall.discriminates(row)).map(|row| row.cell.seq_len).max() else {
            return vec![];
        };
        vec![by_length(charts, results, depth, &style), by_depth(charts, results, longest, &style)]
    };
    CHARTS.iter().flat_map(of_task).collect()
}

fn share() -> Axis {
    Axis::new("share answered", Scale::Linear)
}

fn by_length(charts: &Charts, results: &Results, depth: &Axis, style: impl Fn(&str, usize) -> (String, usize)) -> Chart {
    let instances = instances(results);
    let mut series: Vec<Series> = (instances.iter())
        .map(|instance| {
            let own = |row: &&&crate::Row| row.values.contains_key(charts.recall.accuracy);
            let points = instance.rows.iter().filter(own).map(|row| (row.cell.seq_len as f64, &row.values[charts.recall.accuracy]));
            line(style(instance.label, 1), points.collect())
        })
        .collect();
    // The same beside every instance: of each length, the first that has it.
    let dense = |row: &&&crate::Row| row.values.contains_key(charts.recall.dense);
    let mut ceiling: Vec<(f64, &Value)> = (instances.iter().flat_map(|instance| &instance.rows))
        .filter(dense)
        .map(|row| (row.cell.seq_len as f64, &row.values[charts.recall.dense]))
        .collect();
    ceiling.sort_by(|a, b| a.0.total_cmp(&b.0));
    ceiling.dedup_by_key(|(length, _)| *length);
    series.push(line((EXACT.into(), style(EXACT, 1).1), ceiling));
    series.retain(|series| !series.points.is_empty());
    Chart {
        name: charts.by_length,
        title: format!("{} by length", charts.title),
        caption: format!("{} {CEILING}", charts.what),
        x: depth.clone(),
        y: share(),
        form: Form::Lines,
        series,
    }
}

fn line((name, style): (String, usize), values: Vec<(f64, &Value)>) -> Series {
    let interval = |(x, value): &(f64, &Value)| value.interval.map(|(low, high)| Interval { x: *x, low, high });
    let intervals = values.iter().filter_map(interval).collect();
    Series { name, style, points: values.iter().map(|(x, value)| (*x, value.value)).collect(), intervals }
}

fn by_depth(charts: &Charts, results: &Results, length: usize, style: impl Fn(&str, usize) -> (String, usize)) -> Chart {
    let cells: Vec<_> = results.run.cells.iter().filter(|cell| cell.seq_len == length && cell.batch == 1).collect();
    let points = |cell: &str, metric: &str| -> Vec<(f64, f64)> {
        let visits = results.visits.iter().filter(|visit| visit.cell == cell && visit.status == Status::Ok);
        let is_wanted = |point: &&QualityPoint| point.protocol == Protocol::Recall && point.metric == metric;
        let place = |point: &QualityPoint| match point.part {
            Part::Depth { from, to } => Some(((from + to) as f64 / 2.0, point.value)),
            _ => None,
        };
        let mut points: Vec<(f64, f64)> = visits.flat_map(|visit| &visit.quality).filter(is_wanted).filter_map(place).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let of = |(name, style): (String, usize), points| Series { name, style, points, intervals: vec![] };
    let mut series: Vec<Series> =
        cells.iter().map(|cell| of(style(&cell.label, cell.batch), points(&cell.id, charts.recall.accuracy))).collect();
    let ceiling = cells.iter().map(|cell| points(&cell.id, charts.recall.dense)).find(|points| !points.is_empty());
    series.push(of((EXACT.into(), style(EXACT, 1).1), ceiling.unwrap_or_default()));
    series.retain(|series| !series.points.is_empty());
    Chart {
        name: charts.by_depth,
        title: format!("{} by place, {length} tokens", charts.title),
        caption: format!(
            "{} Each point is the share of the questions about facts in a range of the prompt, which are few. {CEILING}",
            charts.what
        ),
        x: Axis::new("place in the prompt (tokens)", Scale::Linear),
        y: share(),
        form: Form::Lines,
        series,
    }
}
