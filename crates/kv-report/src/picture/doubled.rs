//! A backend that draws everything at twice its size, for screens of high density.

use plotters::style::{FontDesc, TextStyle};
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind};

/// Pixels per unit of length.
pub(super) const FACTOR: u32 = 2;

/// Draws on another backend, of twice the width and height.
pub(super) struct Doubled<B>(pub(super) B);

type Drawn<B> = Result<(), DrawingErrorKind<<B as DrawingBackend>::ErrorType>>;

impl<B: DrawingBackend> DrawingBackend for Doubled<B> {
    type ErrorType = B::ErrorType;

    fn get_size(&self) -> (u32, u32) {
        let (width, height) = self.0.get_size();
        (width / FACTOR, height / FACTOR)
    }

    fn ensure_prepared(&mut self) -> Drawn<B> {
        self.0.ensure_prepared()
    }

    fn present(&mut self) -> Drawn<B> {
        self.0.present()
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Drawn<B> {
        let (x, y) = doubled(point);
        self.0.draw_rect((x, y), (x + 1, y + 1), &color, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn<B> {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(&mut self, (left, top): BackendCoord, (right, bottom): BackendCoord, style: &S, fill: bool) -> Drawn<B> {
        if fill {
            return self.0.draw_rect(doubled((left, top)), doubled((right, bottom)), &Stroke::of(style), true);
        }
        self.draw_path([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], style)
    }

    /// Each piece is a path of its own, and round where it meets the next: the tip of a sharp corner would reach far beyond it.
    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Drawn<B> {
        let style = Stroke::of(style);
        let points: Vec<BackendCoord> = path.into_iter().map(doubled).collect();
        for ends in points.windows(2) {
            self.0.draw_path(ends.iter().copied(), &style)?;
        }
        const WIDE: u32 = 4;
        if style.width >= WIDE {
            for corner in points.iter().skip(1).rev().skip(1) {
                self.0.draw_circle(*corner, style.width / 2, &style, true)?;
            }
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(&mut self, center: BackendCoord, radius: u32, style: &S, fill: bool) -> Drawn<B> {
        self.0.draw_circle(doubled(center), radius * FACTOR, &Stroke::of(style), fill)
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, corners: I, style: &S) -> Drawn<B> {
        self.0.fill_polygon(corners.into_iter().map(doubled).collect::<Vec<_>>(), &Stroke::of(style))
    }

    fn draw_text<T: BackendTextStyle>(&mut self, text: &str, style: &T, at: BackendCoord) -> Drawn<B> {
        let font = FontDesc::new(style.family(), style.size() * f64::from(FACTOR), style.style()).transform(style.transform());
        self.0.draw_text(text, &TextStyle { font, color: style.color(), pos: style.anchor() }, doubled(at))
    }
}

/// A color and the width of a line in pixels.
struct Stroke {
    color: BackendColor,
    width: u32,
}

impl Stroke {
    fn of(style: &impl BackendStyle) -> Stroke {
        Stroke { color: style.color(), width: style.stroke_width() * FACTOR }
    }
}

impl BackendStyle for Stroke {
    fn color(&self) -> BackendColor {
        self.color
    }

    fn stroke_width(&self) -> u32 {
        self.width
    }
}

fn doubled((x, y): BackendCoord) -> BackendCoord {
    let factor = FACTOR as i32;
    (x * factor, y * factor)
}
