//! Points with labels and the front that joins the best of them, in a picture.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Theme;
use super::drawing::{Area, Bounds, Drawn, axes, draw_intervals, draw_marker, of_series, rgb};
use super::text::text;
use crate::Chart;
use crate::chart::Mark;
use crate::placing::place;
use crate::style::FRONT;

/// Draws the points over the front.
pub(super) fn draw<B: DrawingBackend<ErrorType: 'static>>(
    chart: &Chart,
    theme: Theme,
    marks: &[Mark],
    front: &[(f64, f64)],
    plot: &Area<B>,
    (x, y): Bounds,
) -> Drawn {
    let mut context = axes(chart, theme, plot, (widened(x), widened(y)))?;
    context.draw_series(LineSeries::new(front.iter().copied(), rgb(FRONT).stroke_width(2)))?;
    for (series, mark) in chart.series.iter().zip(marks) {
        draw_intervals(series, theme, &mut context)?;
        if let (Some((low, high)), Some((_, y))) = (mark.along_x, series.points.first()) {
            context.draw_series([PathElement::new([(low, *y), (high, *y)], of_series(theme, series).stroke_width(2))])?;
            for end in [low, high] {
                context.draw_series([
                    EmptyElement::at((end, *y)) + PathElement::new([(0, -5), (0, 5)], of_series(theme, series).stroke_width(2))
                ])?;
            }
        }
    }
    let labels = place(chart, marks, front);
    for (series, label) in chart.series.iter().zip(labels) {
        let Some(at) = series.points.first() else { continue };
        draw_marker(series, theme, *at, &mut context)?;
        let Some(label) = label else { continue };
        const GAP: i32 = 10;
        let (right, down) = label.side.direction();
        let beside = [HPos::Right, HPos::Center, HPos::Left][(right + 1) as usize];
        let above = [VPos::Bottom, VPos::Center, VPos::Top][(down + 1) as usize];
        let style = text(21, theme.ink()).pos(Pos::new(beside, above));
        context.draw_series([EmptyElement::at(*at) + Text::new(label.text, (GAP * right, GAP * down), style)])?;
    }
    Ok(())
}

/// Room for labels beside the outermost points of a logarithmic axis.
fn widened((low, high): (f64, f64)) -> (f64, f64) {
    let room = (high / low).powf(0.05);
    (low / room, high * room)
}
