//! Where labels stand beside points, so that none covers another, the same in both renderers.

use crate::chart::{Chart, Mark};

/// A label and the side of its point on which it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Label {
    pub(crate) text: String,
    pub(crate) side: Side,
}

/// A side of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Right,
    Above,
    Below,
    Left,
    AboveRight,
    BelowRight,
    AboveLeft,
    BelowLeft,
}

const SIDES: [Side; 8] =
    [Side::Right, Side::Above, Side::Below, Side::Left, Side::AboveRight, Side::BelowRight, Side::AboveLeft, Side::BelowLeft];

impl Side {
    /// In which direction it lies: -1, 0 or 1 to the right, and the same downward.
    pub(crate) fn direction(self) -> (i32, i32) {
        match self {
            Side::Right => (1, 0),
            Side::Above => (0, -1),
            Side::Below => (0, 1),
            Side::Left => (-1, 0),
            Side::AboveRight => (1, -1),
            Side::BelowRight => (1, 1),
            Side::AboveLeft => (-1, -1),
            Side::BelowLeft => (-1, 1),
        }
    }
}

/// The smaller of the two renderers' plots, in pixels. In a larger one, labels are farther apart.
const PLOT: (f64, f64) = (760.0, 340.0);
const CHARACTER: f64 = 11.0;
const LINE: f64 = 20.0;
/// From the center of a point to its label.
const GAP: f64 = 9.0;
/// Points that are nearer than this share one label.
const SAME: f64 = 12.0;

/// Left, top, right, bottom.
#[derive(Clone, Copy)]
struct Rectangle([f64; 4]);

impl Rectangle {
    fn around((x, y): (f64, f64), (width, height): (f64, f64)) -> Rectangle {
        Rectangle([x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0])
    }

    fn common(&self, other: &Rectangle) -> f64 {
        let (Rectangle(a), Rectangle(b)) = (self, other);
        let along = |low: usize, high: usize| (a[high].min(b[high]) - a[low].max(b[low])).max(0.0);
        along(0, 2) * along(1, 3)
    }
}

/// A label for every series of a chart of points, or none where the point shares that of an earlier one.
pub(crate) fn place(chart: &Chart, marks: &[Mark], front: &[(f64, f64)]) -> Vec<Option<Label>> {
    let Some(((x_low, x_high), (y_low, y_high))) = chart.bounds() else { return vec![] };
    let share = |value: f64, low: f64, high: f64| if high > low { (value / low).ln() / (high / low).ln() } else { 0.5 };
    let pixel = |(x, y): (f64, f64)| (share(x, x_low, x_high) * PLOT.0, (1.0 - share(y, y_low, y_high)) * PLOT.1);
    let points: Vec<(f64, f64)> = chart.series.iter().filter_map(|series| series.points.first().copied()).collect();
    let centers: Vec<(f64, f64)> = points.iter().copied().map(pixel).collect();
    let is_near = |a: (f64, f64), b: (f64, f64)| (a.0 - b.0).hypot(a.1 - b.1) < SAME;
    let leader = |index: usize| (0..index).find(|other| is_near(centers[*other], centers[index])).unwrap_or(index);
    let leaders: Vec<usize> = (0..centers.len()).map(leader).collect();

    let mut taken: Vec<Rectangle> = centers.iter().map(|center| Rectangle::around(*center, (14.0, 14.0))).collect();
    let lines = intervals(chart, marks).into_iter().chain(front.windows(2).map(|ends| (ends[0], ends[1])));
    taken.extend(lines.flat_map(|(from, to)| along(pixel(from), pixel(to))));
    let mut labels = vec![];
    for (index, center) in centers.iter().enumerate() {
        if leaders[index] != index {
            labels.push(None);
            continue;
        }
        let together = (0..marks.len()).filter(|other| leaders.get(*other) == Some(&index)).map(|other| marks[other].label.as_str());
        let text = together.collect::<Vec<_>>().join(", ");
        let size = (CHARACTER * text.chars().count() as f64, LINE);
        let at = |side: Side| {
            let (right, down) = side.direction();
            let offset = |direction: i32, size: f64| f64::from(direction) * (GAP + size / 2.0);
            Rectangle::around((center.0 + offset(right, size.0), center.1 + offset(down, size.1)), size)
        };
        let covered = |side: Side| taken.iter().map(|other| other.common(&at(side))).sum::<f64>();
        let side = SIDES.into_iter().min_by(|a, b| covered(*a).total_cmp(&covered(*b))).unwrap_or(Side::Right);
        taken.push(at(side));
        labels.push(Some(Label { text, side }));
    }
    labels
}

/// The ends of the lines that show intervals.
fn intervals(chart: &Chart, marks: &[Mark]) -> Vec<((f64, f64), (f64, f64))> {
    let along_y = chart.series.iter().flat_map(|series| &series.intervals).map(|each| ((each.x, each.low), (each.x, each.high)));
    let along_x = chart.series.iter().zip(marks).filter_map(|(series, mark)| {
        let ((low, high), (_, y)) = (mark.along_x?, *series.points.first()?);
        Some(((low, y), (high, y)))
    });
    along_y.chain(along_x).collect()
}

/// Small squares that cover a line.
fn along((x, y): (f64, f64), (to_x, to_y): (f64, f64)) -> Vec<Rectangle> {
    const APART: f64 = 4.0;
    let steps = ((to_x - x).hypot(to_y - y) / APART).ceil().max(1.0);
    let at = |step: f64| (x + (to_x - x) * step / steps, y + (to_y - y) * step / steps);
    (0..=steps as usize).map(|step| Rectangle::around(at(step as f64), (3.0, 3.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Axis, Form, Scale, Series};

    fn placed(points: &[(f64, f64)]) -> Vec<Option<Label>> {
        let axis = || Axis::new("", Scale::Log);
        let marks: Vec<Mark> =
            (1..=points.len()).map(|number| Mark { label: number.to_string(), beside: String::new(), along_x: None }).collect();
        let series =
            |(style, point): (usize, &(f64, f64))| Series { name: style.to_string(), style, points: vec![*point], intervals: vec![] };
        let chart = Chart {
            name: "test",
            title: String::new(),
            caption: String::new(),
            x: axis(),
            y: axis(),
            form: Form::Points { marks: marks.clone(), front: vec![] },
            series: points.iter().enumerate().map(series).collect(),
        };
        place(&chart, &marks, &[])
    }

    #[test]
    fn points_at_one_place_share_a_label() {
        let labels = placed(&[(1.0, 1.0), (100.0, 1e-9), (1.001, 1.0), (100.0, 1e-9), (1.0, 1.001)]);
        let texts: Vec<_> = labels.iter().map(|label| label.as_ref().map(|label| label.text.as_str())).collect();
        assert_eq!(texts, [Some("1, 3, 5"), Some("2, 4"), None, None, None]);
    }

    #[test]
    fn a_label_avoids_the_next_point() {
        // The second is close to the right of the first, the third to the right of the second.
        let labels = placed(&[(100.0, 1.0), (110.0, 1.0), (121.0, 1.0), (1000.0, 10.0), (10.0, 0.1)]);
        let sides: Vec<_> = labels.iter().flatten().map(|label| label.side).collect();
        assert_eq!(sides, [Side::Above, Side::Above, Side::Right, Side::Right, Side::Right]);
    }

    #[test]
    fn no_points_have_no_labels() {
        assert_eq!(placed(&[]), []);
        assert_eq!(placed(&[(1.0, 1.0)])[0].as_ref().unwrap().side, Side::Right);
    }
}
