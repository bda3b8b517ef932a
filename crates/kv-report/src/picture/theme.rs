//! The colors of a picture on light and on dark paper.

use crate::style::colour;

/// The paper that a picture is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// White.
    Light,
    /// Nearly black, as the page's is.
    Dark,
}

type Color = (u8, u8, u8);

impl Theme {
    /// Both.
    pub const ALL: [Theme; 2] = [Theme::Light, Theme::Dark];

    /// What a file's name has after the chart's.
    pub fn suffix(self) -> &'static str {
        match self {
            Theme::Light => "",
            Theme::Dark => "-dark",
        }
    }

    /// The background.
    pub(super) fn paper(self) -> Color {
        match self {
            Theme::Light => (255, 255, 255),
            Theme::Dark => (22, 24, 28),
        }
    }

    /// Text.
    pub(super) fn ink(self) -> Color {
        match self {
            Theme::Light => (0, 0, 0),
            Theme::Dark => (232, 232, 232),
        }
    }

    /// Text of less weight.
    pub(super) fn quiet(self) -> Color {
        match self {
            Theme::Light => (80, 80, 80),
            Theme::Dark => (184, 184, 184),
        }
    }

    /// The axes.
    pub(super) fn axis(self) -> Color {
        match self {
            Theme::Light => (120, 120, 120),
            Theme::Dark => (140, 140, 140),
        }
    }

    /// The lines of the grid.
    pub(super) fn grid(self) -> Color {
        match self {
            Theme::Light => (222, 222, 222),
            Theme::Dark => (58, 61, 68),
        }
    }

    /// A series: black is white on dark paper, as on the page.
    pub(super) fn colour(self, style: usize) -> Color {
        match (self, colour(style)) {
            (Theme::Dark, (0, 0, 0)) => (235, 235, 235),
            (_, color) => color,
        }
    }
}
