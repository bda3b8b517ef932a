//! The script that changes a page between dark and light, for pages that have no other.

/// It needs a button with the id `theme`.
pub(crate) const THEME_SCRIPT: &str = include_str!("../templates/theme.js");
