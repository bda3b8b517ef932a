//! The legend beside the plot, with every name whole unless it is very long.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Theme;
use super::drawing::{Area, DIAMOND, Drawn, LEGEND_WIDTH, of_series, rgb};
use super::text::{text, wrapped};
use crate::style::{FRONT, Marker, marker};
use crate::{Chart, Form, Series};

const TOP: i32 = 24;
/// From one entry to the next, if its name takes one line.
const ENTRY: i32 = 34;
const LINE: i32 = 23;
/// The middle of lowercase letters lies below that of a line.
const BASE: i32 = 4;
const SIZE: u32 = 20;
/// Where names start.
const LEFT: i32 = 58;
const MOST_LINES: usize = 4;

/// The height that the legend takes.
pub(super) fn height(chart: &Chart) -> u32 {
    let entries: i32 = entries(chart).iter().map(|lines| below(lines)).sum();
    (TOP + entries) as u32
}

pub(super) fn draw<B: DrawingBackend<ErrorType: 'static>>(chart: &Chart, theme: Theme, area: &Area<B>) -> Drawn {
    let mut y = TOP;
    for (index, lines) in entries(chart).iter().enumerate() {
        match chart.series.get(index) {
            Some(series) => draw_sign(chart, theme, series, area, y)?,
            None => area.draw(&PathElement::new([(4, y), (48, y)], rgb(FRONT).stroke_width(2)))?,
        }
        for (line, words) in lines.iter().enumerate() {
            let style = text(SIZE, theme.ink()).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw_text(words, &style, (LEFT, y + BASE + LINE * line as i32))?;
        }
        y += below(lines);
    }
    Ok(())
}

fn below(lines: &[String]) -> i32 {
    ENTRY + LINE * lines.len().saturating_sub(1) as i32
}

/// The lines of every series' name, and of the front's, if there is one.
fn entries(chart: &Chart) -> Vec<Vec<String>> {
    let (marks, front) = match &chart.form {
        Form::Points { marks, .. } => (marks.as_slice(), Some("Pareto front".to_owned())),
        Form::Lines | Form::Bars { .. } => (&[][..], None),
    };
    // A point is told by its marker and its label.
    let name = |(index, series): (usize, &Series)| match marks.get(index) {
        Some(mark) => format!("{}  {}{}", mark.label, series.name, mark.beside),
        None => series.name.clone(),
    };
    chart.series.iter().enumerate().map(name).chain(front).map(|name| lines(&name)).collect()
}

fn lines(name: &str) -> Vec<String> {
    let mut lines = wrapped(name, SIZE, LEGEND_WIDTH - LEFT as u32 - 8);
    if lines.len() > MOST_LINES {
        lines.truncate(MOST_LINES);
        if let Some(last) = lines.last_mut() {
            last.pop();
            last.push('…');
        }
    }
    lines
}

/// What a series is told by: its line and marker, its marker, or its color.
fn draw_sign<B: DrawingBackend<ErrorType: 'static>>(chart: &Chart, theme: Theme, series: &Series, area: &Area<B>, y: i32) -> Drawn {
    let colour = of_series(theme, series);
    match chart.form {
        Form::Bars { .. } => return Ok(area.draw(&Rectangle::new([(14, y - 9), (38, y + 9)], colour.filled()))?),
        Form::Lines => area.draw(&PathElement::new([(4, y), (48, y)], colour.stroke_width(3)))?,
        Form::Points { .. } => (),
    }
    match marker(series.style) {
        Marker::Circle => area.draw(&Circle::new((26, y), 6, colour.filled()))?,
        Marker::Square => area.draw(&Rectangle::new([(21, y - 5), (31, y + 5)], colour.filled()))?,
        Marker::TriangleUp => area.draw(&TriangleMarker::new((26, y), 8, colour.filled()))?,
        Marker::Diamond => area.draw(&Polygon::new(DIAMOND.map(|(dx, dy)| (26 + dx, y + dy)).to_vec(), colour.filled()))?,
        Marker::Cross => area.draw(&Cross::new((26, y), 6, colour.stroke_width(3)))?,
    }
    Ok(())
}
