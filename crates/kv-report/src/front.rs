//! Quality against cost, and the Pareto front: the instances that no other is better than.

use crate::instances::{Instance, common_length, instances};
use crate::metric::known;
use crate::quality_axis::QualityAxis;
use crate::shown::{bytes, short};
use crate::spread::Spread;
use crate::{Axis, Chart, Form, Interval, Mark, Metric, Quantity, Results, Row, Scale, Series};

/// Bytes of the cache per token, which are counted and exact.
const BYTES: &Metric = known("bytes_per_token");
const TPOT: &Metric = known("tpot_ms_p50");
const HEAP: &Metric = known("heap_live_bytes");
/// A cache with fewer bytes holds no tokens, only bookkeeping. A logarithmic axis cannot show it.
pub(crate) const NEXT_TO_NOTHING: f64 = 4096.0;

/// Whether a row's cache holds something between steps. Recomputation does not, and is no answer to how to hold it.
pub(crate) fn holds_tokens(row: &Row) -> bool {
    row.value(HEAP.id).is_none_or(|bytes| bytes >= NEXT_TO_NOTHING)
}

/// A cost as the x of a chart.
struct Cost {
    chart: &'static str,
    title: &'static str,
    axis: fn() -> Axis,
    metric: &'static Metric,
}

const COSTS: [Cost; 2] = [
    Cost {
        chart: "front-bytes",
        title: "against bytes per token",
        axis: || Axis::new("bytes per token of the cache", Scale::Log),
        metric: BYTES,
    },
    Cost {
        chart: "front-latency",
        title: "against time per output token",
        axis: || Axis::new("time per output token (ms)", Scale::Log).of(Quantity::Time),
        metric: TPOT,
    },
];

/// The charts of quality against bytes and against time. `style` gives an instance's name and style by its label and batch.
pub(crate) fn fronts(results: &Results, axis: &QualityAxis, style: impl Fn(&str, usize) -> (String, usize)) -> Vec<Chart> {
    let instances = instances(results);
    COSTS.iter().filter_map(|cost| chart(cost, &instances, axis, &style)).collect()
}

/// One point per instance, at the length that most have. `None` if fewer than two have both.
fn chart(cost: &Cost, instances: &[Instance<'_>], axis: &QualityAxis, style: impl Fn(&str, usize) -> (String, usize)) -> Option<Chart> {
    let of = |row: &Row| {
        let x = row.values.get(cost.metric.id).and_then(Spread::of).filter(|x| x.low > 0.0)?;
        (cost.metric != BYTES || holds_tokens(row)).then_some(())?;
        Some((x, axis.spread(row)?))
    };
    let length = common_length(instances, |row| of(row).is_some())?;
    let at_length = |instance: &&Instance<'_>| instance.at(length).and_then(of).is_some();
    let (drawn, missing): (Vec<&Instance<'_>>, Vec<&Instance<'_>>) = instances.iter().partition(at_length);
    let rows: Vec<(&Row, (Spread, Spread))> =
        drawn.iter().filter_map(|instance| instance.at(length)).filter_map(|row| Some((row, of(row)?))).collect();
    if rows.len() < 2 {
        return None;
    }
    let places: Vec<(Spread, Spread)> = rows.iter().map(|(_, place)| *place).collect();
    let is_marked = |row: &Row| cost.metric == TPOT && row.is_implementation_bound();
    // The same number in every chart.
    let number = |row: &Row| 1 + instances.iter().position(|instance| instance.label == row.cell.label).unwrap_or(instances.len());
    let marks = rows.iter().map(|(row, (x, _))| {
        let star = if is_marked(row) { "*" } else { "" };
        Mark { label: format!("{}{star}", number(row)), beside: beside(cost, row), along_x: x.interval() }
    });
    let series = rows.iter().map(|(row, (x, y))| {
        let (name, style) = style(&row.cell.label, row.cell.batch);
        let intervals = y.interval().map(|(low, high)| Interval { x: x.value, low, high });
        Series { name, style, points: vec![(x.value, y.value)], intervals: intervals.into_iter().collect() }
    });
    let mut front: Vec<(f64, f64)> = front(&places).into_iter().map(|index| (places[index].0.value, places[index].1.value)).collect();
    front.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    let mut caption = vec![
        "Toward the lower left is better. The line joins the points that no other dominates: one does if its interval lies apart in one of the two, and in the other too unless both are equal. Bytes are exact, and a value without an interval is taken as it is.".to_owned(),
        axis.protocol_caption().to_owned(),
    ];
    caption.push(
        if cost.metric == BYTES { "Beside the names: the time per output token." } else { "Beside the names: the bytes of the cache." }
            .into(),
    );
    if places.iter().any(|(_, quality)| quality.value <= axis.floor) {
        caption.push(axis.floor_caption());
    }
    if rows.iter().any(|(row, _)| is_marked(row)) {
        caption.push("*: bound by its implementation, not by memory.".into());
    }
    caption.extend(left_out(&missing, cost, length));
    Some(Chart {
        name: cost.chart,
        title: format!("{} {}, {length} tokens", capital(axis.name()), cost.title),
        caption: caption.join(" "),
        x: (cost.axis)(),
        y: axis.axis(),
        form: Form::Points { marks: marks.collect(), front },
        series: series.collect(),
    })
}

/// The cost that is not along x.
fn beside(cost: &Cost, row: &Row) -> String {
    match cost.metric.id {
        id if id == BYTES.id => row.value(TPOT.id).map_or(String::new(), |ms| format!(", {} ms", short(ms))),
        _ => row.value(HEAP.id).map_or(String::new(), |heap| format!(", {}", bytes(heap))),
    }
}

/// The places that no other dominates.
fn front(places: &[(Spread, Spread)]) -> Vec<usize> {
    let is_dominated = |index: &usize| places.iter().any(|other| dominates(other, &places[*index]));
    (0..places.len()).filter(|index| !is_dominated(index)).collect()
}

fn dominates(a: &(Spread, Spread), b: &(Spread, Spread)) -> bool {
    is_better(&[(a.0, b.0), (a.1, b.1)])
}

/// Whether the first of each pair is below the second as far as intervals tell, in one pair at least, and equal in the others.
pub(crate) fn is_better(pairs: &[(Spread, Spread)]) -> bool {
    pairs.iter().all(|(own, other)| own.is_below(other) || own == other) && pairs.iter().any(|(own, other)| own.is_below(other))
}

/// Which instances have no point, and why.
fn left_out(missing: &[&Instance<'_>], cost: &Cost, length: usize) -> Vec<String> {
    let reason = |instance: &Instance<'_>| match instance.at(length) {
        _ if cost.metric == BYTES && instance.rows.iter().any(|row| !holds_tokens(row)) => "Hold nothing between steps, not drawn",
        // What recomputes is what quality is compared with.
        Some(row) if row.values.contains_key(cost.metric.id) => "Their quality was not measured at this length",
        _ => "Not measured at this length",
    };
    let mut sentences: Vec<(&str, Vec<&str>)> = vec![];
    for instance in missing {
        let reason = reason(instance);
        match sentences.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, labels)) => labels.push(instance.label),
            None => sentences.push((reason, vec![instance.label])),
        }
    }
    sentences.into_iter().map(|(reason, labels)| format!("{reason}: {}.", labels.join(", "))).collect()
}

/// With a capital letter at its beginning.
fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or(String::new(), |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Value, example_quality};

    fn drawn(results: &Results) -> Vec<Chart> {
        let axis = QualityAxis::of(&instances(results)).unwrap();
        fronts(results, &axis, |label, batch| (label.to_owned(), batch))
    }

    fn names_of_front(chart: &Chart) -> Vec<&str> {
        let Form::Points { front, .. } = &chart.form else { panic!("{:?}", chart.form) };
        let is_on = |series: &&Series| front.contains(&series.points[0]);
        chart.series.iter().filter(is_on).map(|series| series.name.as_str()).collect()
    }

    #[test]
    fn only_what_intervals_tell_apart_is_dominated() {
        let place = |x: (f64, f64), y: (f64, f64)| {
            let spread = |(value, half): (f64, f64)| Spread::new(value, Some((value - half, value + half))).unwrap();
            (spread(x), spread(y))
        };
        // Apart in both, or equal in one.
        assert!(dominates(&place((1.0, 0.0), (1.0, 0.5)), &place((2.0, 0.0), (3.0, 0.5))));
        assert!(dominates(&place((1.0, 0.0), (1.0, 0.5)), &place((1.0, 0.0), (3.0, 0.5))));
        // Apart in one, and better in the other by no more than noise.
        assert!(!dominates(&place((1.0, 0.0), (1.0, 0.5)), &place((2.0, 0.0), (1.2, 0.5))));
        // Better in both, apart in none.
        assert!(!dominates(&place((1.0, 0.6), (1.0, 0.5)), &place((2.0, 0.6), (1.2, 0.5))));
        // Apart in one, worse in the other.
        assert!(!dominates(&place((1.0, 0.0), (1.2, 0.5)), &place((2.0, 0.0), (1.0, 0.5))));
        // Equals do not dominate each other.
        let equals = [place((1.0, 0.0), (1.0, 0.0)); 2];
        assert_eq!(front(&equals), [0, 1]);
    }

    #[test]
    fn an_instance_is_a_point_at_the_common_length_with_its_intervals() {
        let charts = drawn(&example_quality::results());
        let names: Vec<_> = charts.iter().map(|chart| (chart.name, chart.title.as_str())).collect();
        assert_eq!(
            names,
            [
                ("front-bytes", "KL divergence (prompt exact) against bytes per token, 2048 tokens"),
                ("front-latency", "KL divergence (prompt exact) against time per output token, 2048 tokens")
            ]
        );
        let bytes = &charts[0];
        assert_eq!(bytes.series.len(), 7);
        assert!(bytes.caption.contains("Hold nothing between steps, not drawn: naive."), "{}", bytes.caption);
        // Two exact caches lie on the floor, and paged takes more bytes. Windows take more bytes than q4_0, and are worse.
        assert_eq!(names_of_front(bytes), ["contiguous f16", "contiguous f32", "quantized q8_0", "quantized q4_0"]);
        let Form::Points { marks, .. } = &charts[1].form else { panic!() };
        let q4 = charts[1].series.iter().position(|series| series.name == "quantized q4_0").unwrap();
        assert_eq!(marks[q4].label, "8*");
        assert!(marks[q4].along_x.is_some() && !charts[1].series[q4].intervals.is_empty());
        assert!(charts[1].caption.contains("*: bound by its implementation"), "{}", charts[1].caption);
        assert!(!bytes.caption.contains('*'), "bytes are what they are");
    }

    #[test]
    fn what_is_missing_at_the_common_length_is_named() {
        let mut results = example_quality::results();
        results.rows.retain(|row| row.cell.label != "quantized q8_0" || row.cell.seq_len < 2048);
        let charts = drawn(&results);
        assert!(charts[0].title.ends_with("2048 tokens"));
        assert!(charts[0].caption.contains("Not measured at this length: quantized q8_0."), "{}", charts[0].caption);
        let mut results = example_quality::results();
        results.rows.iter_mut().filter(|row| row.cell.label == "naive").for_each(|row| drop(row.values.remove("kld_mean")));
        let latency = &drawn(&results)[1].caption;
        assert!(latency.contains("Their quality was not measured at this length: naive."), "{latency}");
    }

    #[test]
    fn exact_caches_lie_on_the_floor_and_a_chart_has_one_metric() {
        let mut results = example_quality::results();
        let charts = drawn(&results);
        let lowest = charts[0].bounds().unwrap().1.0;
        assert_eq!(lowest, 1e-9, "ten times the floor of 1e-10");
        assert_eq!(charts[0].y.label, "mean KL divergence, prompt exact (nats)");
        assert!(charts[0].caption.contains("Quality is that of prompt exact"), "{}", charts[0].caption);
        results.rows.iter_mut().for_each(|row| {
            row.values.remove("kld_mean");
            row.values.insert("attn_rel_l2".into(), Value::from(0.25));
        });
        assert_eq!(drawn(&results)[0].y.label, "relative L2 error of attention, rows alone");
        // One that has both is drawn by what all are drawn by.
        results.rows[0].values.insert("kld_mean".into(), Value::from(0.5));
        assert!(drawn(&results).is_empty(), "one point is no comparison");
    }
}
