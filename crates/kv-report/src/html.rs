//! The report as a single page that works offline.

use askama::Template;

use crate::column::{COLUMNS, Cell, Column};
use crate::facts::facts;
use crate::figure::figure;
use crate::noise::noise;
use crate::plotly;
use crate::shown::shown;
use crate::{
    Chart, Comparison, EqualBytes, Fact, ReportError, Results, Row, RunRecord, RunState, Status, equal_bytes, sentences, workload_sentences,
};

/// The page, with all scripts and figures embedded.
///
/// # Errors
/// [`ReportError::Page`].
pub fn html(results: &Results, charts: &[Chart]) -> Result<String, ReportError> {
    let page = Page {
        run: &results.run,
        counts: counts(results),
        level: results.run.of_level().join("; "),
        unfinished: unfinished(results),
        failures: results.rows.iter().filter(|row| row.status != Status::Ok).collect(),
        sentences: if is_judged(results) { sentences(results) } else { vec![] }.into_iter().chain(workload_sentences(results)).collect(),
        equal_bytes: equal_bytes(results),
        figures: charts.iter().map(|chart| Figure { chart, json: inside_script(&figure(chart)) }).collect(),
        certainty: noise(results),
        against: results.against.as_ref(),
        all_columns: &COLUMNS,
        columns: COLUMNS.iter().filter(|column| column.on_page()).collect(),
        rows: results.rows.iter().map(|row| TableRow { failed: row.status != Status::Ok, cells: cells(row) }).collect(),
        facts: facts(&results.run),
        config: serde_json::to_string_pretty(&results.run.config).unwrap_or_default(),
        plotly_script: plotly::SCRIPT,
        plotly_license: plotly::LICENSE,
    };
    Ok(page.render()?)
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    run: &'a RunRecord,
    counts: String,
    /// What all rows have in common; empty at the level of a model.
    level: String,
    unfinished: Option<String>,
    failures: Vec<&'a Row>,
    /// Of each instance, if quality was measured.
    sentences: Vec<String>,
    equal_bytes: Option<EqualBytes>,
    figures: Vec<Figure<'a>>,
    certainty: Vec<String>,
    /// How the build compares with another one that took turns with it.
    against: Option<&'a Comparison>,
    all_columns: &'a [Column],
    columns: Vec<&'static Column>,
    rows: Vec<TableRow>,
    facts: Vec<Fact>,
    config: String,
    plotly_script: &'static str,
    plotly_license: &'static str,
}

struct Figure<'a> {
    chart: &'a Chart,
    /// The figure as JSON for the plotting library, safe inside a script.
    json: String,
}

struct TableRow {
    failed: bool,
    cells: Vec<Shown>,
}

/// A table cell: the text shown, and the number it sorts by.
struct Shown {
    text: String,
    number: Option<f64>,
}

/// Whether any row says what its cache does to attention or to a model's output.
fn is_judged(results: &Results) -> bool {
    results.rows.iter().any(|row| ["kld_mean", "attn_rel_l2"].iter().any(|id| row.values.contains_key(*id)))
}

/// How many cells ended how.
fn counts(results: &Results) -> String {
    let with = |status| results.rows.iter().filter(|row| row.status == status).count();
    let failed = [Status::Failed, Status::Timeout, Status::Oom, Status::Unsupported].into_iter().filter(|status| with(*status) > 0);
    let failed = failed.map(|status| format!(", {} {status}", with(status)));
    format!("{} cells measured{}", with(Status::Ok), failed.collect::<String>())
}

/// Why cells may be missing.
fn unfinished(results: &Results) -> Option<String> {
    let state = match results.run.state {
        RunState::Finished => return None,
        RunState::Running => "still running, or killed",
        RunState::Interrupted => "interrupted before the end",
    };
    // Of an old run that was interrupted, only the cells with rows are known.
    if results.complete() {
        return Some(state.into());
    }
    Some(format!("{state}: {} of {} planned cells have rows", results.planned_with_row(), results.run.cells.len()))
}

/// JSON that can stand in a script element. Text such as `</script>` or `<!--` would change where the element ends, and
/// in JSON a `<` stands only in strings, where it can be escaped.
fn inside_script(json: &serde_json::Value) -> String {
    json.to_string().replace('<', "\\u003c")
}

/// A row's cells in the order of [`COLUMNS`].
fn cells(row: &Row) -> Vec<Shown> {
    let cell = |column: &Column| match column.cell(row) {
        Cell::Text(text) => Shown { text, number: None },
        Cell::Count(count) => Shown { text: count.to_string(), number: Some(count as f64) },
        Cell::Measured(number, metric) => Shown { text: number.map(|number| shown(metric, number)).unwrap_or_default(), number },
    };
    COLUMNS.iter().filter(|column| column.on_page()).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Axis, Scale, Series, example};

    fn page(series: &str) -> String {
        let mut results = example::results();
        for row in &mut results.rows {
            row.cell.label = series.into();
            row.error = Some(series.into());
            row.phase = Some(series.into());
        }
        html(&results, &[chart(series)]).unwrap()
    }

    /// The page's text before the script that draws its figures.
    fn text(results: &Results) -> String {
        let page = html(results, &[]).unwrap();
        page.split_once("<!-- The license").unwrap().0.to_owned()
    }

    fn chart(series: &str) -> Chart {
        let axis = || Axis { label: series.into(), scale: Scale::Log };
        let series = vec![Series { name: series.into(), style: 0, points: vec![(128.0, 1.0)], intervals: vec![] }];
        Chart { name: "test", title: "Title".into(), caption: "Caption.".into(), x: axis(), y: axis(), form: crate::Form::Lines, series }
    }

    #[test]
    fn a_page_embeds_the_script_once_with_its_license_and_uploads_nothing() {
        let page = page("a");
        assert_eq!(page.matches(plotly::SCRIPT).count(), 1);
        assert_eq!(page.matches(plotly::LICENSE).count(), 1);
        assert!(page.contains("showSendToCloud: false"));
    }

    #[test]
    fn no_label_ends_the_script() {
        let count = |page: &str| ["<script", "</script", "<!--"].map(|tag| page.matches(tag).count());
        for label in ["</script><script>alert(1)</script>", "<!--<script>", "a \"quoted\" \\ name", "×2 \u{2028} & <b>"] {
            let page = page(label);
            assert_eq!(count(&page), count(&self::page("a")), "{label}");
            let json = page.lines().find_map(|line| line.strip_prefix("  \"chart-test\": ")).unwrap().trim_end_matches(',');
            assert_eq!(serde_json::from_str::<serde_json::Value>(json).unwrap(), figure(&chart(label)), "{label}");
        }
    }

    #[test]
    fn what_was_found_of_each_instance_stands_before_the_charts_and_equal_bytes_after_the_table() {
        let results = crate::example_quality::results();
        let page = text(&results);
        let place = |words: &str| page.find(words).unwrap_or_else(|| panic!("{words}: {page}"));
        assert!(place("<li>quantized q8_0 at 2048 tokens takes 0.53 times the baseline") < place("The charts need JavaScript"));
        assert!(place("<h2>Results</h2>") < place("<h2>At equal bytes, 2048 tokens</h2>"));
        assert!(page.contains("best: quantized q8_0"), "{page}");
        let without = text(&example::results());
        assert!(!without.contains("<h2>What each strategy costs") && !without.contains("At equal bytes"));
    }

    #[test]
    fn a_failure_is_told_in_words_with_its_phase_and_its_reason() {
        let text = text(&example::results());
        assert!(text.contains("2 cells measured, 1 timed out, 1 out of memory"), "{text}");
        assert!(
            text.contains("<strong>slow</strong>, decode, 128 tokens, batch 1: timed out in prefill: no answer for 60 s</li>"),
            "{text}"
        );
        assert!(text.contains("<td>out of memory</td>"), "{text}");
        let mut measured = example::results();
        measured.rows.truncate(2);
        assert!(!self::text(&measured).contains("Cells that failed"));
    }

    #[test]
    fn the_page_says_how_far_the_run_came() {
        let mut results = example::results();
        assert!(!text(&results).contains("interrupted"));
        assert!(text(&results).contains("finished 2026-11-26 03:05:00 +00:00"));
        results.run.state = RunState::Interrupted;
        assert!(text(&results).contains("<strong>interrupted before the end</strong>"));
        results.rows.truncate(3);
        assert!(text(&results).contains("<strong>interrupted before the end: 3 of 4 planned cells have rows</strong>"));
        results.run.state = RunState::Running;
        assert!(text(&results).contains("<strong>still running, or killed: 3 of 4 planned cells have rows</strong>"));
    }

    #[test]
    fn the_page_explains_every_column_and_shows_the_facts() {
        let text = text(&example::results());
        for column in &COLUMNS {
            assert!(text.contains(&format!("<dt><code>{}</code></dt>", column.name)), "{}", column.name);
        }
        assert!(text.contains("(lower is better; differs from machine to machine)"), "{text}");
        for fact in ["313960b (with uncommitted changes)", "<td>5e1f</td>", "4 layers, 8 query heads", "unknown: the system does not tell"]
        {
            assert!(text.contains(fact), "{fact}: {text}");
        }
    }
}
