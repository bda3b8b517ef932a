//! A cache along a text: its heap after every token, and the time that keeping each token took.

use crate::table::{number, table};
use crate::{Axis, Chart, Form, Pass, Quantity, Results, Scale, Series, Status, TextPoint, Visit};

const MIB: f64 = 1024.0 * 1024.0;
/// A line of the chart has at most about twice as many points.
const MOST_POINTS: usize = 512;

/// The texts that were followed, with the label and the batch of their cells.
fn followed(results: &Results) -> impl Iterator<Item = (&str, usize, &Visit)> {
    let visits = results.visits.iter().filter(|visit| visit.pass == Pass::Text && visit.status == Status::Ok);
    visits.filter_map(|visit| {
        let cell = results.run.cells.iter().find(|cell| cell.id == visit.cell)?;
        Some((cell.label.as_str(), cell.batch, visit))
    })
}

/// The heap after every token. `style` gives a line's name and style by its label and batch.
pub(crate) fn heap(results: &Results, style: impl Fn(&str, usize) -> (String, usize)) -> Chart {
    let scale = results.run.layer_scale();
    let line = |(label, batch, visit): (&str, usize, &Visit)| {
        let (name, style) = style(label, batch);
        let points = stairs(&visit.text).into_iter().map(|(tokens, mib)| (tokens, mib * scale)).collect();
        Series { name, style, points, intervals: vec![] }
    };
    Chart {
        name: "heap-text",
        title: "Heap along the text".into(),
        caption: "Exact bytes of the cache after every token: stairs of pages and doublings, the plateau of a window.".into(),
        x: tokens(),
        y: Axis::new("live heap (MiB)", Scale::Linear),
        form: Form::Lines,
        series: followed(results).map(line).filter(|series| !series.points.is_empty()).collect(),
    }
}

/// The time that keeping each token took.
pub(crate) fn time(results: &Results, style: impl Fn(&str, usize) -> (String, usize)) -> Chart {
    let longest = followed(results).map(|(_, _, visit)| visit.text.len()).max().unwrap_or(0);
    let scale = results.run.layer_scale();
    let together = longest.div_ceil(MOST_POINTS).max(1);
    let line = |(label, batch, visit): (&str, usize, &Visit)| {
        let (name, style) = style(label, batch);
        let peak = |points: &[TextPoint]| {
            let slowest = points.iter().filter_map(|point| point.keep_ms).fold(0.0, f64::max);
            (points.last().map_or(0.0, |point| point.tokens as f64), slowest * scale)
        };
        let points = visit.text.chunks(together).map(peak).filter(|(_, ms)| *ms > 0.0).collect();
        Series { name, style, points, intervals: vec![] }
    };
    let of_several = if together > 1 { format!(" Each point is the slowest of {together} tokens.") } else { String::new() };
    Chart {
        name: "time-text",
        title: "Time to keep a token, along the text".into(),
        caption: format!(
            "begin, append and commit over all layers, without attention: growth, sealing of groups and eviction show as peaks. Of several times the shortest counts.{of_several} text.csv has every token."
        ),
        x: tokens(),
        y: Axis::new("time to keep a token (ms)", Scale::Log).of(Quantity::Time),
        form: Form::Lines,
        series: followed(results).map(line).filter(|series| !series.points.is_empty()).collect(),
    }
}

fn tokens() -> Axis {
    Axis::new("tokens", Scale::Linear)
}

/// The first and the last token of each stair.
fn stairs(text: &[TextPoint]) -> Vec<(f64, f64)> {
    let heap: Vec<(usize, u64)> = text.iter().filter_map(|point| Some((point.tokens, point.heap_bytes?))).collect();
    let differs = |a: usize, b: Option<&(usize, u64)>| b.is_none_or(|(_, bytes)| *bytes != heap[a].1);
    let is_end = |at: &usize| differs(*at, heap.get(at.wrapping_sub(1))) || differs(*at, heap.get(at + 1));
    let ends: Vec<usize> = (0..heap.len()).filter(is_end).collect();
    // Where every token is a stair, some are enough.
    let step = (ends.len() / (2 * MOST_POINTS)).max(1);
    let last = ends.last().copied();
    let kept = ends.iter().copied().step_by(step).chain(last.filter(|_| !ends.len().saturating_sub(1).is_multiple_of(step)));
    kept.map(|at| (heap[at].0 as f64, heap[at].1 as f64 / MIB)).collect()
}

/// `text.csv`: one row per token of every text that was followed. Where not all layers were measured, bytes and times are scaled
/// to all of them, as in the charts and in `results.csv`; `visits.jsonl` has them as they were measured.
pub fn text_csv(results: &Results) -> Vec<u8> {
    const COLUMNS: [&str; 6] = ["label", "batch", "cell", "tokens", "heap_bytes", "keep_ms"];
    let scale = results.run.layer_scale();
    let rows = followed(results).flat_map(|(label, batch, visit)| {
        visit.text.iter().map(move |point| {
            vec![
                crate::spreadsheet::as_text(label),
                batch.to_string(),
                crate::spreadsheet::as_text(&visit.cell),
                point.tokens.to_string(),
                number(point.heap_bytes.map(|bytes| bytes as f64 * scale)),
                number(point.keep_ms.map(|ms| ms * scale)),
            ]
        })
    });
    table(&COLUMNS, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    fn followed_text(bytes: &[u64]) -> Results {
        let mut results = example::results();
        let text = bytes.iter().enumerate().map(|(index, bytes)| TextPoint {
            tokens: index + 1,
            heap_bytes: Some(*bytes << 20),
            keep_ms: Some(if index == 3 { 8.0 } else { 1.0 }),
        });
        let cell = results.run.cells[0].id.clone();
        results.visits.push(Visit { text: text.collect(), ..Visit::passed(&cell, Pass::Text) });
        results
    }

    #[test]
    fn stairs_are_drawn_with_their_ends() {
        let results = followed_text(&[1, 1, 1, 2, 2, 4]);
        let chart = heap(&results, |label, _| (label.to_owned(), 3));
        assert_eq!(chart.series[0].points, [(1.0, 1.0), (3.0, 1.0), (4.0, 2.0), (5.0, 2.0), (6.0, 4.0)]);
        assert_eq!(chart.series[0].style, 3);
        let growing = followed_text(&(0..5000).collect::<Vec<_>>());
        let points = &heap(&growing, |label, _| (label.to_owned(), 0)).series[0].points;
        assert!(points.len() <= 2 * MOST_POINTS + 300 && points.last() == Some(&(5000.0, 4999.0)), "{}", points.len());
    }

    #[test]
    fn the_slowest_of_several_tokens_is_drawn() {
        let results = followed_text(&vec![1; 2 * MOST_POINTS]);
        let chart = time(&results, |label, _| (label.to_owned(), 0));
        assert_eq!(chart.series[0].points[..3], [(2.0, 1.0), (4.0, 8.0), (6.0, 1.0)]);
        assert!(chart.caption.contains("slowest of 2 tokens"));
    }

    #[test]
    fn every_token_is_a_row() {
        let csv = String::from_utf8(text_csv(&followed_text(&[1, 2]))).unwrap();
        assert_eq!(csv.lines().count(), 3);
        assert!(csv.lines().nth(2).unwrap().ends_with(",2,2097152,1"), "{csv}");
    }

    #[test]
    fn the_table_is_scaled_to_all_layers_as_the_charts_are() {
        let mut results = followed_text(&[1, 2]);
        results.run.level = crate::Level::Attention { rows: crate::RowsOrigin::Generated, seed: 0, measured_layers: 2 };
        results.run.model.geometry.layers = 8;
        let csv = String::from_utf8(text_csv(&results)).unwrap();
        assert!(csv.lines().nth(2).unwrap().ends_with(",2,8388608,4"), "{csv}");
        assert_eq!(heap(&results, |label, _| (label.to_owned(), 0)).series[0].points[1], (2.0, 8.0));
    }
}
