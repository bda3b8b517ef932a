//! The report as a single page that works offline.

use std::collections::BTreeSet;

use askama::Template;

use crate::capacity::{Capacity, capacity};
use crate::chart_groups::{ChartGroup, chart_groups};
use crate::charts::lines;
use crate::column::{COLUMNS, Cell, Column, MACHINE};
use crate::decision::{Decisions, decisions};
use crate::facts::facts;
use crate::failures::{Failure, failures};
use crate::noise::noise;
use crate::page_figure::Figure;
use crate::shown::shown;
use crate::switch::Switch;
use crate::{CellRecord, page_data, pictures, plotly};
use crate::{
    Chart, Comparison, EqualBytes, Fact, Pair, ReportError, Results, Row, RunRecord, RunState, Status, counted, equal_bytes,
    recall_sentences, sentences, workload_sentences,
};

/// How a page shows its charts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edition {
    /// With the charts' library in it: 1.2 MB, interactive.
    Interactive,
    /// With pictures instead, for mail and places where scripts of that size are unwelcome.
    Light,
}

/// The page, with all scripts, figures and data embedded. `pairs` is every instance compared with every other, from which a reader
/// chooses another baseline.
///
/// # Errors
/// [`ReportError::Page`], or [`ReportError::Draw`] if a picture cannot be drawn.
pub fn html(results: &Results, charts: &[Chart], pairs: &[Pair], edition: Edition) -> Result<String, ReportError> {
    let lines = lines(results);
    let drawn = pictures(charts);
    let figure = |(chart, picture)| Figure::new(chart, picture, edition);
    let figures = charts.iter().zip(&drawn.charts).map(figure).collect::<Result<Vec<_>, ReportError>>()?;
    let files = page_data::files(results);
    let baselines = page_data::baselines(results, pairs);
    let baseline = baselines.first().cloned().unwrap_or_default();
    // The script changes no picture.
    let scripted = if edition == Edition::Light { &[] } else { charts };
    let data = page_data::data(results, &lines, scripted, pairs, &baseline, &files);
    let cells = || results.rows.iter().map(|row| &row.cell);
    let workloads = distinct(cells().map(|cell| cell.workload.clone()));
    let columns = columns(results);
    let page = Page {
        css: CSS,
        script: SCRIPT,
        is_light: edition == Edition::Light,
        run: &results.run,
        asked: asked(results),
        counts: counts(results),
        level: results.run.of_level().join("; "),
        part: results.run.of_part(),
        unfinished: unfinished(results),
        failures: failures(results),
        sentences: [sentences(results), recall_sentences(results), workload_sentences(results)].concat(),
        decisions: decisions(results),
        capacity: capacity(results),
        equal_bytes: equal_bytes(results),
        groups: chart_groups(figures, &workloads),
        numbered: drawn.names,
        certainty: noise(results),
        against: results.against.as_ref(),
        strategies: Switch::strategies(&lines),
        peers: Switch::peers(scripted, &lines),
        baselines: &baselines,
        baseline: &baseline,
        workloads,
        lengths: distinct(cells().map(|cell| cell.seq_len)),
        batches: distinct(cells().map(|cell| cell.batch)),
        files: files.iter().map(|(name, _)| *name).chain(["run.json"]).collect(),
        all_columns: &COLUMNS,
        rows: results
            .rows
            .iter()
            .map(|row| TableRow { cell: &row.cell, failed: row.status != Status::Ok, cells: self::cells(row, &columns) })
            .collect(),
        columns,
        facts: facts(&results.run),
        config: serde_json::to_string_pretty(&results.run.config).unwrap_or_default(),
        data: inside_script(&data),
        plotly_script: plotly::SCRIPT,
        plotly_license: plotly::LICENSE,
    };
    Ok(page.render()?)
}

pub(crate) const CSS: &str = include_str!("../templates/report.css");
const SCRIPT: &str = include_str!("../templates/report.js");

/// Each value once, in order.
fn distinct<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.collect::<BTreeSet<T>>().into_iter().collect()
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    css: &'static str,
    script: &'static str,
    is_light: bool,
    run: &'a RunRecord,
    /// What the run was to find out, in a line.
    asked: String,
    counts: String,
    /// What all rows have in common; empty at the level of a model.
    level: String,
    /// That it is a part of a plan, if it is.
    part: Option<String>,
    unfinished: Option<String>,
    failures: Vec<Failure>,
    /// Of each instance, of what the model recalls, and of each workload that is a script of its own.
    sentences: Vec<String>,
    decisions: Option<Decisions>,
    capacity: Option<Capacity>,
    equal_bytes: Option<EqualBytes>,
    groups: Vec<ChartGroup<'a>>,
    /// The names that are numbers in pictures.
    numbered: Vec<String>,
    certainty: Vec<String>,
    /// How the build compares with another one that took turns with it.
    against: Option<&'a Comparison>,
    strategies: Vec<Switch>,
    /// The other engines whose lines can be switched off.
    peers: Vec<Switch>,
    /// The labels that can be the baseline, the run's own first.
    baselines: &'a [String],
    baseline: &'a str,
    workloads: Vec<String>,
    lengths: Vec<usize>,
    batches: Vec<usize>,
    /// The files that can be saved from the page.
    files: Vec<&'static str>,
    all_columns: &'a [Column],
    columns: Vec<&'static Column>,
    rows: Vec<TableRow<'a>>,
    facts: Vec<Fact>,
    config: String,
    /// What the script reads, as JSON that is safe inside a script.
    data: String,
    plotly_script: &'static str,
    plotly_license: &'static str,
}

impl Page<'_> {
    /// Whether it is the run's own baseline.
    fn is_own(&self, label: &str) -> bool {
        label == self.baseline
    }
}

/// What was asked: how many strategies, with which model, at which lengths.
fn asked(results: &Results) -> String {
    let run = &results.run;
    let strategies = distinct(run.cells.iter().map(|cell| &cell.label)).len();
    let lengths =
        distinct(run.cells.iter().filter(|cell| cell.workload == "decode" || cell.workload == "generate").map(|cell| cell.seq_len));
    let at = match lengths.as_slice() {
        [] => String::new(),
        [length] => format!(" at {}", counted(*length, "token")),
        [first, .., last] => format!(" at {first} to {last} tokens"),
    };
    let others = distinct(run.cells.iter().map(|cell| cell.workload.as_str()).filter(|name| *name != "decode" && *name != "generate"));
    let workloads = if others.is_empty() { String::new() } else { format!(", {}", others.join(", ")) };
    let fact = |name: &str| run.environment.facts.iter().find(|fact| fact.name == name).and_then(|fact| fact.value.as_deref());
    let on = fact("processor").or(fact("CPU")).map_or(String::new(), |cpu| format!(", on {cpu}"));
    let model = if run.model.name.is_empty() { "an unnamed model".into() } else { run.model.name.clone() };
    let noun = if strategies == 1 { "strategy" } else { "strategies" };
    format!("Which KV cache? {strategies} {noun} with {model}{at}{workloads}{on}.")
}

struct TableRow<'a> {
    cell: &'a CellRecord,
    failed: bool,
    cells: Vec<Shown>,
}

/// A table cell: the text shown, and the number it sorts by.
struct Shown {
    text: String,
    number: Option<f64>,
}

/// How many cells ended how.
pub(crate) fn counts(results: &Results) -> String {
    let with = |status| results.rows.iter().filter(|row| row.status == status).count();
    let failed = [Status::Failed, Status::Timeout, Status::Oom, Status::Unsupported].into_iter().filter(|status| with(*status) > 0);
    let failed = failed.map(|status| format!(", {} {status}", with(status)));
    format!("{} measured{}", counted(with(Status::Ok), "cell"), failed.collect::<String>())
}

/// Why cells may be missing.
pub(crate) fn unfinished(results: &Results) -> Option<String> {
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

/// The columns of the table. One machine has no column of its own.
fn columns(results: &Results) -> Vec<&'static Column> {
    let several_machines = results.run.machines().len() > 1;
    COLUMNS.iter().filter(|column| column.on_page() && (several_machines || column.name != MACHINE)).collect()
}

/// A row's cells in the order of the columns.
fn cells(row: &Row, columns: &[&'static Column]) -> Vec<Shown> {
    let cell = |column: &Column| match column.cell(row) {
        Cell::Text(text) => Shown { text, number: None },
        Cell::Count(count) => Shown { text: count.to_string(), number: Some(count as f64) },
        Cell::Measured(number, metric) => Shown { text: number.map(|number| shown(metric, number)).unwrap_or_default(), number },
    };
    columns.iter().copied().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::figure;
    use crate::{Axis, Scale, Series, example};

    fn page(series: &str) -> String {
        let mut results = example::results();
        for row in &mut results.rows {
            row.cell.label = series.into();
            row.error = Some(series.into());
            row.phase = Some(series.into());
        }
        html(&results, &[chart(series)], &[], Edition::Interactive).unwrap()
    }

    /// The page's text before the script that draws its figures.
    fn text(results: &Results) -> String {
        let page = html(results, &[], &[], Edition::Interactive).unwrap();
        page.split_once("<script type=\"application/json\"").unwrap().0.to_owned()
    }

    fn chart(series: &str) -> Chart {
        let axis = || Axis::new(series, Scale::Log);
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
            let json = page.split_once("id=\"data\">").unwrap().1.split_once("</script>").unwrap().0;
            let data: serde_json::Value = serde_json::from_str(json).unwrap();
            assert_eq!(data["figures"]["chart-test"]["data"], figure(&chart(label))["data"], "{label}");
        }
    }

    #[test]
    fn what_was_found_of_each_instance_stands_before_the_charts_and_equal_bytes_after_the_table() {
        let results = crate::example_quality::results();
        let page = text(&results);
        let place = |words: &str| page.find(words).unwrap_or_else(|| panic!("{words}: {page}"));
        assert!(place("<li>quantized q8_0 at 2048 tokens takes 0.53 times the baseline") < place("<h2>Side by side</h2>"));
        assert!(place("<h2>Results</h2>") < place("<h2>At equal bytes, 2048 tokens</h2>"));
        assert!(page.contains("best: quantized q8_0"), "{page}");
        let without = text(&example::results());
        assert!(without.contains("its quality was not measured") && !without.contains("At equal bytes"), "{without}");
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
    fn a_part_says_so_and_several_machines_have_a_column() {
        let mut results = example::results();
        let column = ">machine</button>";
        assert!(!text(&results).contains("Part 1 of 2") && !text(&results).contains(column));
        results.run.part = Some(crate::PartRecord { part: 1, of: 2, blocks: vec![], cells: results.run.cells.clone() });
        assert!(text(&results).contains("<strong>Part 1 of 2 of a plan: 4 of its 4 cells."));
        results.run.origins = vec![crate::OriginRecord {
            part: Some(2),
            run_id: String::new(),
            order_seed: 0,
            machine_id: Some("88cd".into()),
            environment: crate::Environment::default(),
            blocks: vec!["generate 3".into()],
        }];
        results.rows[1].machine = "88cd".into();
        let text = text(&results);
        assert!(text.contains(column) && text.contains("<td>88cd</td>") && text.contains("<td>88cd: generate 3</td>"), "{text}");
    }

    #[test]
    fn charts_of_several_workloads_have_sections_and_an_index_and_those_of_one_have_none() {
        let mut results = example::results();
        let page = |results: &Results| html(results, &crate::charts(results, &[]), &[], Edition::Interactive).unwrap();
        let of_several = page(&results);
        for part in [
            "<li data-workload=\"generate\"><a href=\"#charts-generate\">generate</a>",
            "<section id=\"charts-generate\" data-workload=\"generate\">\n<h3>generate</h3>",
            "<h3>all workloads</h3>",
            "<h4>Time per output token at depth</h4>",
        ] {
            assert!(of_several.contains(part), "{part}");
        }
        results.rows.retain(|row| row.cell.workload == "decode");
        let of_one = page(&results);
        assert!(of_one.contains("<h3>Time per output token at depth</h3>") && !of_one.contains("id=\"charts-"));
    }

    #[test]
    fn another_engine_can_be_switched_off_where_charts_can_be_changed() {
        let results = example::results();
        let mut charts = crate::charts(&results, &[]);
        let style = lines(&results).len();
        charts[0].series.push(Series { name: "an <engine>".into(), style, points: vec![(128.0, 1.0)], intervals: vec![] });
        let page = |edition| html(&results, &charts, &[], edition).unwrap();
        let switch = "data-peer=\"an &#60;engine&#62;\"";
        assert!(page(Edition::Interactive).contains(switch));
        assert!(!page(Edition::Light).contains(switch));
        let data = page_data::data(&results, &lines(&results), &charts, &[], "", &[]);
        assert_eq!(data["figures"]["chart-latency"]["peers"], serde_json::json!([1]));
        assert!(data["figures"]["chart-ttft"].get("peers").is_none());
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
