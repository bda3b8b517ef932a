//! Stacked bars in a PNG.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::png::{Area, Span, rgb, text};
use crate::{Chart, Scale};

/// Draws the bars: one for each name, its parts on top of each other in the order of the series.
pub(crate) fn draw(chart: &Chart, names: &[String], plot: &Area<'_>) -> Result<(), Box<dyn std::error::Error>> {
    const SHARE: f64 = 0.6;
    const LONGEST_NAME: usize = 26;
    const NAME_HEIGHT: u32 = 190;
    let sum = |bar: usize| -> f64 { chart.series.iter().map(|series| series.points.get(bar).map_or(0.0, |point| point.1)).sum() };
    let highest = (0..names.len()).map(sum).fold(0.0, f64::max);
    debug_assert_eq!(chart.y.scale, Scale::Linear, "parts of a bar add up");
    let mut context = ChartBuilder::on(plot)
        .margin(12)
        .margin_left(20)
        .margin_right(28)
        .x_label_area_size(NAME_HEIGHT)
        .y_label_area_size(96)
        .build_cartesian_2d(0.0..names.len() as f64, Span::new(&chart.y, 0.0, highest, &[]))?;
    context
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .bold_line_style(RGBColor(222, 222, 222))
        .light_line_style(TRANSPARENT)
        .axis_style(RGBColor(120, 120, 120))
        .y_desc(&chart.y.label)
        .axis_desc_style(text(24))
        .label_style(text(21))
        .draw()?;
    let mut below = vec![0.0; names.len()];
    for series in &chart.series {
        for (bar, (_, value)) in series.points.iter().enumerate().filter(|(_, (_, value))| *value > 0.0) {
            let left = bar as f64 + (1.0 - SHARE) / 2.0;
            let corners = [(left, below[bar]), (left + SHARE, below[bar] + value)];
            context.draw_series([Rectangle::new(corners, rgb(series).filled())])?;
            below[bar] += value;
        }
    }
    for (bar, name) in names.iter().enumerate() {
        let shown: String =
            if name.chars().count() > LONGEST_NAME { name.chars().take(LONGEST_NAME - 1).chain(['…']).collect() } else { name.clone() };
        let (x, y) = context.backend_coord(&(bar as f64 + 0.5, 0.0));
        // Names stand on their heads' side, so that long ones do not overlap.
        let style = text(18).transform(FontTransform::Rotate270).pos(Pos::new(HPos::Right, VPos::Center));
        let (left, top) = plot.get_base_pixel();
        plot.draw_text(&shown, &style, (x - left, y - top + 10))?;
    }
    Ok(())
}
