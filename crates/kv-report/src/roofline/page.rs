//! The measurements as a single page that works offline. Its only script changes the theme.

use askama::Template;

use super::sentences::sentences;
use super::{RooflineReport, RooflineRow, roofline_charts};
use crate::embedded::Picture;
use crate::facts::{fact, of_build};
use crate::html::CSS;
use crate::theme_switch::THEME_SCRIPT;
use crate::{Fact, ReportError, counted};

/// The page, with the pictures for light and for dark paper in it.
///
/// # Errors
/// [`ReportError::Page`], or [`ReportError::Draw`] if a picture cannot be drawn.
pub fn roofline_html(report: &RooflineReport) -> Result<String, ReportError> {
    let roofline = &report.roofline;
    let models = roofline.models();
    let page = Page {
        css: CSS,
        script: THEME_SCRIPT,
        report,
        asked: asked(report, &models),
        read: format!(
            "The machine reads {} GB/s, in pages of {}. {}, in turns.",
            roofline.read_bandwidth.shown(1e-9, 1),
            roofline.read_bandwidth_pages,
            roofline.effort()
        ),
        answers: models.iter().map(|model| (*model, sentences(roofline, model))).collect(),
        pictures: roofline_charts(roofline).iter().map(|(_, chart)| Picture::of(chart)).collect::<Result<_, _>>()?,
        rows: roofline.rows.iter().map(cells).collect(),
        facts: facts(report),
    };
    Ok(page.render()?)
}

#[derive(Template)]
#[template(path = "roofline.html")]
struct Page<'a> {
    css: &'static str,
    script: &'static str,
    report: &'a RooflineReport,
    asked: String,
    /// What the machine reads, and how that was measured.
    read: String,
    /// What each model's measurements show.
    answers: Vec<(&'a str, Vec<String>)>,
    pictures: Vec<Picture>,
    rows: Vec<[String; 8]>,
    facts: Vec<Fact>,
}

/// What was to be found out, in a line.
fn asked(report: &RooflineReport, models: &[&str]) -> String {
    let roofline = &report.roofline;
    format!(
        "How much of this machine's read bandwidth does decode attention reach, in each KV format and layout? One query per layer over {}, in the shape of {}, with {} on {}.",
        counted(roofline.tokens, "token"),
        models.join(" and "),
        counted(roofline.threads, "thread"),
        roofline.kernel_path
    )
}

/// A row of the table.
fn cells(row: &RooflineRow) -> [String; 8] {
    let [over_f32, over_contiguous] = row.shown_times();
    [
        row.model.clone(),
        row.format.clone(),
        row.layout.clone(),
        row.layer_seconds.shown(1e6, 1),
        row.bytes_per_second.shown(1e-9, 1),
        row.of_bandwidth.shown(1.0, 2),
        over_f32,
        over_contiguous,
    ]
}

/// Where the measurements were made, and with which program.
fn facts(report: &RooflineReport) -> Vec<Fact> {
    let roofline = &report.roofline;
    let mut facts = vec![
        fact("started", Some(report.started.clone())),
        fact("machine (hashed)", report.machine_id.clone()),
        fact("seed of the order of turns", Some(roofline.seed.to_string())),
    ];
    facts.extend(of_build(&report.build));
    facts.extend(report.environment.facts.iter().cloned());
    facts
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn the_page_has_the_answer_before_the_picture_the_table_and_the_facts() {
        let page = roofline_html(&example::report()).unwrap();
        let place = |words: &str| page.find(words).unwrap_or_else(|| panic!("{words}: {page}"));
        let parts = [
            "<p class=\"lead\">How much of this machine's",
            "<li>f32 (contiguous) reaches the highest",
            "<img class=\"picture light\" src=\"data:image/svg+xml;base64,",
            "<img class=\"picture dark\" src=\"data:image/svg+xml;base64,",
            "<td>paged 16</td><td>0.1 [0.1, 0.1]</td>",
            "<code>runner roofline tiny</code>",
            "<td>commit</td><td>313960b (with uncommitted changes)</td>",
            "<span class=\"unknown\">unknown: the system does not tell</span>",
        ];
        let places = parts.map(|words| place(&words.replace('\'', "&#39;")));
        assert!(places.is_sorted(), "{places:?}");
        assert!(
            page.matches("<script").count() == 1 && !page.contains("http:") && !page.contains("https:"),
            "the theme's script is the only one, and nothing is asked of the network"
        );
        assert_eq!(page.matches("<img").count(), page.matches("alt=\"Share of the read bandwidth").count());
    }

    #[test]
    fn names_are_text_and_each_of_several_models_has_its_own_answer() {
        let mut report = example::report();
        report.roofline = example::of_two_models();
        report.warnings = vec!["<i>busy</i>".into()];
        for row in &mut report.roofline.rows {
            row.model = row.model.replace("large", "</td><script>alert(1)</script>");
        }
        let page = roofline_html(&report).unwrap();
        assert!(page.matches("<script").count() == 1 && !page.contains("<i>"), "{page}");
        assert!(page.contains("<h3>tiny</h3>") && page.contains("<h3>&#60;/td&#62;&#60;script&#62;"), "{page}");
        assert_eq!(page.matches("<figure>").count(), 2);
        let one = roofline_html(&example::report()).unwrap();
        assert!(!one.contains("<h3>tiny</h3>"), "the title names the only model");
    }
}
