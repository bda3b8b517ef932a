//! The parts of a picture: title, caption, axes and lines.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::span::Span;
use super::text::{text, wrapped};
use super::{Theme, bars, legend, points};
use crate::chart::Interval;
use crate::style::{Marker, marker};
use crate::{Chart, Form, Series};

/// Units of length, of which a PNG has two pixels for each.
pub(super) const WIDTH: u32 = 1400;
pub(super) const LEGEND_WIDTH: u32 = 330;
/// Higher only for a legend that needs it.
const HEIGHT: u32 = 760;
const TITLE_HEIGHT: u32 = 90;
/// The title has room for two lines of caption.
const CAPTION_LINE: u32 = 20;
const CAPTION_SIZE: u32 = 18;
const MARKERS: usize = 12;

pub(super) type Area<B> = DrawingArea<B, Shift>;
pub(super) type Plot<'a, B> = ChartContext<'a, B, Cartesian2d<Span, Span>>;
/// The extent of the points along x and y.
pub(super) type Bounds = ((f64, f64), (f64, f64));
pub(super) type Drawn<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// The height of a chart's picture.
pub(super) fn height(chart: &Chart) -> u32 {
    HEIGHT.max(head_height(&caption(chart)) + legend::height(chart))
}

fn caption(chart: &Chart) -> Vec<String> {
    wrapped(&chart.caption, CAPTION_SIZE, WIDTH - 48)
}

fn head_height(caption: &[String]) -> u32 {
    TITLE_HEIGHT + CAPTION_LINE * caption.len().saturating_sub(2) as u32
}

/// Draws a chart with its legend next to the plot.
pub(super) fn draw<B: DrawingBackend<ErrorType: 'static>>(chart: &Chart, theme: Theme, root: &Area<B>) -> Drawn {
    root.fill(&rgb(theme.paper()))?;
    let caption = caption(chart);
    let (head, body) = root.split_vertically(head_height(&caption));
    let (plot, legend) = body.split_horizontally(WIDTH - LEGEND_WIDTH);
    head.draw_text(&chart.title, &text(34, theme.ink()), (24, 14))?;
    for (line, words) in caption.iter().enumerate() {
        head.draw_text(words, &text(CAPTION_SIZE, theme.quiet()), (24, 52 + CAPTION_LINE as i32 * line as i32))?;
    }

    let Some(bounds) = chart.bounds() else {
        plot.draw_text("no measured points", &text(24, theme.ink()), (80, 80))?;
        root.present()?;
        return Ok(());
    };
    match &chart.form {
        Form::Lines => draw_lines(chart, theme, &mut axes(chart, theme, &plot, bounds)?)?,
        Form::Points { marks, front } => points::draw(chart, theme, marks, front, &plot, bounds)?,
        Form::Bars { names, arrangement } => bars::draw(chart, theme, names, *arrangement, &plot)?,
    }
    legend::draw(chart, theme, &legend)?;
    root.present()?;
    Ok(())
}

/// The axes of lines and of points.
pub(super) fn axes<'a, B: DrawingBackend<ErrorType: 'static>>(
    chart: &Chart,
    theme: Theme,
    plot: &'a Area<B>,
    ((x_low, x_high), (y_low, y_high)): Bounds,
) -> Drawn<Plot<'a, B>> {
    let mut context = ChartBuilder::on(plot)
        .margin(12)
        .margin_left(20)
        .margin_right(28)
        .x_label_area_size(64)
        .y_label_area_size(96)
        .build_cartesian_2d(Span::new(&chart.x, x_low, x_high, &chart.lengths()), Span::new(&chart.y, y_low, y_high, &[]))?;
    context
        .configure_mesh()
        .bold_line_style(rgb(theme.grid()))
        .light_line_style(TRANSPARENT)
        .axis_style(rgb(theme.axis()))
        .x_desc(&chart.x.label)
        .y_desc(&chart.y.label)
        .axis_desc_style(text(24, theme.ink()))
        .label_style(text(21, theme.ink()))
        .draw()?;
    Ok(context)
}

fn draw_lines<B: DrawingBackend<ErrorType: 'static>>(chart: &Chart, theme: Theme, context: &mut Plot<'_, B>) -> Drawn {
    for series in &chart.series {
        let points = &series.points;
        context.draw_series(LineSeries::new(points.iter().copied(), of_series(theme, series).stroke_width(3)))?;
        draw_intervals(series, theme, context)?;
        // A short line has a marker on every point, a long one on a few.
        let step = points.len().div_ceil(MARKERS).max(1);
        for at in points.iter().skip(step - 1).step_by(step) {
            draw_marker(series, theme, *at, context)?;
        }
    }
    Ok(())
}

/// The intervals of a series along y.
pub(super) fn draw_intervals<B: DrawingBackend<ErrorType: 'static>>(series: &Series, theme: Theme, context: &mut Plot<'_, B>) -> Drawn {
    let style = of_series(theme, series).stroke_width(2);
    for Interval { x, low, high } in &series.intervals {
        context.draw_series([PathElement::new([(*x, *low), (*x, *high)], style)])?;
        for end in [*low, *high] {
            context.draw_series([EmptyElement::at((*x, end)) + PathElement::new([(-5, 0), (5, 0)], style)])?;
        }
    }
    Ok(())
}

/// The marker of a series at a point.
pub(super) fn draw_marker<B: DrawingBackend<ErrorType: 'static>>(
    series: &Series,
    theme: Theme,
    at: (f64, f64),
    context: &mut Plot<'_, B>,
) -> Drawn {
    let mark = EmptyElement::at(at);
    let colour = of_series(theme, series);
    match marker(series.style) {
        Marker::Circle => context.draw_series([mark + Circle::new((0, 0), 6, colour.filled())]).map(|_| ())?,
        Marker::Square => context.draw_series([mark + Rectangle::new([(-5, -5), (5, 5)], colour.filled())]).map(|_| ())?,
        Marker::TriangleUp => context.draw_series([mark + TriangleMarker::new((0, 0), 8, colour.filled())]).map(|_| ())?,
        Marker::Diamond => context.draw_series([mark + Polygon::new(DIAMOND.to_vec(), colour.filled())]).map(|_| ())?,
        Marker::Cross => context.draw_series([mark + Cross::new((0, 0), 6, colour.stroke_width(3))]).map(|_| ())?,
    }
    Ok(())
}

/// The corners of a diamond around a point.
pub(super) const DIAMOND: [(i32, i32); 4] = [(0, -8), (7, 0), (0, 8), (-7, 0)];

/// A series' color.
pub(super) fn of_series(theme: Theme, series: &Series) -> RGBColor {
    rgb(theme.colour(series.style))
}

pub(super) fn rgb((red, green, blue): (u8, u8, u8)) -> RGBColor {
    RGBColor(red, green, blue)
}
