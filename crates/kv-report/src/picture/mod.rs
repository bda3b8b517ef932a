//! A chart as a picture, drawn by plotters with an embedded font, so that no system library is needed.

mod bars;
mod doubled;
mod drawing;
mod left_out;
mod legend;
mod points;
mod span;
mod text;
mod theme;

use std::sync::Once;

use plotters::prelude::{BitMapBackend, IntoDrawingArea, SVGBackend};
use plotters::style::{FontStyle, register_font};

pub use left_out::{Pictures, pictures};
pub use theme::Theme;

use crate::{Chart, ReportError};
use doubled::{Doubled, FACTOR};
use drawing::{WIDTH, draw, height};
use text::FONT;

/// A chart as a PNG of two pixels for each unit of length, for screens of high density.
///
/// # Errors
/// [`ReportError::Draw`], [`ReportError::Png`].
pub fn png(chart: &Chart, theme: Theme) -> Result<Vec<u8>, ReportError> {
    register();
    let (width, height) = (WIDTH * FACTOR, height(chart) * FACTOR);
    let mut pixels = vec![0; (width * height * 3) as usize];
    let root = Doubled(BitMapBackend::with_buffer(&mut pixels, (width, height))).into_drawing_area();
    draw(chart, theme, &root).map_err(|error| ReportError::Draw { chart: chart.name.into(), reason: error.to_string() })?;
    drop(root);

    let mut bytes = vec![];
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(bytes)
}

/// A chart as an SVG. Its text is in the viewer's font, so it is laid out a little otherwise than in the PNG.
///
/// # Errors
/// [`ReportError::Draw`].
pub fn svg(chart: &Chart, theme: Theme) -> Result<Vec<u8>, ReportError> {
    register();
    let mut text = String::new();
    let root = SVGBackend::with_string(&mut text, (WIDTH, height(chart))).into_drawing_area();
    draw(chart, theme, &root).map_err(|error| ReportError::Draw { chart: chart.name.into(), reason: error.to_string() })?;
    drop(root);
    Ok(text.into_bytes())
}

fn register() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let registered = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
        assert!(registered.is_ok(), "the embedded font is a font");
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::Interval;
    use crate::style::FRONT;
    use crate::{Arrangement, Axis, Form, Mark, Scale, Series};
    use drawing::LEGEND_WIDTH;

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

    /// Where pixels of a color are, in units of length.
    fn places(bytes: &[u8], (red, green, blue): (u8, u8, u8)) -> Vec<(u32, u32)> {
        let (width, _, pixels) = decode(bytes);
        let all = pixels.as_chunks::<3>().0.iter().enumerate();
        let of_color = all.filter(|(_, pixel)| **pixel == [red, green, blue]);
        of_color.map(|(at, _)| (at as u32 % width / 2, at as u32 / width / 2)).collect()
    }

    fn line(style: usize, points: &[(f64, f64)]) -> Series {
        Series { name: format!("series {style}"), style, points: points.to_vec(), intervals: vec![] }
    }

    #[test]
    fn every_series_appears_in_its_colour_on_light_and_on_dark_paper() {
        let series = (0..7).map(|style| Series {
            intervals: vec![Interval { x: 4096.0, low: 1.9 + style as f64, high: 2.1 + style as f64 }],
            ..line(style, &[(128.0, 1.0 + style as f64), (4096.0, 2.0 + style as f64)])
        });
        let chart = chart(series.collect());
        for theme in [Theme::Light, Theme::Dark] {
            let picture = png(&chart, theme).unwrap();
            let (width, height, pixels) = decode(&picture);
            assert_eq!((width, height), (2 * WIDTH, 2 * drawing::height(&chart)));
            let (red, green, blue) = theme.paper();
            assert_eq!(pixels[..3], [red, green, blue]);
            let vector = String::from_utf8(svg(&chart, theme).unwrap()).unwrap();
            for style in 0..7 {
                let (red, green, blue) = theme.colour(style);
                let painted = places(&picture, (red, green, blue)).len();
                assert!(painted > 2000, "color {style} covers {painted} pixels");
                assert!(vector.contains(&format!("#{red:02X}{green:02X}{blue:02X}")), "{vector}");
            }
            assert!(vector.starts_with("<svg ") && vector.contains("series 6"), "{vector}");
        }
    }

    #[test]
    fn a_dense_noisy_line_stays_inside_the_plot() {
        let x = [16.0, 1000.0, 1003.0, 1006.0, 1009.0, 16000.0];
        let y = [1.0, 1.0, 3.0, 1.0, 3.0, 1.0];
        let points: Vec<(f64, f64)> = x.into_iter().zip(y).collect();
        let picture = png(&chart(vec![line(0, &points)]), Theme::Light).unwrap();
        let in_legend = |x: u32| x >= WIDTH - LEGEND_WIDTH;
        let inside = |(x, y): (u32, u32)| in_legend(x) || (x > 110 && (95..690).contains(&y));
        let outside: Vec<_> = places(&picture, Theme::Light.colour(0)).into_iter().filter(|place| !inside(*place)).collect();
        assert_eq!(outside, []);
    }

    #[test]
    fn a_long_legend_makes_the_picture_higher_and_shows_every_name_whole() {
        let names = |count: usize| {
            (0..count).map(|index| Series {
                name: format!("quantized with keys in q8_0 and values in q4_0, number {index}"),
                ..line(index, &[(1.0, 1.0), (2.0, 2.0)])
            })
        };
        let (few, many) = (chart(names(3).collect()), chart(names(24).collect()));
        assert!(drawing::height(&many) > drawing::height(&few));
        let last = |chart: &Chart| {
            let text = String::from_utf8(svg(chart, Theme::Light).unwrap()).unwrap();
            text.split("<text ")
                .skip(1)
                .filter_map(|element| {
                    Some((
                        element.split_once("y=\"")?.1.split_once('"')?.0.parse::<i64>().ok()?,
                        element.split_once(">\n")?.1.split_once('<')?.0.trim().to_owned(),
                    ))
                })
                .collect::<Vec<_>>()
        };
        let texts = last(&many);
        let words: String = texts.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(" ");
        for index in 0..24 {
            assert!(words.contains(&format!("number {index}")), "{words}");
        }
        assert!(texts.iter().all(|(y, _)| *y < i64::from(drawing::height(&many))), "{texts:?}");
    }

    #[test]
    fn parts_of_a_bar_lie_on_each_other() {
        let mut chart = chart(vec![line(0, &[(0.0, 3.0)]), line(1, &[(0.0, 1.0)])]);
        chart.y.scale = Scale::Linear;
        for arrangement in [Arrangement::Stacked, Arrangement::Beside] {
            chart.form = Form::Bars { names: vec!["a strategy with a name that is far too long".into()], arrangement };
            let picture = png(&chart, Theme::Light).unwrap();
            let in_plot = |style: usize| {
                let all = places(&picture, Theme::Light.colour(style));
                all.into_iter().filter(|(x, _)| *x < WIDTH - LEGEND_WIDTH).collect::<Vec<_>>()
            };
            let ratio = in_plot(0).len() as f64 / in_plot(1).len() as f64;
            assert!((2.7..3.3).contains(&ratio), "{ratio}: three times as high");
            let right = |style: usize| in_plot(style).into_iter().map(|(x, _)| x).max().unwrap();
            assert_eq!(right(0) < right(1), arrangement == Arrangement::Beside);
        }
    }

    #[test]
    fn bars_have_their_intervals_which_fit_into_the_plot() {
        let bar = |intervals: Vec<Interval>| Series { intervals, ..line(0, &[(0.0, 1.0)]) };
        let mut chart = chart(vec![bar(vec![])]);
        chart.y.scale = Scale::Linear;
        for arrangement in [Arrangement::Stacked, Arrangement::Beside] {
            chart.form = Form::Bars { names: vec!["a".into()], arrangement };
            let height = |chart: &Chart| {
                let places = places(&png(chart, Theme::Light).unwrap(), Theme::Light.colour(0));
                let rows = || places.iter().filter(|(x, _)| *x < WIDTH - LEGEND_WIDTH).map(|(_, y)| *y);
                rows().max().unwrap() - rows().min().unwrap()
            };
            let ink = |chart: &Chart| places(&png(chart, Theme::Light).unwrap(), Theme::Light.ink()).len();
            chart.series = vec![bar(vec![])];
            let (without, plain) = (height(&chart), ink(&chart));
            chart.series = vec![bar(vec![Interval { x: 0.0, low: 0.5, high: 2.0 }])];
            let ratio = f64::from(without) / f64::from(height(&chart));
            assert!((1.9..2.1).contains(&ratio), "{ratio}: the axis reaches to the upper end, twice as high");
            assert!(ink(&chart) > plain + 400, "{} and {plain} pixels", ink(&chart));
        }
    }

    #[test]
    fn points_have_their_front_and_both_intervals() {
        let point =
            |style: usize, x: f64| Series { intervals: vec![Interval { x, low: x / 2.0, high: x * 2.0 }], ..line(style, &[(x, x)]) };
        let mut chart = chart(vec![point(0, 1.0), point(1, 100.0)]);
        let mark = |along_x| Mark { label: "7".into(), beside: String::new(), along_x };
        let painted = |chart: &Chart, color| places(&png(chart, Theme::Light).unwrap(), color).len();
        chart.form = Form::Points { marks: vec![mark(None), mark(None)], front: vec![] };
        let (without_front, narrow) = (painted(&chart, FRONT), painted(&chart, Theme::Light.colour(1)));
        chart.form = Form::Points { marks: vec![mark(None), mark(Some((50.0, 200.0)))], front: vec![(1.0, 1.0), (100.0, 100.0)] };
        assert!(painted(&chart, FRONT) > without_front + 1000);
        assert!(painted(&chart, Theme::Light.colour(1)) > narrow + 150);
    }

    #[test]
    fn a_chart_without_points_says_so() {
        let text = String::from_utf8(svg(&chart(vec![]), Theme::Light).unwrap()).unwrap();
        assert!(text.contains("no measured points"), "{text}");
    }
}
