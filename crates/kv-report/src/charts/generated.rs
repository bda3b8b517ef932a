//! The charts of texts that were written token by token: the time of each step, and of all so far.

use super::Names;
use crate::{Axis, CellRecord, Chart, Form, Pass, Quantity, Results, Scale, Series, Status, StepTime};

/// A line of the steps has at most as many points.
const MOST_POINTS: usize = 1000;

/// Both charts, of the longest `generate` cell of each line, in the first launch that measured it.
pub(super) fn charts(results: &Results, names: &Names) -> [Chart; 2] {
    let lines = Generated::of(results, names);
    let tokens = || Axis::new("tokens generated", Scale::Linear);
    let together = lines.iter().map(|line| line.steps.len()).max().unwrap_or(0).div_ceil(MOST_POINTS).max(1);
    let of_several = if together > 1 { format!(" Each point is the median of {together} steps.") } else { String::new() };
    let series = |points: fn(&Generated, usize) -> Vec<(f64, f64)>| {
        let line =
            |line: &Generated| Series { name: line.name.clone(), style: line.style, points: points(line, together), intervals: vec![] };
        lines.iter().map(line).collect()
    };
    [
        Chart {
            name: "steps",
            title: "Time of each step along the text".into(),
            caption: format!(
                "The whole step of every token of one launch, as the sequence grows. Lower is better; a flat line is best.{of_several} samples.csv has every step."
            ),
            x: tokens(),
            y: Axis::new("time of a step (ms)", Scale::Log).of(Quantity::Time),
            form: Form::Lines,
            series: series(|line, together| line.each(together)),
        },
        Chart {
            name: "cumulative",
            title: "Time to generate this many tokens".into(),
            caption:
                "Time since the start, token by token. Without a cache, every token reruns all tokens before it, so the curve bends upward."
                    .into(),
            x: tokens(),
            y: Axis::new("time since the start (s)", Scale::Linear).of(Quantity::Time),
            form: Form::Lines,
            series: series(|line, _| line.in_all()),
        },
    ]
}

/// The steps of a line.
struct Generated<'a> {
    name: String,
    style: usize,
    steps: &'a [StepTime],
    /// What the times of the measured layers are multiplied by.
    scale: f64,
}

impl<'a> Generated<'a> {
    fn of(results: &'a Results, names: &Names) -> Vec<Generated<'a>> {
        let generated: Vec<(&CellRecord, &[StepTime])> = (results.run.cells.iter())
            .filter(|cell| cell.workload == "generate")
            .filter_map(|cell| Some((cell, first_launch(results, cell)?)))
            .collect();
        let line = |(style, (label, batch)): (usize, &(String, usize))| {
            let of_line = generated.iter().filter(|(cell, _)| cell.label == *label && cell.batch == *batch);
            let (_, steps) = of_line.max_by_key(|(cell, _)| cell.seq_len)?;
            Some(Generated { name: names.name(label, *batch), style, steps, scale: results.run.layer_scale() })
        };
        names.lines.iter().enumerate().filter_map(line).collect()
    }

    /// The time of each step, or the median of several neighbours at the place of the middle one.
    fn each(&self, together: usize) -> Vec<(f64, f64)> {
        let point = |steps: &[StepTime]| {
            let mut times: Vec<f64> = steps.iter().map(|step| step.step_ms * self.scale).collect();
            times.sort_by(f64::total_cmp);
            let middle = steps.len() / 2;
            (steps[middle].position as f64, times[middle])
        };
        // A logarithmic axis has no place for zero.
        self.steps.chunks(together).map(point).filter(|(_, ms)| *ms > 0.0).collect()
    }

    /// Running totals in seconds.
    fn in_all(&self) -> Vec<(f64, f64)> {
        let mut seconds = 0.0;
        let point = |step: &StepTime| {
            seconds += step.step_ms / 1e3 * self.scale;
            (step.position as f64, seconds)
        };
        self.steps.iter().map(point).collect()
    }
}

/// The steps of the first launch that measured a cell.
fn first_launch<'a>(results: &'a Results, cell: &CellRecord) -> Option<&'a [StepTime]> {
    let measured = results.visits.iter().filter(|visit| visit.pass == Pass::Latency && visit.status == Status::Ok && !visit.control);
    let visits = measured.filter(|visit| visit.cell == cell.id);
    visits.min_by_key(|visit| visit.launch).map(|visit| visit.steps.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    /// The chart of the steps of a text whose steps take these milliseconds.
    fn steps(times: &[f64]) -> Chart {
        let mut results = example::results();
        for visit in results.visits.iter_mut().filter(|visit| visit.cell == "b") {
            let template = visit.steps[0].clone();
            let step = |(index, ms): (usize, &f64)| StepTime { position: index + 1, step_ms: *ms, ..template.clone() };
            visit.steps = times.iter().enumerate().map(step).collect();
        }
        let [steps, _] = charts(&results, &Names::of(&results));
        steps
    }

    #[test]
    fn every_step_of_a_short_text_is_a_point() {
        let chart = steps(&[2.5, 9.0, 0.0, 3.0]);
        assert_eq!(chart.series[0].points, [(1.0, 2.5), (2.0, 9.0), (4.0, 3.0)]);
        assert!(chart.has_times() && !chart.caption.contains("median"), "{}", chart.caption);
    }

    #[test]
    fn neighbours_of_a_long_text_are_drawn_as_their_median_and_the_caption_says_so() {
        let mut times = vec![1.0; 3 * MOST_POINTS];
        (times[0], times[4], times[5]) = (50.0, 2.0, 2.0);
        let chart = steps(&times);
        assert_eq!(chart.series[0].points.len(), MOST_POINTS);
        assert_eq!(chart.series[0].points[..2], [(2.0, 1.0), (5.0, 2.0)]);
        assert!(chart.caption.contains("Each point is the median of 3 steps."), "{}", chart.caption);
    }
}
