//! Pictures inside a page.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::{Chart, ReportError, Theme, svg};

/// A chart as it is drawn on light and on dark paper: the paper, and an address with the picture in it.
///
/// # Errors
/// [`ReportError::Draw`].
pub(crate) fn embedded(chart: &Chart) -> Result<Vec<(&'static str, String)>, ReportError> {
    let picture = |(paper, theme)| Ok((paper, format!("data:image/svg+xml;base64,{}", BASE64_STANDARD.encode(svg(chart, theme)?))));
    [("light", Theme::Light), ("dark", Theme::Dark)].into_iter().map(picture).collect()
}

/// A chart as a picture inside a page, with its words.
pub(crate) struct Picture {
    pub(crate) title: String,
    pub(crate) caption: String,
    /// For light and for dark paper, as addresses with the data in them.
    pub(crate) papers: Vec<(&'static str, String)>,
}

impl Picture {
    /// # Errors
    /// [`ReportError::Draw`].
    pub(crate) fn of(drawn: &Chart) -> Result<Picture, ReportError> {
        Ok(Picture { title: drawn.title.clone(), caption: drawn.caption.clone(), papers: embedded(drawn)? })
    }
}
