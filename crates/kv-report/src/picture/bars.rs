//! Bars in a picture, stacked or beside each other.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters_backend::BackendTextStyle;

use super::Theme;
use super::drawing::{Area, Drawn, of_series, rgb};
use super::span::Span;
use super::text::text;
use crate::{Arrangement, Chart, Interval, Scale, Series};

const NAME_SIZE: u32 = 18;

/// Draws the bars over their names, the parts of each in the order of the series.
pub(super) fn draw<B: DrawingBackend<ErrorType: 'static>>(
    chart: &Chart,
    theme: Theme,
    names: &[String],
    arrangement: Arrangement,
    plot: &Area<B>,
) -> Drawn {
    const STACK: f64 = 0.6;
    const GROUP: f64 = 0.8;
    const LONGEST_NAME: usize = 26;
    let part = |series: &Series, bar: usize| series.points.iter().find(|point| point.0 == bar as f64).map_or(0.0, |point| point.1);
    // How far a part and its interval reach above where the part begins.
    let reach = |series: &Series, bar: usize| interval(series, bar).map_or(0.0, |interval| interval.high).max(part(series, bar));
    let height = |bar: usize| {
        let above = |base: &mut f64, series: &Series| {
            let top = *base + reach(series, bar);
            if arrangement == Arrangement::Stacked {
                *base += part(series, bar);
            }
            Some(top)
        };
        chart.series.iter().scan(0.0, above).fold(0.0, f64::max)
    };
    let highest = (0..names.len()).map(height).fold(0.0, f64::max);
    debug_assert_eq!(chart.y.scale, Scale::Linear, "bars start at zero");
    let mut context = ChartBuilder::on(plot)
        .margin(12)
        .margin_left(20)
        .margin_right(28)
        .x_label_area_size(height_of_names(names))
        .y_label_area_size(96)
        .build_cartesian_2d(0.0..names.len() as f64, Span::new(&chart.y, 0.0, highest, &[]))?;
    context
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .bold_line_style(rgb(theme.grid()))
        .light_line_style(TRANSPARENT)
        .axis_style(rgb(theme.axis()))
        .y_desc(&chart.y.label)
        .axis_desc_style(text(24, theme.ink()))
        .label_style(text(21, theme.ink()))
        .draw()?;
    let mut below = vec![0.0; names.len()];
    for (index, series) in chart.series.iter().enumerate() {
        for (bar, base) in below.iter_mut().enumerate() {
            let value = part(series, bar);
            let (left, width) = match arrangement {
                Arrangement::Stacked => ((1.0 - STACK) / 2.0, STACK),
                Arrangement::Beside => {
                    let width = GROUP / chart.series.len() as f64;
                    ((1.0 - GROUP) / 2.0 + index as f64 * width, width)
                }
            };
            let left = bar as f64 + left;
            if value > 0.0 {
                context.draw_series([Rectangle::new([(left, *base), (left + width, *base + value)], of_series(theme, series).filled())])?;
            }
            if let Some(Interval { low, high, .. }) = interval(series, bar) {
                let style = rgb(theme.ink()).stroke_width(2);
                let ends = [*base + low, *base + high].map(|end| (left + width / 2.0, end));
                context.draw_series([PathElement::new(ends, style)])?;
                for end in ends {
                    context.draw_series([EmptyElement::at(end) + PathElement::new([(-3, 0), (3, 0)], style)])?;
                }
            }
            if arrangement == Arrangement::Stacked {
                *base += value;
            }
        }
    }
    for (bar, name) in names.iter().enumerate() {
        let shown: String =
            if name.chars().count() > LONGEST_NAME { name.chars().take(LONGEST_NAME - 1).chain(['…']).collect() } else { name.clone() };
        let (x, y) = context.backend_coord(&(bar as f64 + 0.5, 0.0));
        // Names stand on their heads' side, so that long ones do not overlap.
        let style = text(NAME_SIZE, theme.ink()).transform(FontTransform::Rotate270).pos(Pos::new(HPos::Right, VPos::Center));
        let (left, top) = plot.get_base_pixel();
        plot.draw_text(&shown, &style, (x - left, y - top + 10))?;
    }
    Ok(())
}

/// The height that names take which stand on their heads' side: as much as the longest, in the viewer's font too.
fn height_of_names(names: &[String]) -> u32 {
    const LEAST: u32 = 64;
    const MOST: u32 = 190;
    let width = |name: &String| text(NAME_SIZE, (0, 0, 0)).layout_box(name).map_or(MOST, |((left, _), (right, _))| left.abs_diff(right));
    let longest = names.iter().map(width).max().unwrap_or_default();
    (longest * 5 / 4 + 16).clamp(LEAST, MOST)
}

/// Where a part of a bar ends with 95 %, from where it begins.
fn interval(series: &Series, bar: usize) -> Option<Interval> {
    series.intervals.iter().find(|interval| interval.x == bar as f64).copied()
}
