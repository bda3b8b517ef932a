//! A comparison as a single page that works offline. Its only script changes the theme.

use askama::Template;

use super::{Comparison, Role, TimeChange, TimeTable, TimeVerdict, Times};
use crate::ReportError;
use crate::html::CSS;
use crate::shown::short;
use crate::theme_switch::THEME_SCRIPT;

#[derive(Template)]
#[template(path = "comparison.html")]
struct Page<'a> {
    css: &'static str,
    script: &'static str,
    title: &'a str,
    comparison: &'a Comparison,
}

/// The page of a comparison under this title.
///
/// # Errors
/// [`ReportError::Page`].
pub fn comparison_html(title: &str, comparison: &Comparison) -> Result<String, ReportError> {
    Ok(Page { css: CSS, script: THEME_SCRIPT, title, comparison }.render()?)
}

impl Comparison {
    /// The changes of times, if they are compared.
    pub fn time_table(&self) -> Option<&TimeTable> {
        match &self.times {
            Times::Compared(table) => Some(table),
            Times::Same | Times::NotCompared(_) => None,
        }
    }

    /// The heading of the ratios.
    pub fn ratio_heading(&self) -> String {
        format!("{} / {}", self.after.name, self.before.name)
    }
}

impl TimeTable {
    /// Whether changes are also shown over those of the baselines.
    pub fn has_baselines(&self) -> bool {
        self.rows.iter().any(|row| row.of_baseline.is_some())
    }
}

impl TimeChange {
    /// The cell's name, and as what it is timed if that is not plain.
    pub fn name(&self) -> String {
        match self.role {
            Role::Baseline => format!("{} (baseline)", self.place),
            Role::Control => format!("{} (the baseline again)", self.place),
            Role::Compared | Role::Alone => self.place.to_string(),
        }
    }

    /// The milliseconds of both sides, rounded.
    pub fn shown_ms(&self) -> (String, String) {
        (short(self.ms.0), short(self.ms.1))
    }

    /// The change over the baseline's, if there is one.
    pub fn shown_of_baseline(&self) -> String {
        self.of_baseline.map_or_else(|| "-".to_owned(), |change| change.to_string())
    }
}

impl TimeVerdict {
    /// The class of its row.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            TimeVerdict::Slower { .. } => "slower",
            TimeVerdict::Faster => "faster",
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::of;
    use super::*;
    use crate::{Value, example};

    #[test]
    fn a_page_tells_what_differs_and_shows_any_label_as_text() {
        let before = example::results();
        let mut after = before.clone();
        after.rows[0].values.insert("heap_live_bytes".into(), Value::from(4100.0));
        after.run.build.commit = Some("feed<b>".into());
        let mut label = before.clone();
        for results in [&mut label, &mut after] {
            results.rows[0].cell.label = "</td><script>alert(1)</script>".into();
        }
        let comparison = Comparison { violations: vec!["bytes>1%: <i>".into()], ..of(&label, &after) };
        let page = comparison_html("A & B", &comparison).unwrap();
        // The script that changes the theme is the only one.
        assert!(page.matches("<script").count() == 1 && page.contains("&#60;script&#62;"), "{page}");
        for part in ["A &#38; B", "4096", "4100", "+0.10 %", "feed&#60;b&#62;", "bytes&#62;1%: &#60;i&#62;", "Both are the same run"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(!page.contains("http:") && !page.contains("https:"), "nothing is asked of the network");
        let scrolled = page.matches("<div class=\"scroll\"").count();
        assert_eq!(
            page.matches("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=").count(),
            scrolled,
            "keys scroll wide tables"
        );
    }
}
