//! A chart as a PNG, drawn by plotters with an embedded font, so that no system library is needed.

use std::ops::Range;
use std::sync::Once;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, TextStyle, register_font};

use crate::chart::{Axis, Interval, Scale};
use crate::style::{FRONT, Marker, colour, log_ticks, marker, tick_text};
use crate::{Chart, Form, ReportError, Series, png_bars, png_points};

const WIDTH: u32 = 1400;
const HEIGHT: u32 = 760;
const TITLE_HEIGHT: u32 = 90;
/// The title has room for two lines of caption.
const CAPTION_LINE: u32 = 20;
const LEGEND_WIDTH: u32 = 330;
const LEGEND_LINE: i32 = 34;
const MARKERS: usize = 12;
const FONT: &str = "report";

pub(crate) type Area<'a> = DrawingArea<BitMapBackend<'a>, plotters::coord::Shift>;
pub(crate) type Plot<'a, 'b> = ChartContext<'a, BitMapBackend<'b>, Cartesian2d<Span, Span>>;
/// The extent of the points along x and y.
pub(crate) type Bounds = ((f64, f64), (f64, f64));

/// Draws a chart with its legend next to the plot.
///
/// # Errors
/// [`ReportError::Draw`], [`ReportError::Png`].
pub fn png(chart: &Chart) -> Result<Vec<u8>, ReportError> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let registered = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
        assert!(registered.is_ok(), "the embedded font is a font");
    });
    let mut pixels = vec![0; (WIDTH * HEIGHT * 3) as usize];
    let root = BitMapBackend::with_buffer(&mut pixels, (WIDTH, HEIGHT)).into_drawing_area();
    draw(chart, &root).map_err(|error| ReportError::Draw { chart: chart.name.into(), reason: error.to_string() })?;
    drop(root);

    let mut bytes = vec![];
    let mut encoder = png::Encoder::new(&mut bytes, WIDTH, HEIGHT);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(bytes)
}

fn draw(chart: &Chart, root: &Area<'_>) -> Result<(), Box<dyn std::error::Error>> {
    root.fill(&WHITE)?;
    let caption = wrap(&chart.caption, 150);
    let (head, body) = root.split_vertically(TITLE_HEIGHT + CAPTION_LINE * caption.len().saturating_sub(2) as u32);
    let (plot, legend) = body.split_horizontally(WIDTH - LEGEND_WIDTH);
    head.draw_text(&chart.title, &text(34), (24, 14))?;
    for (line, words) in caption.iter().enumerate() {
        head.draw_text(words, &text(18).color(&RGBColor(80, 80, 80)), (24, 52 + CAPTION_LINE as i32 * line as i32))?;
    }

    let Some(bounds) = chart.bounds() else {
        plot.draw_text("no measured points", &text(24), (80, 80))?;
        return Ok(());
    };
    match &chart.form {
        Form::Lines => draw_lines(chart, &mut axes(chart, &plot, bounds)?)?,
        Form::Points { marks, front } => png_points::draw(chart, marks, front, &plot, bounds)?,
        Form::Bars { names, arrangement } => png_bars::draw(chart, names, *arrangement, &plot)?,
    }
    draw_legend(chart, &legend)?;
    root.present()?;
    Ok(())
}

/// The axes of lines and of points.
pub(crate) fn axes<'a, 'b>(
    chart: &Chart,
    plot: &'a Area<'b>,
    ((x_low, x_high), (y_low, y_high)): Bounds,
) -> Result<Plot<'a, 'b>, Box<dyn std::error::Error>> {
    let mut context = ChartBuilder::on(plot)
        .margin(12)
        .margin_left(20)
        .margin_right(28)
        .x_label_area_size(64)
        .y_label_area_size(96)
        .build_cartesian_2d(Span::new(&chart.x, x_low, x_high, &chart.lengths()), Span::new(&chart.y, y_low, y_high, &[]))?;
    context
        .configure_mesh()
        .bold_line_style(RGBColor(222, 222, 222))
        .light_line_style(TRANSPARENT)
        .axis_style(RGBColor(120, 120, 120))
        .x_desc(&chart.x.label)
        .y_desc(&chart.y.label)
        .axis_desc_style(text(24))
        .label_style(text(21))
        .draw()?;
    Ok(context)
}

fn draw_lines(chart: &Chart, context: &mut Plot<'_, '_>) -> Result<(), Box<dyn std::error::Error>> {
    for series in &chart.series {
        let points = &series.points;
        let style = rgb(series).stroke_width(3);
        context.draw_series(LineSeries::new(points.iter().copied(), style))?;
        draw_intervals(series, context)?;
        // A short line has a marker on every point, a long one on a few.
        let step = points.len().div_ceil(MARKERS).max(1);
        for at in points.iter().skip(step - 1).step_by(step) {
            draw_marker(series, *at, context)?;
        }
    }
    Ok(())
}

/// The intervals of a series along y.
pub(crate) fn draw_intervals(series: &Series, context: &mut Plot<'_, '_>) -> Result<(), Box<dyn std::error::Error>> {
    for Interval { x, low, high } in &series.intervals {
        context.draw_series([PathElement::new([(*x, *low), (*x, *high)], rgb(series).stroke_width(2))])?;
        for end in [*low, *high] {
            context.draw_series([EmptyElement::at((*x, end)) + PathElement::new([(-5, 0), (5, 0)], rgb(series).stroke_width(2))])?;
        }
    }
    Ok(())
}

/// The marker of a series at a point.
pub(crate) fn draw_marker(series: &Series, at: (f64, f64), context: &mut Plot<'_, '_>) -> Result<(), Box<dyn std::error::Error>> {
    let mark = EmptyElement::at(at);
    match marker(series.style) {
        Marker::Circle => context.draw_series([mark + Circle::new((0, 0), 6, rgb(series).filled())]).map(|_| ())?,
        Marker::Square => context.draw_series([mark + Rectangle::new([(-5, -5), (5, 5)], rgb(series).filled())]).map(|_| ())?,
        Marker::TriangleUp => context.draw_series([mark + TriangleMarker::new((0, 0), 8, rgb(series).filled())]).map(|_| ())?,
        Marker::Diamond => context.draw_series([mark + Polygon::new(DIAMOND.to_vec(), rgb(series).filled())]).map(|_| ())?,
        Marker::Cross => context.draw_series([mark + Cross::new((0, 0), 6, rgb(series).stroke_width(3))]).map(|_| ())?,
    }
    Ok(())
}

const DIAMOND: [(i32, i32); 4] = [(0, -8), (7, 0), (0, 8), (-7, 0)];

fn draw_legend(chart: &Chart, area: &Area<'_>) -> Result<(), Box<dyn std::error::Error>> {
    for (line, series) in chart.series.iter().enumerate() {
        let y = 24 + line as i32 * LEGEND_LINE;
        let colour = rgb(series);
        if matches!(chart.form, Form::Bars { .. }) {
            area.draw(&Rectangle::new([(14, y - 9), (38, y + 9)], colour.filled()))?;
            area.draw_text(&series.name, &text(17).pos(Pos::new(HPos::Left, VPos::Center)), (46, y))?;
            continue;
        }
        // A point is told by its marker and its label.
        let name = match &chart.form {
            Form::Points { marks, .. } => format!("{}  {}", marks.get(line).map_or("", |mark| &mark.label), series.name),
            _ => {
                area.draw(&PathElement::new([(4, y), (48, y)], colour.stroke_width(3)))?;
                series.name.clone()
            }
        };
        match marker(series.style) {
            Marker::Circle => area.draw(&Circle::new((26, y), 6, colour.filled()))?,
            Marker::Square => area.draw(&Rectangle::new([(21, y - 5), (31, y + 5)], colour.filled()))?,
            Marker::TriangleUp => area.draw(&TriangleMarker::new((26, y), 8, colour.filled()))?,
            Marker::Diamond => area.draw(&Polygon::new(DIAMOND.map(|(dx, dy)| (26 + dx, y + dy)).to_vec(), colour.filled()))?,
            Marker::Cross => area.draw(&Cross::new((26, y), 6, colour.stroke_width(3)))?,
        }
        let shown: String = if name.chars().count() > 28 { name.chars().take(27).chain(['…']).collect() } else { name };
        area.draw_text(&shown, &text(21).pos(Pos::new(HPos::Left, VPos::Center)), (58, y))?;
    }
    if let Form::Points { .. } = chart.form {
        let y = 24 + chart.series.len() as i32 * LEGEND_LINE;
        let (red, green, blue) = FRONT;
        area.draw(&PathElement::new([(4, y), (48, y)], RGBColor(red, green, blue).stroke_width(2)))?;
        area.draw_text("Pareto front", &text(21).pos(Pos::new(HPos::Left, VPos::Center)), (58, y))?;
    }
    Ok(())
}

/// An axis for plotters: its extent, and ticks at the `wanted` values or at round values.
pub(crate) struct Span {
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Span {
    pub(crate) fn new(axis: &Axis, low: f64, high: f64, wanted: &[f64]) -> Span {
        let scale = axis.scale;
        match scale {
            Scale::Linear => {
                let high = if high > 0.0 { high * 1.03 } else { 1.0 };
                Span { scale, low: 0.0, high, ticks: linear_ticks(high) }
            }
            Scale::Log => {
                let (low, high) = (low * 0.85, high * 1.18);
                let ticks = if wanted.is_empty() { log_ticks(low, high) } else { wanted.to_vec() };
                Span { scale, low, high, ticks }
            }
        }
    }

    /// Position of a value between the two ends, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        }
    }
}

impl Ranged for Span {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + (f64::from(to - from) * self.share(*value)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Span {
    fn format_ext(&self, value: &f64) -> String {
        tick_text(*value)
    }
}

fn linear_ticks(high: f64) -> Vec<f64> {
    let rough = high / 8.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= rough).unwrap_or(rough);
    (0..).map(|tick| f64::from(tick) * step).take_while(|tick| *tick <= high).collect()
}

pub(crate) fn rgb(series: &Series) -> RGBColor {
    let (red, green, blue) = colour(series.style);
    RGBColor(red, green, blue)
}

pub(crate) fn text(size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&BLACK)
}

fn wrap(words: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() && line.len() + word.len() >= width {
            lines.push(word.to_owned());
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arrangement, Mark};

    fn chart(series: Vec<Series>) -> Chart {
        let axis = |label: &str| Axis::new(label, Scale::Log);
        Chart { name: "test", title: "Title".into(), caption: "Caption.".into(), x: axis("x"), y: axis("y"), form: Form::Lines, series }
    }

    fn decode(bytes: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels)
    }

    #[test]
    fn every_series_appears_in_its_colour() {
        let series = (0..7).map(|style| Series {
            name: format!("series {style}"),
            style,
            points: vec![(128.0, 1.0 + style as f64), (4096.0, 2.0 + style as f64)],
            intervals: vec![Interval { x: 4096.0, low: 1.9 + style as f64, high: 2.1 + style as f64 }],
        });
        let (width, height, pixels) = decode(&png(&chart(series.collect())).unwrap());
        assert_eq!((width, height), (WIDTH, HEIGHT));
        for style in 0..7 {
            let (red, green, blue) = colour(style);
            let painted = pixels.as_chunks::<3>().0.iter().filter(|pixel| **pixel == [red, green, blue]).count();
            assert!(painted > 500, "color {style} covers {painted} pixels");
        }
    }

    #[test]
    fn parts_of_a_bar_lie_on_each_other() {
        let part = |style: usize, y: f64| Series { name: format!("part {style}"), style, points: vec![(0.0, y)], intervals: vec![] };
        let mut chart = chart(vec![part(0, 3.0), part(1, 1.0)]);
        chart.y.scale = Scale::Linear;
        for arrangement in [Arrangement::Stacked, Arrangement::Beside] {
            chart.form = Form::Bars { names: vec!["a strategy with a name that is far too long".into()], arrangement };
            let (.., pixels) = decode(&png(&chart).unwrap());
            let places = |style: usize| {
                let (red, green, blue) = colour(style);
                let all = pixels.as_chunks::<3>().0.iter().enumerate();
                all.filter(|(_, pixel)| **pixel == [red, green, blue]).map(|(at, _)| at as u32 % WIDTH).collect::<Vec<_>>()
            };
            let ratio = places(0).len() as f64 / places(1).len() as f64;
            assert!((2.7..3.3).contains(&ratio), "{ratio}: three times as high");
            // Of the second part, the legend is drawn farther to the right.
            let right = |style: usize| places(style).into_iter().filter(|x| *x < WIDTH - LEGEND_WIDTH).max().unwrap();
            assert_eq!(right(0) < right(1), arrangement == Arrangement::Beside);
        }
    }

    #[test]
    fn points_have_their_front_and_both_intervals() {
        let point = |style: usize, x: f64| Series {
            name: format!("point {style}"),
            style,
            points: vec![(x, x)],
            intervals: vec![Interval { x, low: x / 2.0, high: x * 2.0 }],
        };
        let mut chart = chart(vec![point(0, 1.0), point(1, 100.0)]);
        let mark = |along_x| Mark { label: "7".into(), along_x };
        let painted = |chart: &Chart, (red, green, blue): (u8, u8, u8)| {
            let (.., pixels) = decode(&png(chart).unwrap());
            pixels.as_chunks::<3>().0.iter().filter(|pixel| **pixel == [red, green, blue]).count()
        };
        chart.form = Form::Points { marks: vec![mark(None), mark(None)], front: vec![] };
        let (without_front, narrow) = (painted(&chart, FRONT), painted(&chart, colour(1)));
        chart.form = Form::Points { marks: vec![mark(None), mark(Some((50.0, 200.0)))], front: vec![(1.0, 1.0), (100.0, 100.0)] };
        assert!(painted(&chart, FRONT) > without_front + 300);
        assert!(painted(&chart, colour(1)) > narrow + 50);
    }

    #[test]
    fn a_chart_without_points_says_so() {
        let (.., pixels) = decode(&png(&chart(vec![])).unwrap());
        assert!(pixels.iter().any(|value| *value != 255), "an empty chart is not a blank picture");
    }
}
